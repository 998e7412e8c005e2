"""
A history as a replay sees it: events in the order in which they became known.

A transaction is released at its event time, a label when it became known. Labels
come before the transactions of the same millisecond, then what stands earlier in
the listing of files, then the earlier row. The order is total, so an ordinal names
the same event at every run over the same input.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Slice:
    """
    Consecutive events of a history, in order of release.

    ``first`` is the ordinal of ``events[0]`` in the whole history, from 0: what a
    resume starts from. ``times_ms`` is when each is released: the event time, of a
    label its label time. ``events`` are as a producer would put them on the stream.
    ``kinds`` holds True for a transaction and False for a label.
    """

    first: int
    times_ms: list[int]
    events: list[bytes]
    kinds: list[bool]
    origin: Callable[[int], str] = field(repr=False)

    def __len__(self) -> int:
        return len(self.events)

    def place(self, index: int) -> str:
        """Where event *index* of the slice came from: ``s3://bucket/key, row 17``."""
        return self.origin(index)


@dataclass(frozen=True, slots=True)
class Sample:
    """A row as it stands in its file, and the events that it becomes; or what is wrong with it."""

    place: str
    raw: str
    events: Sequence[bytes]
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Outline:
    """
    What a look at a history tells before it is read.

    ``files`` are the addresses in listing order, ``formats`` those that occur.
    ``estimated_rows`` is exact where the files say it (Parquet), else by the size of
    the sampled rows. ``samples`` are the first rows.
    """

    files: Sequence[str]
    formats: Sequence[str]
    size_bytes: int
    estimated_rows: int
    samples: Sequence[Sample]


@dataclass(frozen=True, slots=True)
class Survey:
    """
    What a first pass over all rows found; ``rejected`` rows are in the rejects file.

    ``events`` counts what ``read`` delivers, but for exact repetitions, which it leaves out.
    Times are those of release; None where there is no event at all. ``examples`` tells of the
    first few rejected rows; ``unmatched_labels`` counts labels of a source of their own whose
    transaction is not in the history.
    """

    rows: int
    rejected: int
    events: int
    transactions: int
    labels: int
    first_ms: int | None
    last_ms: int | None
    unmatched_labels: int = 0
    examples: Sequence[str] = ()


class History(Protocol):
    """Events from files, whatever their format, number and order."""

    @property
    def fingerprint(self) -> str:
        """
        SHA-256 (hex) of all objects with their versions, mapping, order and label delay.

        A resume on other input is refused by it.
        """
        ...

    def outline(self) -> Outline:
        """Look at the files without reading them through. Raises Misconfigured."""
        ...

    def survey(self, on_rows: Callable[[int], None] | None = None) -> Survey:
        """
        Read every row once: check that it can be mapped, and learn what is in order.

        ``on_rows`` hears how many rows are done. Rows that cannot be mapped go to the
        rejects file; more than the allowed share of them raises Misconfigured. What was found is
        kept, so asking again costs nothing; ``read`` asks by itself.
        """
        ...

    def read(self, first: int = 0) -> Iterator[Slice]:
        """Read the events in order, from ordinal *first*. Memory is flat whatever the size."""
        ...
