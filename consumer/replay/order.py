"""
Runs of events in order, and their merge into one order.

A run is what one query yields in order: a file that is ordered as it stands, one that
DuckDB sorts, or many that overlap too much to be open together and that DuckDB sorts as
one. A run is opened when its first key comes up, so that days one after the other are open
one after the other. What is open at one time is bounded, and so is memory.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MAX_OPEN: Final = 16
"""So many runs are merged side by side; files that overlap more are sorted as one run."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Released:
    """
    Events in order: parallel arrays of key, number of the file and row in it, and an Arrow
    array of their bytes. (key, file, row) orders them.
    """

    keys: Ints
    files: Ints
    rows: Ints
    events: Any

    @classmethod
    def of(cls, batch: Any) -> "Released":
        """Take the columns of a record batch: key, file, row, event."""
        key, file, row, event = batch.columns
        return cls(
            key.to_numpy(zero_copy_only=False),
            file.to_numpy(zero_copy_only=False).astype(np.int64),
            row.to_numpy(zero_copy_only=False),
            event,
        )

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, start: int, stop: int) -> "Released":
        """From *start* to before *stop*."""
        cut = slice(start, stop)
        events = self.events.slice(start, stop - start)
        return Released(self.keys[cut], self.files[cut], self.rows[cut], events)

    def take(self, places: Ints) -> "Released":
        """What stands at *places*."""
        events = self.events.take(pa.array(places))
        return Released(self.keys[places], self.files[places], self.rows[places], events)

    @property
    def last(self) -> tuple[int, int, int]:
        """What the last one is ordered by."""
        return int(self.keys[-1]), int(self.files[-1]), int(self.rows[-1])

    def count_to(self, end: tuple[int, int, int]) -> int:
        """How many come up to *end*, that one included."""
        key, file, row = end
        first = int(np.searchsorted(self.keys, key, "left"))
        after = int(np.searchsorted(self.keys, key, "right"))
        files, rows = self.files[first:after], self.rows[first:after]
        before = (files < file) | ((files == file) & (rows <= row))
        return first + int(np.count_nonzero(before))


OpenRun = Callable[[int], Generator[Released]]
"""Reads a run from a key on."""


@dataclass(frozen=True, slots=True)
class Run:
    """Events between two keys; ``open`` reads them in order."""

    first_key: int
    last_key: int
    open: OpenRun


@dataclass(slots=True)
class _Open:
    batches: Generator[Released]
    current: Released
    ended: bool = field(default=False)

    def fill(self) -> bool:
        """Have something to take; False at the end."""
        while not len(self.current):
            following = next(self.batches, None)
            if following is None:
                return False
            self.current = following
        return True

    def take_to(self, end: tuple[int, int, int]) -> Released:
        count = self.current.count_to(end)
        taken = self.current.part(0, count)
        self.current = self.current.part(count, len(self.current))
        return taken


def merge(runs: Iterable[Run], from_key: int) -> Generator[Released]:
    """Yield the events of *runs* from a key on, in the order of (key, file, row)."""
    waiting = sorted(
        (run for run in runs if run.last_key >= from_key),
        key=lambda run: run.first_key,
        reverse=True,
    )
    opened: list[_Open] = []
    try:
        while True:
            _open_due(waiting, opened, from_key)
            if not opened:
                return
            # Up to here nothing can come from what was not read yet.
            end = min(each.current.last for each in opened)
            yield _joined([each.take_to(end) for each in opened])
    finally:
        for each in opened:
            each.batches.close()


def _open_due(waiting: list[Run], opened: list[_Open], from_key: int) -> None:
    """Open each run that may hold the next event, and drop those that are at their end."""
    opened[:] = [each for each in opened if each.fill()]
    while waiting:
        end = min((each.current.last[0] for each in opened), default=None)
        if end is not None and waiting[-1].first_key > end:
            return
        run = waiting.pop()
        batches = run.open(from_key)
        first = next(batches, None)
        if first is None:
            continue
        fresh = _Open(batches, first)
        if fresh.fill():
            opened.append(fresh)


