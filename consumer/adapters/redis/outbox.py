"""Whose rows may be missing in Firehose: a stream of ids, an entry a chunk, deleted once done."""

from collections.abc import Sequence

import orjson
import redis

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import translated
from consumer.model import TransactionId
from consumer.ports import Announced

KEY = "outbox:rest"


class RedisOutbox:
    """An Outbox on a Redis server or a cluster; times are those of the server."""

    def __init__(self, client: redis.Redis) -> None:
        self._servers = Servers(client)

    def announce(self, transaction_ids: Sequence[TransactionId]) -> Announced:
        """Remember that these are about to be decided. Raises Unavailable."""
        ids = orjson.dumps(list(transaction_ids))
        with translated():
            entry: bytes = self._servers.command(KEY, "XADD", KEY, "*", "ids", ids)
        return Announced(entry.decode(), tuple(transaction_ids))

    def settle(self, entries: Sequence[str]) -> None:
        """Forget *entries*. Raises Unavailable."""
        if entries:
            with translated():
                self._servers.command(KEY, "XDEL", KEY, *entries)

    def find_older(self, age_s: float, limit: int) -> list[Announced]:
        """The oldest entries, announced longer than *age_s* ago. Raises Unavailable."""
        with translated():
            seconds, micros = self._servers.command(KEY, "TIME")
            until_ms = int(seconds) * 1_000 + int(micros) // 1_000 - round(age_s * 1_000)
            last = str(max(0, until_ms))
            found = self._servers.command(KEY, "XRANGE", KEY, "-", last, "COUNT", limit)
        return [
            Announced(entry.decode(), tuple(map(TransactionId, orjson.loads(_ids(fields)))))
            for entry, fields in found
        ]

    def close(self) -> None:
        """Close the connections to further primaries of a cluster."""
        self._servers.close()


def _ids(fields: "Sequence[bytes] | dict[bytes, bytes]") -> bytes:
    """The ids of an entry, whose fields come as a map or as a flat list."""
    return fields[b"ids"] if isinstance(fields, dict) else fields[1]
