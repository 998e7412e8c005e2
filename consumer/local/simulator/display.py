"""Progress for people: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

_LINE_EVERY_S = 5.0

Report = Callable[[float, str], None]
"""Takes how much is done, in the unit of the total, and a few words about it."""


@contextmanager
def shown(title: str, total: float, out: TextIO | None = None) -> Iterator[Report]:
    """Show how much of *total* is done, on *out* or standard error, as long as the block runs."""
    console = Console(file=out or sys.stderr)
    if console.is_terminal:
        with Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        ) as bar:
            task = bar.add_task(title, total=total, note="")
            yield lambda done, note: bar.update(task, completed=done, note=note)
    else:
        yield _lines(title, total, out or sys.stderr)


def _lines(title: str, total: float, out: TextIO) -> Report:
    """*total* may be passed: duplicates and malformed records come on top of it."""
    last_s = time.monotonic()

    def report(done: float, note: str) -> None:
        nonlocal last_s
        if done >= total or time.monotonic() - last_s >= _LINE_EVERY_S:
            last_s = time.monotonic()
            more = f" and {done - total:,.0f} more" if done > total else ""
            text = f"{title}: {min(done, total):,.0f} of {total:,.0f}{more}  {note}"
            print(text.rstrip(), file=out, flush=True)

    return report
