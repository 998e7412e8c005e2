"""Where a replay goes: what every target can do, and what its results are."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from consumer.document import milliseconds
from consumer.errors import Misconfigured, Problem
from consumer.model import Label, LabelEffect, LabelValue
from consumer.replay.chunks import Chunk


@dataclass(frozen=True, slots=True)
class Result:
    """
    What a finished target leaves: its files, and what there is to say of it.

    ``counts`` are added to those so far, and may be negative: the end may tell of another kind.
    """

    files: tuple[str, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)


class Target(Protocol):
    """
    One way of a replay. Chunks come in order; their work may overlap.

    Methods raise Unavailable when what they need stops answering for longer than it is waited
    for, and Misconfigured for state that cannot be written to.
    """

    counts: Counter[str]

    def work(self, chunk: Chunk) -> None:
        """Begin to work *chunk*; what was begun before may be waited for."""
        ...

    def save(self) -> dict[str, object]:
        """
        Finish everything that was begun, and return what a resume has to know of it.

        Results up to here are on disk then, or where they go to.
        """
        ...

    def finish(self) -> Result:
        """Make the results out of everything that was saved."""
        ...

    def close(self) -> None:
        """Let go of threads and files; what was not saved is lost."""
        ...


def no_rows(path: Path) -> Misconfigured:
    """That nothing could be written to *path*."""
    expected = "a transaction in the selection that entity state does not know yet"
    return Misconfigured([Problem(str(path), "rows", "none", expected)])


def effect_of(label: Label) -> LabelEffect | None:
    """
    What *label* means for entity state by the keys and the time that it carries itself.

    None where it has none: then only a decision document could tell.
    """
    if label.event_time is None or not label.keys:
        return None
    return LabelEffect(
        transaction_id=label.transaction_id,
        label_id=label.label_id,
        fraud=label.label is LabelValue.FRAUD,
        label_time_ms=milliseconds(label.label_time),
        event_time_s=milliseconds(label.event_time) // 1000,
        keys=label.keys,
    )
