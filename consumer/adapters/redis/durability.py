"""Whether replicas have what was written, asked before each checkpoint."""

import re
from collections.abc import Sequence
from itertools import count
from typing import Any

import redis

from consumer.adapters.redis.cluster import Servers, Words
from consumer.adapters.redis.connection import translated
from consumer.errors import Replaced, Unavailable

PREFIX = "fraudstream:"
_LIFETIME_S = "60"
_WHO: Sequence[Words] = (("INFO", "replication"),)
_REPLICATION_ID = re.compile(rb"master_replid:(\w+)")


class RedisDurability:
    """
    Waits until *replicas* of every primary hold all that was written so far.

    WAIT speaks of the writes of its own connection only, and the one that wrote may
    have been replaced since. So a tick is written first on the connection that waits:
    a replica that has it has everything the primary took before.
    """

    def __init__(self, servers: Sequence[Servers], *, replicas: int, timeout_s: float) -> None:
        """*timeout_s* is the longest wait for the replicas; below the client's own."""
        self._servers = tuple(servers)
        self._replicas = str(replicas)
        self._timeout_ms = str(max(1, round(timeout_s * 1000)))
        self._known: frozenset[bytes] = frozenset()

    def begin(self) -> None:
        """Note which primaries there are, before the first write. Raises Unavailable."""
        with translated():
            self._known = frozenset(_identity(reply[-1]) for reply in self._ask())

    def inspect(self, connection: Any) -> None:
        """
        Look where a new connection leads, before anything is sent on it.

        Raises Replaced where it is another server than before and one of those that took
        our writes is gone: what comes next must not be decided on less than they knew.
        Redis errors are raised as they are. One more primary of a cluster is welcome.
        """
        if not self._known:
            return
        connection.send_command("INFO", "replication")
        if _identity(connection.read_response()) in self._known:
            return
        replies = [each for servers in self._servers for each in servers.on_primaries(_WHO)]
        found = frozenset(_identity(reply) for (reply,) in replies)
        if not self._known <= found:
            message = "a primary was replaced: what was written since the checkpoint is done again"
            raise Replaced("redis", message)
        self._known = found

    def confirm(self) -> bool:
        """
        Wait for the replicas; see the port. One round trip a server address.

        A primary is known by the id of its replication history, which a failover and a
        restart change and a move of slots does not. Raises Unavailable while fewer
        replicas than wanted have everything.
        """
        with translated():
            answers = self._ask()
        before, self._known = self._known, frozenset(_identity(reply[-1]) for reply in answers)
        if not before <= self._known:
            return False
        acknowledged = min(int(reply[1]) for reply in answers)
        if acknowledged < int(self._replicas):
            message = f"{acknowledged} of {self._replicas} replicas have what was written"
            raise Unavailable("redis", message)
        return True

    def _ask(self) -> list[list[Any]]:
        """Tick, WAIT and INFO at every primary; return their replies."""
        answers: list[list[Any]] = []
        for servers in self._servers:
            answers += servers.on_each(
                {primary: self._words(key) for primary, key in _ticks(servers).items()}
            )
        return answers

    def _words(self, key: str) -> Sequence[Words]:
        return (
            ("SET", key, b"", "EX", _LIFETIME_S),
            ("WAIT", self._replicas, self._timeout_ms),
            ("INFO", "replication"),
        )


def _ticks(servers: Servers) -> dict[redis.Redis, str]:
    """Return for every primary a key that lies there."""
    found: dict[redis.Redis, str] = {}
    for number in count():
        key = f"{PREFIX}{number}"
        found.setdefault(servers.owner(key), key)
        if len(found) == len(servers.primaries):
            break
    return found


def _identity(information: bytes) -> bytes:
    found = _REPLICATION_ID.search(information)
    if found is None:
        raise Unavailable("redis", "INFO replication names no master_replid")
    return found[1]
