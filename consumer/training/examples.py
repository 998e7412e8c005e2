"""
What models learn from: labelled rows, of which only the chosen ones are in memory.

Times and labels of all rows are read first, and choose; then the features of the chosen rows
are read, one row group after the other.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from consumer.errors import Misconfigured, Problem
from consumer.training.dataset import Dataset
from consumer.training.dataset_file import NEVER_MS, DatasetFile, Index, open_dataset
from consumer.training.split import Period

Rows = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_SHOWN_HASH = 12
_SHOWN_SOURCES = 3


class Examples(Protocol):
    """Labelled rows: an index of all of them, and features on demand."""

    @property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of the columns."""
        ...

    @property
    def feature_hash(self) -> str:
        """The hash of the plan that they were made with."""
        ...

    @property
    def index(self) -> Index:
        """Times and labels of all n rows."""
        ...

    def read(self, chosen: Mask) -> Iterator[Rows]:
        """Yield the features of the *chosen* rows, shape (n,), in order, piece by piece."""
        ...

    def describe(self) -> list[dict[str, Any]]:
        """Say what the rows are, each data set by its hash."""
        ...


@dataclass(frozen=True, slots=True)
class Limit:
    """The most rows to keep in memory, and the seed that draws them."""

    rows: int
    seed: int


@dataclass(frozen=True, slots=True)
class Part:
    """
    The rows of a period in order of time, as they are known at some moment.

    ``rows`` has shape (k, d), all else (k,). ``fraud`` is what was known then, ``weights``
    how many rows each stands for, ``late`` the number of frauds that were not yet known.
    """

    period: Period
    rows: Rows
    fraud: Mask
    times_ms: npt.NDArray[np.int64]
    label_times_ms: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    late: int

    @property
    def frauds(self) -> int:
        """How many are known frauds."""
        return int(self.fraud.sum())

    @property
    def total(self) -> int:
        """The rows that these stand for."""
        return round(float(self.weights.sum(dtype=np.float64)))

    def cut(self, period: Period, known_ms: int) -> "Part":
        """Return the rows of *period* as they were known at *known_ms*."""
        chosen = period.holds(self.times_ms)
        known = self.fraud[chosen] & (self.label_times_ms[chosen] <= known_ms)
        return Part(
            period,
            self.rows[chosen],
            known,
            self.times_ms[chosen],
            self.label_times_ms[chosen],
            self.weights[chosen],
            int(self.fraud[chosen].sum() - known.sum()),
        )


