"""A dead letter store in memory."""

from collections.abc import Sequence

from consumer.errors import Unavailable
from consumer.model import DeadLetter


class FakeDeadLetters:
    """Keeps letters by id; refuses everything while ``down``."""

    def __init__(self) -> None:
        self.letters: dict[str, DeadLetter] = {}
        self.down = False

    def put(self, letters: Sequence[DeadLetter]) -> None:
        if self.down:
            raise Unavailable("s3", "put_object: down")
        self.letters.update((letter.letter_id, letter) for letter in letters)
