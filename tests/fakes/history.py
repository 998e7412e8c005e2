"""A history in memory."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import orjson

from consumer.replay.history import Outline, Sample, Slice, Survey


@dataclass(frozen=True, slots=True)
class _Released:
    time_ms: int
    transaction: bool
    data: bytes
    row: int


class FakeHistory:
    """Events as bytes with their release times; delivers *size* of them a slice, in order."""

    def __init__(self, events: Iterable[tuple[int, bytes]], size: int = 3) -> None:
        found = [
            _Released(time_ms, orjson.loads(data)["type"] == "transaction", data, row)
            for row, (time_ms, data) in enumerate(events, 1)
        ]
        # A label comes before the transactions of its millisecond.
        self._events = sorted(found, key=lambda each: (each.time_ms, each.transaction, each.row))
        self._size = size
        digest = hashlib.sha256()
        for each in self._events:
            digest.update(b"%d %s\n" % (each.time_ms, each.data))
        self.fingerprint = digest.hexdigest()

    def outline(self) -> Outline:
        samples = [Sample(f"memory, row {e.row}", e.data.decode(), [e.data]) for e in self._events]
        size_bytes = sum(len(each.data) for each in self._events)
        return Outline(["memory"], ["events"], size_bytes, len(self._events), samples[:3])

    def survey(self, on_rows: Callable[[int], None] | None = None) -> Survey:
        total = len(self._events)
        if on_rows is not None:
            on_rows(total)
        transactions = sum(each.transaction for each in self._events)
        times = [each.time_ms for each in self._events]
        first_ms, last_ms = (times[0], times[-1]) if times else (None, None)
        return Survey(total, 0, total, transactions, total - transactions, first_ms, last_ms)

    def read(self, first: int = 0) -> Iterator[Slice]:
        for start in range(first, len(self._events), self._size):
            yield _slice(start, self._events[start : start + self._size])


def _slice(first: int, chosen: list[_Released]) -> Slice:
    return Slice(
        first,
        [each.time_ms for each in chosen],
        [each.data for each in chosen],
        [each.transaction for each in chosen],
        lambda index: f"memory, row {chosen[index].row}",
    )