@dataclass(frozen=True, slots=True)
class InMemory:
    """A data set that was made in this process, every label known."""

    dataset: Dataset

    @property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of the columns."""
        return self.dataset.names

    @property
    def feature_hash(self) -> str:
        """The hash of the plan that they were made with."""
        return self.dataset.feature_hash

    @property
    def index(self) -> Index:
        """Times and labels; these were known at once."""
        times = self.dataset.times_s * 1000
        labels = self.dataset.fraud.astype(np.int8)
        as_of_ms = int(times.max(initial=0))
        return Index(times, labels, times, np.arange(len(times)), as_of_ms)

    def read(self, chosen: Mask) -> Iterator[Rows]:
        """Yield the *chosen* rows at once."""
        yield self.dataset.rows[chosen]

    def describe(self) -> list[dict[str, Any]]:
        """Hash what is in memory."""
        parts = (self.dataset.times_s, self.dataset.fraud, self.dataset.rows)
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))
        return [{"name": "memory", "sha256": digest.hexdigest(), "rows": len(self.dataset.rows)}]


@dataclass(frozen=True, slots=True)
class Files:
    """Data sets of one list of features, one after the other."""

    files: tuple[DatasetFile, ...]
    index: Index

    @property
    def names(self) -> tuple[str, ...]:
        """The features, in the order of the columns."""
        return self.files[0].head.features

    @property
    def feature_hash(self) -> str:
        """The hash of the plan that they were made with."""
        return self.files[0].head.feature_hash

    def read(self, chosen: Mask) -> Iterator[Rows]:
        """Yield the *chosen* rows by row group. Raises Misconfigured for what is no number."""
        first = 0
        for file in self.files:
            yield from file.read_rows(chosen[first : first + file.rows])
            first += file.rows

    def describe(self) -> list[dict[str, Any]]:
        """Hash every file."""
        return [
            {
                "name": file.path.name,
                "sha256": _hash_file(file.path),
                "rows": file.rows,
                "first_time": file.head.first_time,
                "last_time": file.head.last_time,
                "package": file.head.package,
                "source": list(file.head.source[:_SHOWN_SOURCES]),
                "sources": len(file.head.source),
            }
            for file in self.files
        ]


def open_files(paths: Sequence[Path]) -> Files:
    """
    Open the data sets *paths*, files or folders of them.

    Raises Misconfigured, naming the file, when one is none, their features differ, a
    transaction stands in them twice, or not one row has a label.
    """
    files = [open_dataset(path) for path in _find(paths)]
    _check_alike(files)
    files.sort(key=lambda file: (file.head.first_time or "", file.path.name))
    parts = [_with_label_times(file) for file in files]
    index = Index(
        np.concatenate([part.times_ms for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.label_times_ms for part in parts]),
        np.concatenate([part.keys for part in parts]),
        max(part.as_of_ms for part in parts),
    )
    _check_once(files, index.keys)
    if not (index.labels >= 0).any():
        names = ", ".join(str(file.path) for file in files)
        expected = "labels: --map label=COLUMN or --labels SOURCE of the replay that wrote it"
        raise Misconfigured(
            [Problem(names, "fraud", f"{len(index.labels)} rows, no label", expected)]
        )
    return Files(tuple(files), index)


def load(examples: Examples, chosen: Mask, period: Period, known_ms: int, limit: Limit) -> Part:
    """
    Read the *chosen* rows of *period*, with the labels known at *known_ms*.

    Above ``limit.rows`` all frauds and a seeded sample of the legitimate rows stand for all.
    """
    index = examples.index
    within = chosen & period.holds(index.times_ms)
    fraud = index.labels == 1
    known = fraud & (index.label_times_ms <= known_ms)
    kept, weight = _thin_out(within, known, limit)
    order = np.argsort(index.times_ms[kept], kind="stable")
    rows = np.empty((int(kept.sum()), len(examples.names)), np.float32)
    first = 0
    for piece in examples.read(kept):
        rows[first : first + len(piece)] = piece
        first += len(piece)
    in_order = np.array_equal(order, np.arange(len(order)))
    frauds = known[kept][order]
    return Part(
        period,
        rows if in_order else rows[order],
        frauds,
        index.times_ms[kept][order],
        index.label_times_ms[kept][order],
        np.where(frauds, 1.0, weight).astype(np.float32),
        int((within & fraud & ~known).sum()),
    )


def _thin_out(within: Mask, fraud: Mask, limit: Limit) -> tuple[Mask, float]:
    """Return the rows to keep, and how many legitimate ones each legitimate one stands for."""
    legitimate = np.flatnonzero(within & ~fraud)
    room = max(limit.rows - int((within & fraud).sum()), 1)
    if len(legitimate) <= room:
        return within, 1.0
    kept = within & fraud
    kept[np.random.default_rng(limit.seed).choice(legitimate, room, replace=False)] = True
    return kept, len(legitimate) / room


def _find(paths: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        parts = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
        if not parts:
            expected = "data sets (*.parquet) of fraudstream replay --to dataset"
            raise Misconfigured([Problem(str(path), "the folder", "none", expected)])
        found += parts
    return found


def _check_alike(files: Sequence[DatasetFile]) -> None:
    first = files[0]
    problems = [
        Problem(
            str(file.path),
            "feature_hash",
            f"{file.head.feature_hash[:_SHOWN_HASH]}… "
            f"({difference(file.head.features, first.head.features)})",
            f"{first.head.feature_hash[:_SHOWN_HASH]}… as in {first.path}: "
            "data sets of one list of features",
        )
        for file in files[1:]
        if file.head.feature_hash != first.head.feature_hash
        or file.head.features != first.head.features
    ]
    if problems:
        raise Misconfigured(problems)


def difference(found: Sequence[str], expected: Sequence[str]) -> str:
    """Say in a few words how the features *found* differ from those *expected*."""
    missing = [name for name in expected if name not in found]
    further = [name for name in found if name not in expected]
    words = [f"without {', '.join(missing)}"] if missing else []
    words += [f"with {', '.join(further)}"] if further else []
    if words:
        return " and ".join(words)
    for number, (here, wanted) in enumerate(zip(found, expected, strict=True), start=1):
        if here != wanted:
            return f"{here} in place {number}, where {wanted} belongs"
    return "the same names, defined in another way"


def _check_once(files: Sequence[DatasetFile], keys: npt.NDArray[np.int64]) -> None:
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if not len(again):
        return
    first = again[int(np.argmin(order[again + 1]))]
    places = [_place(files, int(order[first + step])) for step in (0, 1)]
    ids = [file.read_column("transaction_id")[row].as_py() for file, row in places]
    (file, row), (other, other_row) = places[1], places[0]
    found = f"{ids[1]} in row {row + 1}, which is row {other_row + 1} of {other.path} already "
    found += f"({len(again)} such rows)"
    raise Misconfigured([Problem(str(file.path), "transaction_id", found, "each transaction once")])


def _place(files: Sequence[DatasetFile], row: int) -> tuple[DatasetFile, int]:
    for file in files:
        if row < file.rows:
            return file, row
        row -= file.rows
    raise IndexError(row)


def _with_label_times(file: DatasetFile) -> Index:
    """Take a fraud without a label time as known after the delay of the data set."""
    index = file.read_index()
    untold = (index.labels == 1) & (index.label_times_ms == NEVER_MS)
    delayed = index.times_ms + file.head.label_delay_s * 1000
    known = np.where(untold, delayed, index.label_times_ms)
    return replace(index, label_times_ms=known)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
