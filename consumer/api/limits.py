"""
What is let in: a bound on what is under way, and on how long it would wait for its turn.

Whoever is refused early can try elsewhere or decide by himself; whoever waits in a long queue
gets his answer when nobody needs it any more. So a request that would wait too long is refused
at once, and those that are let in stay fast.
"""

from collections.abc import Callable
from enum import StrEnum

from consumer.api.problems import Kind, Problem, Refused, retry_after
from consumer.clock import Clock

_RETRY_AFTER_S = 1.0
# How much of the pace is that of the newest chunk.
_NEWEST = 0.2


class Shed(StrEnum):
    """Why a request is not let in."""

    IN_FLIGHT = "in_flight"
    WAIT = "wait"
    OUTAGE = "outage"
    ROWS = "rows"


class Admission:
    """
    Counts what is under way, and refuses what is too much.

    ``enter``, ``leave`` and ``enqueue`` are called by the thread that answers, ``take`` and
    ``paced`` by the one that decides: each number has one writer. *tell* hears of what is refused.
    """

    def __init__(
        self,
        *,
        in_flight_limit: int,
        max_wait_s: float,
        chunk_size: int,
        clock: Clock,
        tell: Callable[[Shed, int], None],
    ) -> None:
        self._limit = in_flight_limit
        self._max_wait_s = max_wait_s
        self._chunk_size = chunk_size
        self._clock = clock
        self._tell = tell
        self._in_flight = 0
        self._queued = 0
        self._taken = 0
        self._chunk_s = 0.0
        self._moved_s = clock.monotonic_s()

    @property
    def in_flight(self) -> int:
        """Transactions that are let in and not answered."""
        return self._in_flight

    @property
    def waiting(self) -> int:
        """Transactions that no chunk has taken up."""
        return self._queued - self._taken

    @property
    def expected_wait_s(self) -> float:
        """How long one more would wait: for the chunks before it, at the pace of the newest."""
        waiting = self.waiting
        if waiting == 0:
            return 0.0
        stalled_s = self._clock.monotonic_s() - self._moved_s
        return max(self._chunk_s * waiting / self._chunk_size, stalled_s)

    def enter(self, count: int) -> None:
        """Let *count* transactions in, to ``leave`` later. Raises Refused."""
        if self._in_flight and self._in_flight + count > self._limit:
            self._refuse(Shed.IN_FLIGHT, count, f"{self._in_flight} transactions are under way")
        wait_s = self.expected_wait_s
        if wait_s > self._max_wait_s:
            self._refuse(Shed.WAIT, count, f"it would wait for {wait_s:.1f} s")
        self._in_flight += count

    def enqueue(self, count: int) -> None:
        """*count* of those that are in wait for their turn."""
        if self.waiting == 0:
            self._moved_s = self._clock.monotonic_s()
        self._queued += count

    def leave(self, count: int) -> None:
        """*count* are answered."""
        self._in_flight -= count

    def take(self, count: int) -> None:
        """A chunk takes up *count* of those that wait, or they are given up."""
        self._taken += count
        self._moved_s = self._clock.monotonic_s()

    def paced(self, seconds: float) -> None:
        """A chunk took *seconds*."""
        self._chunk_s += _NEWEST * (seconds - self._chunk_s)

    def refuse_for_now(self, shed: Shed, count: int, detail: str) -> Refused:
        """What is to be raised for *count* transactions that nothing can be done about now."""
        self._tell(shed, count)
        return Refused(retry_after(Kind.UNAVAILABLE, detail, _RETRY_AFTER_S))

    def _refuse(self, shed: Shed, count: int, detail: str) -> None:
        self._tell(shed, count)
        raise Refused(overloaded(detail))


def overloaded(detail: str) -> Problem:
    """The problem of who is refused because there is too much to do."""
    return retry_after(Kind.OVERLOADED, detail, _RETRY_AFTER_S)
