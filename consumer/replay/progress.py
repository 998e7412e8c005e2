"""How far a replay is: a bar with rate and remaining time on a terminal, lines elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from consumer.clock import Clock

_EVERY_S = 10.0


class Display(Protocol):
    """Hears how many events were worked in all; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

    def show(self, done: int) -> None:
        """So many events are done."""
        ...


class Bar:
    """A bar on the terminal of *console*."""

    def __init__(self, console: Console, title: str, total: int | None, done: int) -> None:
        self._first = done
        self._progress = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(title, total=total, completed=done, rate="")

    def __enter__(self) -> Self:
        """Draw it."""
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take it away."""
        self._progress.stop()

    def show(self, done: int) -> None:
        """Move it."""
        task = self._progress.tasks[0]
        elapsed_s = task.elapsed or 0.0
        rate = f"{(done - self._first) / elapsed_s:,.0f}/s" if elapsed_s else ""
        self._progress.update(self._task, completed=done, rate=rate)


class Lines:
    """A line on standard error every ten seconds."""

    def __init__(self, clock: Clock, title: str, total: int | None, done: int) -> None:
        self._clock = clock
        self._title = title
        self._total = total
        self._first = done
        self._begun_s = self._told_s = clock.monotonic_s()

    def __enter__(self) -> Self:
        """Begin to count the time."""
        self._begun_s = self._told_s = self._clock.monotonic_s()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Say nothing more."""

    def show(self, done: int) -> None:
        """Tell it, when it is time to."""
        now_s = self._clock.monotonic_s()
        if now_s - self._told_s < _EVERY_S:
            return
        self._told_s = now_s
        rate = (done - self._first) / (now_s - self._begun_s)
        line = f"{self._title}: {done:,}"
        if self._total is not None:
            line += f" of {self._total:,}"
        line += f", {rate:,.0f}/s"
        if self._total is not None and rate:
            line += f", {format_duration((self._total - done) / rate)} left"
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


def build_display(clock: Clock, title: str, total: int | None, done: int) -> Display:
    """A bar where standard error is a terminal, else lines."""
    console = Console(stderr=True)
    if console.is_terminal:
        return Bar(console, title, total, done)
    return Lines(clock, title, total, done)


@contextmanager
def surveying(clock: Clock) -> Iterator[Callable[[int], None]]:
    """What hears how many rows a first look has read; shown like a replay's progress."""
    with build_display(clock, "reading", None, 0) as display:
        yield display.show


def format_duration(seconds: float) -> str:
    """*seconds* for people: ``12 s``, ``3 min``, ``5.2 h``, ``12 days``."""
    for limit, unit, size in ((120, "s", 1), (7_200, "min", 60), (172_800, "h", 3_600)):
        if seconds < limit:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86_400:.0f} days"
