"""
The alerts stream as readers see it: entries in order, each with a cursor to go on from.

A cursor is the entry's place in the stream, which only grows; a reader that gives back the
last one it saw neither misses an entry nor sees one twice. The stream is capped, so a reader
that was away for long is told that entries may be gone.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from consumer.errors import Rejected

START = "0-0"
"""The cursor before every entry."""

_CURSOR = re.compile(r"(\d{1,20})-(\d{1,20})", re.ASCII)
_LARGEST = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One alert, JSON as ``build_alert`` wrote it, and the cursor after it."""

    cursor: str
    alert: bytes


@dataclass(frozen=True, slots=True)
class AlertPage:
    """
    Entries in the order of the stream; ``cursor`` goes on after them, also where there are none.

    ``lost`` says that the stream no longer holds what came right after the cursor that was
    given, so that entries may be missing before the first.
    """

    entries: tuple[Entry, ...]
    cursor: str
    lost: bool = False


class AlertLog(Protocol):
    """The alerts that are kept. Every method raises Unavailable."""

    def after(self, cursor: str, limit: int) -> AlertPage:
        """At most *limit* entries after *cursor*, which ``parse_cursor`` let pass."""
        ...

    def newest(self, limit: int) -> AlertPage:
        """The last *limit* entries, oldest of them first."""
        ...


def parse_cursor(text: str) -> str:
    """Return *text* if it may be a cursor; raises Rejected (``bad_cursor``)."""
    match = _CURSOR.fullmatch(text)
    if match is None or max(int(match[1]), int(match[2])) > _LARGEST:
        raise Rejected("bad_cursor", "cursor: expected one that an earlier answer gave")
    return f"{int(match[1])}-{int(match[2])}"


def place_of(cursor: str) -> tuple[int, int]:
    """What orders cursors."""
    first, _, second = cursor.partition("-")
    return int(first), int(second)
