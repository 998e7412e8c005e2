"""
A circuit breaker: stop asking what does not answer, and notice when it does again.

Pure: every method takes *now* on the monotonic clock, and nothing here waits or
talks. Closed, it looks at the newest calls; when too many of them failed or were
slow it opens and refuses every call for a while. Then it is half-open: a few
calls are let through as probes, whose answers close it or open it again. States
and rules are those of M. Nygard, Release It! (2nd edition, chapter 5), with the
slow calls that Resilience4j added to them.
"""

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

Permit = NewType("Permit", int)
"""The right to make one call, given back with what came of it."""


class BreakerState(IntEnum):
    """The state, as the number that the metric shows."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """
    When to open and how to close again.

    Of the newest ``window`` calls, once there are ``minimum`` of them, a share of
    ``failure_share`` failed or of ``slow_share`` slow ones opens it for ``open_s``
    seconds; ``probes`` good answers in a row then close it.
    """

    window: int
    minimum: int
    failure_share: float
    slow_share: float
    open_s: float
    probes: int


class Breaker:
    """The breaker of one endpoint; not for several threads at once."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._state = BreakerState.CLOSED
        self._since_s = 0.0
        # Counts the changes of state. An answer to a call from before the last change says
        # nothing about the present: its permit carries an older number.
        self._era = 0
        self._calls: deque[tuple[bool, bool]] = deque()
        self._failed = 0
        self._slow = 0
        self._probing = 0
        self._passed = 0

    @property
    def state(self) -> BreakerState:
        """The state as of the last call of a method."""
        return self._state

    def permit(self, now_s: float) -> Permit | None:
        """Whether a call may be made now; None means that it would be of no use."""
        if self._state is BreakerState.CLOSED:
            return Permit(self._era)
        # Probes whose answers were never reported must not keep it half-open for ever.
        if now_s - self._since_s >= self._policy.open_s and (
            self._state is BreakerState.OPEN or self._probing == self._policy.probes
        ):
            self._change(BreakerState.HALF_OPEN, now_s)
        if self._state is BreakerState.OPEN or self._probing == self._policy.probes:
            return None
        self._probing += 1
        return Permit(self._era)

    def record(self, permit: Permit, now_s: float, *, failed: bool, slow: bool) -> None:
        """Note what came of the call that *permit* allowed."""
        if permit != self._era or self._state is BreakerState.OPEN:
            return
        if self._state is BreakerState.CLOSED:
            self._note(failed, slow)
            if self._is_sick():
                self._change(BreakerState.OPEN, now_s)
        elif failed or slow:
            self._change(BreakerState.OPEN, now_s)
        else:
            self._passed += 1
            if self._passed == self._policy.probes:
                self._change(BreakerState.CLOSED, now_s)

    def _note(self, failed: bool, slow: bool) -> None:  # noqa: FBT001 - as ``record`` names them
        self._calls.append((failed, slow))
        self._failed += failed
        self._slow += slow
        if len(self._calls) > self._policy.window:
            old_failed, old_slow = self._calls.popleft()
            self._failed -= old_failed
            self._slow -= old_slow

    def _is_sick(self) -> bool:
        calls = len(self._calls)
        return calls >= self._policy.minimum and (
            self._failed >= calls * self._policy.failure_share
            or self._slow >= calls * self._policy.slow_share
        )

    def _change(self, state: BreakerState, now_s: float) -> None:
        self._state = state
        self._since_s = now_s
        self._era += 1
        self._calls.clear()
        self._failed = self._slow = self._probing = self._passed = 0
