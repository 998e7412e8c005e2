"""What ``redrive`` shows: letters as a table, one in full, progress, and the report."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from consumer.evidence import format_time, printable
from consumer.letters import Filed, Mark
from consumer.redrive import Outcome, Result, obstacle
from consumer.search_command import plain_lines

_COLUMNS = ("arrived", "error", "state", "payload", "id")
_BORDER = 2
_STEP = 500


def table(letters: Sequence[Filed]) -> None:
    """Print *letters*: a table on a terminal that is wide enough, plain columns elsewhere."""
    if not letters:
        return
    rows = [_cells(each) for each in letters]
    lines = plain_lines([_COLUMNS, *rows])
    console = Console(highlight=False)
    if not console.is_terminal or max(map(len, lines)) + _BORDER > console.width:
        sys.stdout.write("\n".join(lines) + "\n")
        return
    drawn = Table(box=SIMPLE_HEAD)
    for name in _COLUMNS:
        drawn.add_column(name, no_wrap=True)
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console.print(drawn)


def describe_letter(filed: Filed) -> Iterator[str]:
    """A letter for a person: what was wrong, what became of it, what it says."""
    letter = filed.letter
    pairs = {
        "arrived": format_time(letter.arrival_ms),
        "error": letter.error,
        "that is": letter.message,
        "state": str(filed.state),
        "payload": _payload(filed, detailed=True),
        "object": filed.place,
    }
    if filed.mark is not None:
        pairs["sent"] = _mark(filed.mark)
    yield printable(letter.letter_id)
    width = max(map(len, pairs))
    for name, value in pairs.items():
        yield f"  {name:<{width}}  {printable(value)}"
    yield ""
    for line in letter.payload.splitlines() or [""]:
        yield "  " + printable(line)


def letter_fields(filed: Filed) -> dict[str, object]:
    """A letter with where it stands, for JSON."""
    letter, mark = filed.letter, filed.mark
    fields: dict[str, object] = {
        "id": letter.letter_id,
        "shard_id": letter.shard_id,
        "sequence_number": str(letter.position.sequence_number),
        "sub_sequence_number": letter.position.sub_sequence_number,
        "arrival_time": format_time(letter.arrival_ms),
        "error": letter.error,
        "message": letter.message,
        "payload": letter.payload,
        "masked": letter.masked,
        "whole": letter.whole,
        "state": filed.state,
        "object": filed.place,
    }
    if mark is not None:
        fields["sent"] = {
            "at": format_time(mark.at_ms),
            "by": mark.by,
            "to": mark.to,
            "result": mark.result,
            "detail": mark.detail,
            "changed": mark.changed,
        }
    return fields


class Tally:
    """Counts what became of letters, by result and error."""

    def __init__(self) -> None:
        self._outcomes: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """Count *outcome*."""
        self._outcomes.append(outcome)

    @property
    def is_good(self) -> bool:
        """Whether nothing is left to do of all that was asked."""
        return all(each.is_good for each in self._outcomes)

    def fields(self) -> dict[str, object]:
        """The counts and each letter, for JSON."""
        return {
            "ok": self.is_good,
            "results": Counter(str(each.result) for each in self._outcomes),
            "errors": Counter(
                each.error for each in self._outcomes if each.error and not each.is_good
            ),
            "letters": [
                {
                    "id": each.letter_id,
                    "result": each.result,
                    "error": each.error or None,
                    "detail": each.detail or None,
                }
                for each in self._outcomes
            ],
        }

    def lines(self, asked: int) -> Iterator[str]:
        """The report for a person: how many letters, and a line a result and error."""
        good = sum(each.is_good for each in self._outcomes)
        dry = any(each.result is Result.WOULD_SEND for each in self._outcomes)
        done = "would be sent" if dry else "sent"
        yield f"{asked:,} letters, {good:,} {done}" if asked else "no letters to send"
        counts = Counter((each.result, each.error) for each in self._outcomes)
        for (result, error), count in sorted(counts.items()):
            yield f"  {count:>7,}  {result}" + (f"  {error}" if error else "")
        left = asked - len(self._outcomes)
        if left:
            yield f"  {left:>7,}  not tried"


def show_progress(outcomes: Iterable[Outcome], total: int) -> Iterator[Outcome]:
    """Pass *outcomes* on, with a bar on a terminal and a line now and then elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        for number, outcome in enumerate(outcomes, start=1):
            yield outcome
            if number % _STEP == 0:
                sys.stderr.write(f"{number:,} of {total:,}\n")
        return
    columns = (TextColumn("redrive"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("redrive", total=total)
        for outcome in outcomes:
            yield outcome
            progress.advance(task)


def _cells(filed: Filed) -> tuple[str, ...]:
    letter = filed.letter
    return (
        format_time(letter.arrival_ms),
        printable(letter.error),
        str(filed.state),
        _payload(filed),
        printable(letter.letter_id),
    )


def _payload(filed: Filed, *, detailed: bool = False) -> str:
    """Whether the payload says all that the record did."""
    found = obstacle(filed.letter, filed.letter.payload.encode())
    if found is None:
        return "whole"
    return f"{found.result}: {found.detail}" if detailed else str(found.result)


def _mark(mark: Mark) -> str:
    changed = ", mended" if mark.changed else ""
    result = f": {mark.result} {mark.detail}".rstrip() if mark.result else ""
    return f"{format_time(mark.at_ms)} by {mark.by} to the {mark.to}{changed}{result}"
