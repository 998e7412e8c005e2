"""
Dead letters on their way back: where each one stands.

A letter is sent again at most once unless someone asks for more. That is kept by a
mark beside it, which exists before the letter is sent: whoever makes it sends. A mark
that says ``sending`` long afterwards was left by a process that died, and whether the
letter went out is not known.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from consumer.errors import Unavailable
from consumer.model import DeadLetter


class State(StrEnum):
    """Where a letter stands; ``open`` is one that was never sent."""

    OPEN = "open"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Mark:
    """
    What is kept beside a letter that was sent, or was to be.

    ``to`` is ``stream`` or ``engine``; ``result`` and ``detail`` say what came of it;
    ``changed`` whether something else was sent than the letter holds.
    """

    state: State
    at_ms: int
    by: str
    to: str
    result: str = ""
    detail: str = ""
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Filed:
    """
    A letter as it lies in the store, with the mark beside it.

    ``place`` names the object it is in; ``version`` is that of the mark.
    """

    letter: DeadLetter
    place: str
    mark: Mark | None = None
    version: str | None = None

    @property
    def state(self) -> State:
        """Where the letter stands."""
        return State.OPEN if self.mark is None else self.mark.state


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object among the letters that is none, and why."""

    place: str
    message: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters: ``since_ms`` and ``until_ms`` are of arrival and included."""

    since_ms: int | None = None
    until_ms: int | None = None
    error: str | None = None
    shard: str | None = None

    def admits(self, letter: DeadLetter) -> bool:
        """Whether *letter* is one of them."""
        return (
            (self.since_ms is None or letter.arrival_ms >= self.since_ms)
            and (self.until_ms is None or letter.arrival_ms <= self.until_ms)
            and (self.error is None or letter.error == self.error)
            and (self.shard is None or letter.shard_id == self.shard)
        )


Found = Filed | Unreadable


class LetterBox(Protocol):
    """The dead letters as those read them who send them again."""

    def find(self, wanted: Filter, keep: Callable[[Filed], bool], limit: int | None) -> list[Found]:
        """
        Return the letters that *wanted* admits and *keep* takes, oldest day first.

        At most *limit* of them; objects that cannot be read count as well. Raises
        Unavailable.
        """
        ...

    def find_one(self, letter_id: str) -> Found | None:
        """Return the letter of that id, None where there is none. Raises Unavailable."""
        ...

    def claim(
        self, letters: Sequence[Filed], marks: Sequence[Mark]
    ) -> list[Filed | Unavailable | None]:
        """
        Put the mark of each letter beside it if the one it has is still there.

        Returns the letters with their marks, None for each that another one marked
        meanwhile, and the error where the store did not say that it took the mark: what
        was marked before has to be known to whoever marked it.
        """
        ...

    def settle(self, letters: Sequence[Filed], marks: Sequence[Mark]) -> None:
        """Put the mark of each letter in the place of the claimed one. Raises Unavailable."""
        ...
