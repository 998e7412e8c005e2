"""How fast a replay goes: in original time, a multiple of it, at a rate, or as it can."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from consumer.clock import Clock


@dataclass(frozen=True, slots=True)
class Pace:
    """``speed`` is seconds of history a second, ``rate`` events a second; None: no limit."""

    speed: float | None = None
    rate: float | None = None

    @property
    def limited(self) -> bool:
        """Whether it ever waits."""
        return self.speed is not None or self.rate is not None


class Pacer:
    """
    Tells how many events are due. Its time begins with the first event that it is asked for.

    Where the replay cannot keep up, what is late goes at once; time that was lost is
    made up for.
    """

    def __init__(self, pace: Pace, clock: Clock) -> None:
        self._pace = pace
        self._clock = clock
        self._begun_s: float | None = None
        self._first_ms = 0
        self._gone = 0

    def due(self, times_ms: Sequence[int]) -> int:
        """How many of the next events, released at *times_ms* (ascending), are due now."""
        if not self._pace.limited:
            return len(times_ms)
        elapsed_s = self._elapsed_s(times_ms)
        due = len(times_ms)
        if self._pace.speed is not None:
            limit_ms = self._first_ms + elapsed_s * 1000 * self._pace.speed
            due = min(due, bisect_right(times_ms, limit_ms))
        if self._pace.rate is not None:
            # The first goes at once, so that a slow rate does not begin with a wait.
            due = min(due, 1 + int(elapsed_s * self._pace.rate) - self._gone)
        return max(due, 0)

    def wait_s(self, times_ms: Sequence[int]) -> float:
        """Seconds until the first of the events at *times_ms* (at least one) is due."""
        elapsed_s = self._elapsed_s(times_ms)
        wait_s = 0.0
        if self._pace.speed is not None:
            wait_s = (times_ms[0] - self._first_ms) / 1000 / self._pace.speed - elapsed_s
        if self._pace.rate is not None:
            wait_s = max(wait_s, self._gone / self._pace.rate - elapsed_s)
        return max(wait_s, 0.0)

    def went(self, count: int) -> None:
        """Note that so many events were released."""
        self._gone += count

    def _elapsed_s(self, times_ms: Sequence[int]) -> float:
        now_s = self._clock.monotonic_s()
        if self._begun_s is None:
            self._begun_s = now_s
            self._first_ms = times_ms[0]
        return now_s - self._begun_s
