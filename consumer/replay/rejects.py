"""Rows that cannot be mapped: each told in a file, and too many of them an end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson

from consumer.errors import Misconfigured, Problem
from consumer.replay.conversion import SEPARATOR
from consumer.replay.shown import show

_ALWAYS_ALLOWED: Final = 10
_ENOUGH_ROWS: Final = 10_000
_EXAMPLES: Final = 5
_MAX_RAW: Final = 2_000
_MAX_CELL: Final = 60


@dataclass(slots=True)
class Rejects:
    """
    Counts rows and writes the rejected ones to *path*, a line of JSON each.

    A line has ``file``, ``row``, ``column``, ``error`` and ``raw``, in which whatever may be a
    card number is masked. *max_share* of the rows may be rejected, and ten in any case.
    """

    path: Path
    max_share: float
    rows: int = 0
    rejected: int = 0
    _examples: list[Problem] = field(default_factory=list)

    def begin(self) -> None:
        """Begin anew, with an empty file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(b"")
        self.rows = self.rejected = 0
        self._examples.clear()

    def note(self, place: tuple[str, str], row: int, problem: str, raw: str | None) -> None:
        """Write down a rejected *row*; *place* is the address and what is counted there."""
        address, noun = place
        column, _, error = problem.partition(SEPARATOR)
        self.rejected += 1
        if len(self._examples) < _EXAMPLES:
            where = f"{address}, {noun} {row}"
            example = _example(where, column or noun, error, _cell(raw, column))
            self._examples.append(example)
        line = {
            "file": address,
            "row": row,
            "column": column or None,
            "error": error,
            "raw": None if raw is None else show(raw)[:_MAX_RAW],
        }
        with self.path.open("ab") as file:
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    def check(self, *, complete: bool) -> None:
        """
        Raise Misconfigured where too many rows were rejected.

        Before a survey is *complete* only where there were enough rows to tell.
        """
        if not complete and self.rows < _ENOUGH_ROWS:
            return
        nothing_left = self.rejected == self.rows > 0
        over = self.rejected > max(_ALWAYS_ALLOWED, self.max_share * self.rows)
        if not over and not nothing_left:
            return
        found = f"{self.rejected:,} of {self.rows:,} rows that cannot be mapped"
        expected = f"at most {self.max_share:.2%} (--max-rejects); all of them are in {self.path}"
        raise Misconfigured([Problem("source", "rows", found, expected), *self._examples])

    @property
    def examples(self) -> Sequence[Problem]:
        """The first few."""
        return tuple(self._examples)


def _example(place: str, key: str, error: str, cell: str | None) -> Problem:
    field_name, says, expected = error.partition(": expected ")
    if not says:
        return Problem(place, key, error, "a row that can be mapped")
    found = f"no {field_name}" if cell is None else f"{cell} as {field_name}"
    return Problem(place, key, found, expected)


def _cell(raw: str | None, column: str) -> str | None:
    """What stands in *column* of the row *raw*, as JSON; None where that cannot be told."""
    try:
        row = orjson.loads(raw or "")
    except orjson.JSONDecodeError:
        return None
    if not isinstance(row, dict) or column not in row:
        return None
    return show(orjson.dumps(row[column]).decode())[:_MAX_CELL]
