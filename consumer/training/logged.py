"""
Training rows out of the vectors that were logged when decisions were made.

Log and wait: the rows that Firehose delivered carry every feature as the rules and models saw
it, and labels join them weeks later. Rows of an earlier list of features say nothing about
the present one; a degraded row was decided without a score, in circumstances that models
should not learn from. Both are left out and counted.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq

from consumer.errors import Misconfigured, Problem
from consumer.evaluation.batches import is_parquet, translated
from consumer.evaluation.label_source import Labels
from consumer.evaluation.rows import read_rows
from consumer.training.dataset_file import (
    FEATURE_PREFIX,
    METADATA_KEY,
    Block,
    DatasetWriter,
    Head,
)

_ROWS: Final = 5_000
_FIELDS: Final = ("transaction_id", "event_time", "card_id", "base_amount")
_COLUMNS: Final[tuple[str, ...]] = tuple(each.name for each in fields(Block))
_DATASET_ONLY: Final = frozenset({"amount", "fraud", "label_time"})
_OTHERS: Final = ("feature_hash", "degraded", "fraud", "label_time")


@dataclass(frozen=True, slots=True)
class Log:
    """Files of decisions, the list of features that is wanted, and labels for them, if any."""

    files: tuple[Path, ...]
    names: tuple[str, ...]
    feature_hash: str
    labels: Labels | None = None
    label_delay_s: int = 0


@dataclass(slots=True)
class _Gathered:
    """Columns of rows that wait to be written."""

    columns: dict[str, list[Any]] = field(default_factory=lambda: {n: [] for n in _COLUMNS})

    def add(self, *values: object) -> None:
        for name, value in zip(_COLUMNS, values, strict=True):
            self.columns[name].append(value)

    def take(self) -> Block:
        block = Block(**self.columns)
        self.columns = {name: [] for name in _COLUMNS}
        return block

    def __len__(self) -> int:
        return len(self.columns["times_ms"])


def is_dataset(path: Path) -> bool:
    """
    Whether *path* is a data set, rather than decisions.

    Raises Misconfigured, also for a data set whose metadata was lost.
    """
    with translated(path):
        if not is_parquet(path):
            return False
        read = pq.read_metadata(path)
    if METADATA_KEY in (read.metadata or {}):
        return True
    columns = set(read.schema.to_arrow_schema().names)
    if columns >= _DATASET_ONLY and "decision" not in columns:
        found = "columns of a data set without its metadata `fraudstream`, as of a copy that "
        found += "another program wrote"
        expected = "the file as fraudstream replay --to dataset wrote it (docs/training.md)"
        raise Misconfigured([Problem(str(path), "the file", found, expected)])
    return False


def write_logged(log: Log, path: Path) -> Mapping[str, int]:
    """
    Write the usable rows of *log* as the data set *path*, in the order they were logged.

    Returns how many rows were ``read``, ``used`` and left out: as ``degraded``, of
    ``other_features``, or as ``repeated`` (Firehose delivers a row at least once). Raises
    Misconfigured, naming file and row, for what is no decision, and where nothing is left.
    """
    counts: Counter[str] = Counter(read=0, used=0, degraded=0, other_features=0, repeated=0)
    head = Head(
        features=log.names,
        feature_hash=log.feature_hash,
        label_delay_s=log.label_delay_s,
        source=tuple(file.name for file in log.files),
        order="arrival",
    )
    waiting = _Gathered()
    with DatasetWriter(path, head) as writer:
        for values in _usable(log, counts):
            waiting.add(*values)
            if len(waiting) == _ROWS:
                writer.write(waiting.take())
        writer.write(waiting.take())
        if not counts["used"]:
            raise _nothing(log, counts)
    return dict(counts)


def _usable(log: Log, counts: Counter[str]) -> Iterator[tuple[object, ...]]:
    """Yield the columns of a Block for each row that can be learnt from."""
    columns = [FEATURE_PREFIX + name for name in log.names]
    wanted = {*_FIELDS, *_OTHERS, *columns}
    seen: set[int] = set()
    for path in log.files:
        for place, row in read_rows(path, wanted):
            counts["read"] += 1
            _check(path, place, row, _FIELDS)
            name = row["transaction_id"]
            identity = hash(name)
            cause = _cause(log, row, repeated=identity in seen)
            counts[cause] += 1
            if cause != "used":
                continue
            seen.add(identity)
            _check(path, place, row, columns)
            fraud, known_ms = _label(log, row)
            yield (
                name,
                _milliseconds(path, place, row["event_time"]),
                row["card_id"],
                float(row["base_amount"]),
                fraud,
                known_ms,
                _values(path, place, row, columns),
            )


def _cause(log: Log, row: Mapping[str, Any], *, repeated: bool) -> str:
    if row.get("feature_hash") != log.feature_hash:
        return "other_features"
    if row.get("degraded"):
        return "degraded"
    return "repeated" if repeated else "used"


def _label(log: Log, row: Mapping[str, Any]) -> tuple[bool | None, int | None]:
    """Take the label of the source, else the one that a replay wrote into the row."""
    if log.labels is not None:
        fraud, known_ms = log.labels.known(row["transaction_id"])
        if fraud is not None:
            return fraud, known_ms
    known = row.get("label_time")
    return row.get("fraud"), None if known is None else _parse(known)


def _check(path: Path, place: str, row: Mapping[str, Any], names: Sequence[str]) -> None:
    missing = next((name for name in names if row.get(name) is None), None)
    if missing is not None:
        raise _problem(path, place, f"no {missing}", "a row of decisions, with its features")


def _values(path: Path, place: str, row: Mapping[str, Any], columns: Sequence[str]) -> list[float]:
    values = [row[name] for name in columns]
    for name, value in zip(columns, values, strict=True):
        if not isinstance(value, int | float) or not np.isfinite(value):
            raise _problem(path, place, f"{name} {str(value)[:20]!r}", "a finite number")
    return values


def _milliseconds(path: Path, place: str, time: object) -> int:
    try:
        return _parse(time)
    except ValueError as error:
        found = f"event_time {str(time)[:40]!r}"
        raise _problem(path, place, found, "a time such as 2026-06-01 12:00:01.250") from error


def _parse(time: object) -> int:
    moment = time if isinstance(time, datetime) else datetime.fromisoformat(str(time))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _nothing(log: Log, counts: Mapping[str, int]) -> Misconfigured:
    left = ", ".join(f"{counts[name]:,} {name}" for name in ("other_features", "degraded"))
    found = f"no usable row of {counts['read']:,} ({left})"
    expected = f"rows of the feature list {log.feature_hash[:12]}… of features.path; --features "
    expected += "names another file"
    return _problem(log.files[0], "feature_hash", found, expected)


def _problem(path: Path, key: str, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem(str(path), key, found, expected)])
