"""Small texts in memory."""

from consumer.errors import Unavailable


class FakeTexts:
    """Keeps texts by name, each change a new version; refuses everything while ``down``."""

    def __init__(self, place: str, **texts: str) -> None:
        self.place = place
        self.down = False
        self.audit: list[bytes] = []
        self._texts: dict[str, bytes] = {}
        self._numbers: dict[str, int] = {}
        for name, text in texts.items():
            self.put(name.replace("__", "."), text)

    def put(self, name: str, text: str | bytes) -> None:
        self._texts[name] = text.encode() if isinstance(text, str) else text
        self._numbers[name] = self._numbers.get(name, 0) + 1

    def versions(self) -> dict[str, str]:
        self._answer()
        return {name: str(number) for name, number in self._numbers.items()}

    def read(self, name: str) -> bytes:
        self._answer()
        return self._texts[name]

    def change(self, name: str, data: bytes, expected: str | None, audit: bytes) -> None:
        if self.versions().get(name) != expected:
            raise Unavailable("fake", f"{name} was changed meanwhile")
        self.audit.append(audit)
        self.put(name, data)

    def _answer(self) -> None:
        if self.down:
            raise Unavailable("fake", "down")
