"""Time as an argument: the one place that reads the machine's clocks."""

import time
from typing import Protocol


class Clock(Protocol):
    """Wall clock for timestamps, monotonic clock for durations."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds of a clock that never steps."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds of ``CLOCK_MONOTONIC``."""
        return time.monotonic()