def _joined(parts: Sequence[Released]) -> Released:
    filled = [part for part in parts if len(part)]
    if len(filled) == 1:
        return filled[0]
    keys = np.concatenate([part.keys for part in filled])
    files = np.concatenate([part.files for part in filled])
    rows = np.concatenate([part.rows for part in filled])
    events = pa.concat_arrays([part.events for part in filled])
    return Released(keys, files, rows, events).take(np.lexsort((rows, files, keys)))


class Repetitions:
    """Leaves out what is equal, byte for byte, to an event of the same key."""

    def __init__(self) -> None:
        self._key = -1
        self._seen: set[bytes] = set()

    def drop(self, keys: Ints, events: list[bytes]) -> list[int] | None:
        """Return the places that stay, None where all do. To be asked in order."""
        if not len(keys):
            return None
        same = np.flatnonzero(keys[1:] == keys[:-1]) + 1
        joins = int(keys[0]) == self._key
        dropped: set[int] = set()
        for place in [0, *same.tolist()] if joins else same.tolist():
            key = int(keys[place])
            if key != self._key:
                self._key = key
                self._seen = {_digest(events[place - 1])}
            digest = _digest(events[place])
            if digest in self._seen:
                dropped.add(place)
            self._seen.add(digest)
        last = int(keys[-1])
        if last != self._key:
            self._key, self._seen = last, {_digest(events[-1])}
        if not dropped:
            return None
        return [place for place in range(len(events)) if place not in dropped]


def _digest(event: bytes) -> bytes:
    # A day of events may have one time, where the source knows days alone.
    return blake2b(event, digest_size=16).digest()


@dataclass(slots=True)
class Extent:
    """What a pass over keys tells: how many, from where to where, whether in order."""

    count: int = 0
    first_key: int | None = None
    last_key: int | None = None
    ordered: bool = True
    _previous: int = -(2**62)

    def add(self, keys: Ints) -> None:
        """Take the next *keys*."""
        if not len(keys):
            return
        first, last = int(keys.min()), int(keys.max())
        self.count += len(keys)
        self.first_key = first if self.first_key is None else min(first, self.first_key)
        self.last_key = last if self.last_key is None else max(last, self.last_key)
        in_order = int(keys[0]) >= self._previous and bool(np.all(keys[1:] >= keys[:-1]))
        self.ordered = self.ordered and in_order
        self._previous = int(keys[-1])


@dataclass(frozen=True, slots=True)
class Member:
    """The events or the labels of one file, as a survey found them."""

    file: int
    labels: bool
    first_key: int
    last_key: int
    ordered: bool


def group(members: Sequence[Member], limit: int = MAX_OPEN) -> list[list[Member]]:
    """
    Divide *members* into runs.

    Each is one of its own, unless more than *limit* of those that overlap would be open
    together: these become one run.
    """
    runs: list[list[Member]] = []
    for cluster in _clusters(sorted(members, key=lambda each: (each.first_key, each.file))):
        if _deepest(cluster) > limit:
            runs.append(sorted(cluster, key=lambda each: each.file))
        else:
            runs += [[each] for each in cluster]
    return runs


def _clusters(members: Iterable[Member]) -> Iterator[list[Member]]:
    cluster: list[Member] = []
    end = 0
    for each in members:
        if cluster and each.first_key > end:
            yield cluster
            cluster = []
        end = each.last_key if not cluster else max(end, each.last_key)
        cluster.append(each)
    if cluster:
        yield cluster


def _deepest(cluster: Sequence[Member]) -> int:
    """How many of *cluster* hold one key at most."""
    # At one key an opening comes before an end.
    changes = sorted(
        [(each.first_key, 0, 1) for each in cluster] + [(each.last_key, 1, -1) for each in cluster]
    )
    depth = deepest = 0
    for _, _, change in changes:
        depth += change
        deepest = max(deepest, depth)
    return deepest
