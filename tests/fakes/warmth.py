"""The age of feature state, in memory, and what is told of it."""

from collections.abc import Mapping, Sequence

from consumer.errors import Unavailable


class FakeWarmth:
    """A WarmthStore that counts its calls; ``fail`` makes them unavailable."""

    def __init__(self) -> None:
        self.stands: bytes | None = None
        self.calls: list[str] = []
        self.failures = 0

    def fail(self, times: int) -> None:
        self.failures = times

    def read(self) -> bytes | None:
        self._call("read")
        return self.stands

    def swap(self, expected: bytes | None, data: bytes) -> bytes | None:
        self._call("swap")
        if self.stands == expected:
            self.stands = data
        return self.stands

    def _call(self, name: str) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("redis", "told to fail")
        self.calls.append(name)


class Heard:
    """Which features were told to be warming, each time, and which to be full."""

    def __init__(self) -> None:
        self.warming: list[dict[str, float]] = []
        self.full: list[str] = []

    def features_warming(self, until_s: Mapping[str, float], full: Sequence[str]) -> None:
        self.warming.append(dict(until_s))
        self.full += full
