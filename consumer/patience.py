"""Waiting out an outage in place: the one retry layer of the data path."""

import random
from collections.abc import Callable
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


class Patience:
    """
    Repeats an idempotent call while a dependency is unavailable, up to a limit.

    Pauses double from 50 ms to 2 s, each with full jitter, so that the workers
    of many shards do not knock on a recovering server in step.
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

    def call(self, attempt: Callable[[], T]) -> T:
        """
        The result of *attempt*, repeated while it raises Unavailable.

        ``on_wait`` hears of every failure, with the seconds waited so far.
        Raises Replaced at once, and the last Unavailable once the limit is over: leaving without a
        checkpoint then is safe, and the record comes again.
        """
        started_s = self._clock.monotonic_s()
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return attempt()
            except Replaced:
                raise
            except Unavailable as error:
                waited_s = self._clock.monotonic_s() - started_s
                self._on_wait(error, waited_s)
                if waited_s >= self._limit_s:
                    raise
            self._sleep(random.uniform(0, pause_s))  # noqa: S311 - jitter, not a secret
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
