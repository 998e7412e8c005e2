"""SIGTERM and SIGINT as something a loop can wait for."""

import queue
import signal
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """
    While entered, a signal to stop ends a ``wait`` instead of the process.

    Only in the main thread, where Python runs signal handlers.
    """

    def __init__(self) -> None:
        # Of all the ways to wake a waiting thread this is the one that may be
        # used by a handler that interrupts that very thread.
        self._queue: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.count = 0

    def wait(self, seconds: float) -> bool:
        """Wait for a signal for so long; whether one came now or before."""
        try:
            self._queue.get(timeout=seconds)
        except queue.Empty:
            pass
        else:
            self.count += 1
        return self.count > 0

    def __enter__(self) -> Self:
        self._previous = [signal.signal(number, self._on_signal) for number in _SIGNALS]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in zip(_SIGNALS, self._previous, strict=True):
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._queue.put(number)
