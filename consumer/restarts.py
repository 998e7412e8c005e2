"""When to start again after a failure, and when to give up."""

from collections import deque


class Restarts:
    """
    Pauses that double with each restart inside a window, up to a number of them.

    Pure: *now_s* is an argument. A restart that lies further back than the
    window is forgotten, and with it the pause it added.
    """

    def __init__(self, limit: int, window_s: float, first_s: float, longest_s: float) -> None:
        self._limit = limit
        self._window_s = window_s
        self._first_s = first_s
        self._longest_s = longest_s
        self._past: deque[float] = deque()

    def next_pause_s(self, now_s: float) -> float | None:
        """Seconds to wait before the restart that is due now; None to give up."""
        while self._past and now_s - self._past[0] >= self._window_s:
            self._past.popleft()
        if len(self._past) >= self._limit:
            return None
        # The exponent is capped so that a generous limit cannot overflow a float.
        pause_s = self._first_s * 2.0 ** min(len(self._past), 32)
        self._past.append(now_s)
        return min(pause_s, self._longest_s)
