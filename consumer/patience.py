"""
Waiting out an outage in place: the one retry layer of the data path.

Whoever else repeats something, because part of a call was refused, takes its pauses here.
"""

import math
import random
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from consumer.clock import Clock
from consumer.errors import Replaced, Unavailable

T = TypeVar("T")

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0


class Sleep(Protocol):
    """A pause; ``time.sleep`` outside tests."""

    def __call__(self, seconds: float, /) -> None:
        """Block for *seconds*."""
        ...


def pauses_s(first_s: float, longest_s: float) -> Iterator[float]:
    """
    Seconds to wait before each new try, without end: doubling, with full jitter.

    So that the workers of many shards do not knock on a recovering server in step.
    """
    ceiling_s = first_s
    while True:
        yield random.uniform(0, ceiling_s)  # noqa: S311 - jitter, not a secret
        ceiling_s = min(ceiling_s * 2, longest_s)


class Patience:
    """
    Repeats an idempotent call while a dependency is unavailable, up to a limit.

    Pauses grow from 50 ms to 2 s.
    """

    def __init__(
        self,
        clock: Clock,
        sleep: Sleep,
        limit_s: float,
        on_wait: Callable[[Unavailable, float], None],
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._limit_s = limit_s
        self._on_wait = on_wait

    def now_s(self) -> float:
        """The clock that waiting is timed by."""
        return self._clock.monotonic_s()

    def call(self, attempt: Callable[[], T], until_s: float = math.inf) -> T:
        """
        The result of *attempt*, repeated while it raises Unavailable.

        ``on_wait`` hears of every failure, with the seconds waited so far.
        Raises Replaced at once, and the last Unavailable once the limit is over, or at *until_s*
        by ``now_s`` if that is sooner: leaving without a checkpoint then is safe, and the record
        comes again.
        """
        started_s = self._clock.monotonic_s()
        ends_s = min(started_s + self._limit_s, until_s)
        pauses = pauses_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            try:
                return attempt()
            except Replaced:
                raise
            except Unavailable as error:
                now_s = self._clock.monotonic_s()
                self._on_wait(error, now_s - started_s)
                if now_s >= ends_s:
                    raise
            self._sleep(next(pauses))
