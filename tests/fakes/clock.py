"""A clock that stands still until it is moved."""


class FakeClock:
    """Passes wherever a ``Clock`` is asked for; ``sleep`` moves it."""

    def __init__(self, now_ms: int = 1_790_000_000_000) -> None:
        self._now_ms = float(now_ms)
        self.pauses: list[float] = []

    def now_ms(self) -> int:
        return int(self._now_ms)

    def monotonic_s(self) -> float:
        return self._now_ms / 1000

    def sleep(self, seconds: float, /) -> None:
        self.pauses.append(seconds)
        self._now_ms += seconds * 1000
