"""The last good set of rules, in memory."""

from consumer.errors import Unavailable

_MOST = 20


class FakeAcceptedRules:
    """Keeps one set and what tripped; refuses everything while ``down``."""

    def __init__(self) -> None:
        self.down = False
        self.tripped: list[str] = []
        self._set: tuple[str, bytes] | None = None
        self._by_hand: str | None = None

    def read(self) -> bytes | None:
        self._answer()
        return None if self._set is None else self._set[1]

    def version(self) -> str | None:
        self._answer()
        return None if self._set is None else self._set[0]

    def keep(self, version: str, content: bytes) -> bool:
        self._answer()
        if version in self.tripped:
            return False
        self._put((version, content))
        return True

    def accept(self, version: str, content: bytes) -> None:
        self._answer()
        self.tripped = [known for known in self.tripped if known != version]
        self._by_hand = version
        self._put((version, content))

    def trip(self, version: str, former: str, content: bytes) -> None:
        self._answer()
        if version == self._by_hand:
            return
        others = [known for known in self.tripped if known != version]
        self.tripped = [version, *others][:_MOST]
        if self._set is None or self._set[0] == version:
            self._put(None if former in self.tripped else (former, content))

    def _put(self, put: tuple[str, bytes] | None) -> None:
        self._set = put
        if put is None or put[0] != self._by_hand:
            self._by_hand = None

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("fake", "down")
