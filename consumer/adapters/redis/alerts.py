"""Reads the alerts stream; writes nothing."""

from typing import Any

import redis

from consumer.adapters.redis.cluster import Call, Servers
from consumer.adapters.redis.connection import translated
from consumer.adapters.redis.documents import ALERTS
from consumer.alert_log import START, AlertPage, Entry, place_of

_NO_STREAM = "no such key"


class RedisAlerts:
    """The alerts of a server, or of the cluster whose primary holds the stream."""

    def __init__(self, client: redis.Redis) -> None:
        self._servers = Servers(client)

    def close(self) -> None:
        """Close the connections to further primaries of a cluster."""
        self._servers.close()

    def after(self, cursor: str, limit: int) -> AlertPage:
        """
        At most *limit* entries after *cursor*, in one round trip. Raises Unavailable.

        Asked from the cursor's own entry on: while that is kept, nothing after it was cut.
        """
        found, facts = self._ask(("XRANGE", ALERTS, cursor, "+", "COUNT", limit + 1))
        entries = [_read(each) for each in found]
        kept = bool(entries) and entries[0].cursor == cursor
        entries = [each for each in entries if each.cursor != cursor][:limit]
        last = facts.get(b"last-generated-id", START.encode()).decode()
        if not entries and place_of(cursor) > place_of(last):
            # The stream begins anew: it was deleted, or its last entries fell to a failover.
            return AlertPage((), last, lost=True)
        lost = not kept and _was_cut(facts, cursor)
        return AlertPage(tuple(entries), entries[-1].cursor if entries else cursor, lost=lost)

    def newest(self, limit: int) -> AlertPage:
        """Return the last *limit* entries, oldest of them first. Raises Unavailable."""
        found, facts = self._ask(("XREVRANGE", ALERTS, "+", "-", "COUNT", limit))
        entries = tuple(_read(each) for each in reversed(found))
        last = facts.get(b"last-generated-id", START.encode()).decode()
        return AlertPage(entries, entries[-1].cursor if entries else last)

    def _ask(self, words: tuple[str | bytes | int, ...]) -> tuple[list[Any], dict[bytes, Any]]:
        """Return what *words* find, and facts of the stream: none where there is no stream."""
        with translated():
            entries, facts = self._servers.call(
                [Call(ALERTS, words), Call(ALERTS, ("XINFO", "STREAM", ALERTS))]
            )
            if isinstance(facts, redis.ResponseError) and _NO_STREAM in str(facts):
                facts = {}
            for reply in (entries, facts):
                if isinstance(reply, Exception):
                    raise reply
        return entries, facts


def _was_cut(facts: dict[bytes, Any], cursor: str) -> bool:
    """Whether entries after *cursor* may have gone to the cap."""
    if not facts or facts[b"entries-added"] == facts[b"length"]:
        return False
    first = facts[b"first-entry"]
    return first is None or place_of(first[0].decode()) > place_of(cursor)


def _read(entry: Any) -> Entry:
    identity, fields = entry
    return Entry(identity.decode(), dict(zip(fields[::2], fields[1::2], strict=True))[b"alert"])
