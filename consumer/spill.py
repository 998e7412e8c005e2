"""
When rows go around Firehose, straight to S3, and when Firehose is asked again.

A batch that Firehose does not take in time opens the way around. While it is open,
rows go to S3 without asking, but for one batch now and then that tries Firehose
first (half-open): the first one that is taken whole closes the way again.
"""

from threading import Lock
from typing import Protocol

from consumer.clock import Clock
from consumer.errors import Unavailable
from consumer.ports import RowStore

PROBE_S = 10.0
"""Pause between two batches that try Firehose while rows go around it."""


class Watcher(Protocol):
    """Who hears of it; called from several threads."""

    def rows_spilled(self, rows: int) -> None:
        """*rows* were stored in S3 instead."""
        ...

    def spilling_changed(self, begun: bool) -> None:  # noqa: FBT001 - a hook
        """Rows go around Firehose from now on (*begun*), or no longer do."""
        ...


class Spill:
    """The way around Firehose with *store* at its end, shared by the threads that send."""

    def __init__(self, store: RowStore, *, after_s: float, clock: Clock, watcher: Watcher) -> None:
        """*after_s* is how long Firehose may leave a batch unacknowledged before it opens."""
        self._store = store
        self._after_s = after_s
        self._clock = clock
        self._watcher = watcher
        self._lock = Lock()
        self._next_probe_s: float | None = None

    def now_s(self) -> float:
        """The clock that a batch is timed by."""
        return self._clock.monotonic_s()

    def is_open(self) -> bool:
        """Whether the next attempt goes around Firehose; False now and then, to try it."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            if self._next_probe_s is None:
                return False
            if now_s < self._next_probe_s:
                return True
            self._next_probe_s = now_s + PROBE_S
            return False

    def refused(self, started_s: float) -> None:
        """Firehose did not take all of a batch that is being sent since *started_s*."""
        with self._lock:
            now_s = self._clock.monotonic_s()
            begun = self._next_probe_s is None and now_s - started_s >= self._after_s
            if begun:
                self._next_probe_s = now_s + PROBE_S
        if begun:
            self._watcher.spilling_changed(True)

    def accepted(self) -> None:
        """Firehose took a whole batch: it is asked again for every one."""
        with self._lock:
            ended = self._next_probe_s is not None
            self._next_probe_s = None
        if ended:
            self._watcher.spilling_changed(False)

    def put(self, records: list[bytes]) -> None:
        """
        Store the rows of *records* as one piece.

        Raises Unavailable when the store refuses them too; the next batch then asks
        Firehose first.
        """
        rows = b"".join(records)
        try:
            self._store.put(rows)
        except Unavailable as error:
            with self._lock:
                if self._next_probe_s is not None:
                    self._next_probe_s = self._clock.monotonic_s()
            raise Unavailable("firehose", f"takes no rows, nor does its spill: {error}") from error
        self._watcher.rows_spilled(rows.count(b"\n"))
