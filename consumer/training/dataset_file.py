"""
Data sets as Parquet files: what replay writes and training reads.

One row a transaction, in order of event time: ``transaction_id``, ``event_time``,
``card_id``, ``amount`` in major units of the base currency, ``fraud`` (null where nobody
said), ``label_time`` (when that became known), then a column of doubles ``f_<name>`` for
each feature, as in the rows of decisions, in the order of the plan. The schema's metadata
says under ``fraudstream`` which features these are, by name and by hash, and what the
rows cover.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

import consumer
from consumer.errors import Misconfigured, Problem

METADATA_KEY: Final = b"fraudstream"
FEATURE_PREFIX: Final = "f_"
NEVER_MS: Final = np.iinfo(np.int64).max
"""The label time of a row that has none."""

ROW_GROUP_ROWS: Final = 20_000
"""Rows of a row group, however they were handed over: equal rows make equal files."""

_FORMAT: Final = 1
_ORDER: Final = "event_time"
_TIME: Final = pa.timestamp("ms", tz="UTC")
_FIXED: Final = (
    pa.field("transaction_id", pa.string(), nullable=False),
    pa.field("event_time", _TIME, nullable=False),
    pa.field("card_id", pa.string(), nullable=False),
    pa.field("amount", pa.float64(), nullable=False),
    pa.field("fraud", pa.bool_()),
    pa.field("label_time", _TIME),
)
_WHOLE: Final = "a data set of fraudstream replay --to dataset"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """
    What a data set says of itself; the four of the rows are known when it is closed.

    ``source`` names what it was made of; ``order`` is ``event_time`` or, of rows that were
    logged by several shards, ``arrival``. Times are RFC 3339, None without rows.
    """

    format: int = _FORMAT
    features: tuple[str, ...]
    feature_hash: str
    package: str = consumer.__version__
    label_delay_s: int = 0
    source: tuple[str, ...] = ()
    order: str = _ORDER
    first_time: str | None = None
    last_time: str | None = None
    rows: int = 0
    frauds: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """
    Rows to write, by column, all of n entries.

    Times are milliseconds since the epoch, ``amounts`` major units; ``frauds`` and
    ``label_times_ms`` hold None where nobody said. ``values`` has shape (n, d).
    """

    transaction_ids: Sequence[str]
    times_ms: Sequence[int]
    card_ids: Sequence[str]
    amounts: Sequence[float]
    frauds: Sequence[bool | None]
    label_times_ms: Sequence[int | None]
    values: Sequence[Sequence[float]] | npt.NDArray[np.float64]


@dataclass(slots=True)
class _Totals:
    rows: int = 0
    frauds: int = 0
    first_ms: int | None = None
    last_ms: int | None = None


class DatasetWriter:
    """
    Writes the data set *path*, which stands there only when it is whole.

    A context manager: closes at its end, and leaves nothing behind after an error. Equal
    rows in equal order make equal bytes, in whatever blocks they come.
    """

    def __init__(self, path: Path, head: Head) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        self._head = head
        self._schema = pa.schema([*_FIXED, *_feature_fields(head)])
        self._waiting: list[Any] = []
        self._waiting_rows = 0
        self._totals = _Totals()
        self._writer = pq.ParquetWriter(self._partial, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def write(self, block: Block) -> None:
        """
        Append *block*.

        Raises ValueError for rows older than those before them, for values of another
        width, and for a value that is no finite number.
        """
        if not len(block.transaction_ids):
            return
        times = np.asarray(block.times_ms, np.int64)
        self._check_order(times)
        values = np.asarray(block.values, np.float64)
        _check_values(values, self._head.features)
        columns = [
            pa.array(block.transaction_ids, pa.string()),
            pa.array(times, pa.int64()).cast(_TIME),
            pa.array(block.card_ids, pa.string()),
            pa.array(block.amounts, pa.float64()),
            pa.array(block.frauds, pa.bool_()),
            pa.array(block.label_times_ms, pa.int64()).cast(_TIME),
            *(pa.array(np.ascontiguousarray(values[:, at])) for at in range(values.shape[1])),
        ]
        self._waiting.append(pa.Table.from_arrays(columns, schema=self._schema))
        self._waiting_rows += len(times)
        self._count(times, block.frauds)
        if self._waiting_rows >= ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what waits and the head, and put the file in its place."""
        self._flush(rest=True)
        totals = self._totals
        head = msgspec.structs.replace(
            self._head,
            rows=totals.rows,
            frauds=totals.frauds,
            first_time=None if totals.first_ms is None else format_time(totals.first_ms),
            last_time=None if totals.last_ms is None else format_time(totals.last_ms),
        )
        self._writer.add_key_value_metadata({METADATA_KEY: msgspec.json.encode(head)})
        self._writer.close()
        with self._partial.open("rb") as written:
            os.fsync(written.fileno())
        self._partial.replace(self._path)

    def abandon(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):
            self._writer.close()
        self._partial.unlink(missing_ok=True)

    def _check_order(self, times: npt.NDArray[np.int64]) -> None:
        if self._head.order != _ORDER:
            return
        before = times[0] if self._totals.last_ms is None else self._totals.last_ms
        if times[0] < before or (np.diff(times) < 0).any():
            message = f"{self._path}: rows that are not in order of event time"
            raise ValueError(message)

    def _count(self, times: npt.NDArray[np.int64], frauds: Sequence[bool | None]) -> None:
        totals, first, last = self._totals, int(times.min()), int(times.max())
        totals.rows += len(times)
        totals.frauds += sum(1 for fraud in frauds if fraud)
        totals.first_ms = first if totals.first_ms is None else min(totals.first_ms, first)
        totals.last_ms = last if totals.last_ms is None else max(totals.last_ms, last)

    def _flush(self, *, rest: bool = False) -> None:
        """Write row groups of one size, and at the end what is left."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        whole = len(table) if rest else len(table) - len(table) % ROW_GROUP_ROWS
        for first in range(0, whole, ROW_GROUP_ROWS):
            part = table.slice(first, min(ROW_GROUP_ROWS, whole - first)).combine_chunks()
            self._writer.write_table(part, row_group_size=ROW_GROUP_ROWS)
        left = table.slice(whole)
        self._waiting = [left] if len(left) else []
        self._waiting_rows = len(left)


@dataclass(frozen=True, slots=True)
class Index:
    """
    What chooses rows, without their features; all of shape (n,) in the order of the file.

    ``labels`` is 1 for fraud, 0 for legitimate, -1 where nobody said;
    ``label_times_ms`` is ``NEVER_MS`` without one. ``keys`` are 64-bit hashes of the
    transaction ids, good within this process. All labels up to ``as_of_ms`` are in it.
    """

    times_ms: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]
    label_times_ms: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
    as_of_ms: int


@dataclass(frozen=True, slots=True)
class DatasetFile:
    """A data set that was opened: its head is checked, its rows are read when asked for."""

    path: Path
    head: Head
    _file: Any = field(repr=False)

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self._file.metadata.num_rows)

    def read_index(self) -> Index:
        """
        Read times and labels of every row.

        Raises Misconfigured, naming the row, for rows that the head says are in order of
        time and are not.
        """
        columns = ["transaction_id", "event_time", "fraud", "label_time"]
        groups = range(self._file.num_row_groups)
        parts = [_empty_index(), *(_index_of(self._read(group, columns)) for group in groups)]
        times = np.concatenate([part.times_ms for part in parts])
        back = np.flatnonzero(np.diff(times) < 0)
        if self.head.order == _ORDER and len(back):
            row = int(back[0]) + 1
            found = f"row {row + 1} of {format_time(int(times[row]))} after "
            found += format_time(int(times[row - 1]))
            raise _problem(self.path, "event_time", found, "rows in order of event time")
        return Index(
            times,
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.label_times_ms for part in parts]),
            np.concatenate([part.keys for part in parts]),
            self._as_of_ms(parts),
        )

    def _as_of_ms(self, parts: Sequence[Index]) -> int:
        """
        Return when the labels end: with the newest of them, or the rows.

        Where labels were released a delay after each transaction, that of the newest is in it.
        """
        newest = max(part.as_of_ms for part in parts)
        times = [int(part.times_ms.max(initial=0)) for part in parts]
        return max(newest, max(times) + self.head.label_delay_s * 1000)

    def read_rows(self, chosen: npt.NDArray[np.bool_]) -> Iterator[npt.NDArray[np.float32]]:
        """
        Yield the features of the *chosen* rows, a mask of shape (n,), by row group.

        Raises Misconfigured, naming feature and row, for what is no finite number in
        single precision, in which models are trained.
        """
        names, first = [FEATURE_PREFIX + name for name in self.head.features], 0
        for group in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            part = chosen[first : first + count]
            if part.any():
                yield self._rows_of(self._read(group, names), part, first)
            first += count

    def read_column(self, name: str) -> Any:
        """Read one column that is no feature, as an Arrow array."""
        return self._file.read(columns=[name]).column(name)

    def _read(self, group: int, columns: list[str]) -> Any:
        try:
            return self._file.read_row_group(group, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise _problem(self.path, f"row group {group}", _first_line(error), _WHOLE) from error

    def _rows_of(
        self, table: Any, chosen: npt.NDArray[np.bool_], first: int
    ) -> npt.NDArray[np.float32]:
        mask = pa.array(chosen)
        rows = np.empty((int(chosen.sum()), len(self.head.features)), np.float32)
        for at, name in enumerate(self.head.features):
            values = table.column(at).filter(mask).to_numpy()
            with np.errstate(over="ignore"):
                rows[:, at] = values
            bad = np.flatnonzero(~np.isfinite(rows[:, at]))
            if len(bad):
                row = first + int(np.flatnonzero(chosen)[bad[0]])
                found = f"{values[bad[0]]:g} in row {row + 1} ({len(bad)} such values near it)"
                raise _problem(self.path, name, found, "a finite number of single precision")
        return rows


def open_dataset(path: Path) -> DatasetFile:
    """
    Open the data set *path* and check what it says of itself.

    Raises Misconfigured, naming the file and what is wrong with it.
    """
    try:
        opened = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        found = "no such file" if isinstance(error, FileNotFoundError) else _first_line(error)
        raise _problem(path, "the file", found, _WHOLE) from error
    metadata = opened.metadata.metadata or {}
    if METADATA_KEY not in metadata:
        found = f"columns {', '.join(opened.schema_arrow.names[:6])} without its metadata"
        raise _problem(path, "the file", found, _WHOLE)
    try:
        head = msgspec.json.decode(metadata[METADATA_KEY], type=Head)
    except msgspec.DecodeError as error:
        raise _problem(path, METADATA_KEY.decode(), str(error), _WHOLE) from error
    if head.format != _FORMAT:
        raise _problem(path, "format", str(head.format), f"{_FORMAT}; a newer package wrote it")
    _check_columns(path, head, opened.schema_arrow)
    return DatasetFile(path, head, opened)


def format_time(time_ms: int) -> str:
    """A time as RFC 3339 in UTC with milliseconds."""
    moment = datetime.fromtimestamp(time_ms // 1000, UTC).replace(microsecond=time_ms % 1000 * 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _feature_fields(head: Head) -> list[Any]:
    return [pa.field(FEATURE_PREFIX + name, pa.float64()) for name in head.features]


def _check_columns(path: Path, head: Head, schema: Any) -> None:
    fields = [*_FIXED, *_feature_fields(head)]
    expected = [each.name for each in fields]
    found = list(schema.names)
    if found != expected:
        pairs = list(zip_longest(found, expected, fillvalue="nothing"))
        place = next(at for at, (here, wanted) in enumerate(pairs) if here != wanted)
        here, wanted = pairs[place]
        raise _problem(path, f"column {place + 1}", here, f"{wanted}, as its metadata says")
    for each in fields:
        kind = schema.field(each.name).type
        if kind != each.type:
            raise _problem(path, each.name, str(kind), str(each.type))


def _index_of(table: Any) -> Index:
    times = table.column("event_time").cast(pa.int64()).to_numpy()
    labels = table.column("fraud").cast(pa.int8()).fill_null(-1).to_numpy()
    known = table.column("label_time").cast(pa.int64()).fill_null(NEVER_MS).to_numpy()
    names = table.column("transaction_id").to_pylist()
    keys = np.fromiter((hash(name) for name in names), np.int64, len(names))
    newest = int(known[known != NEVER_MS].max(initial=0))
    return Index(times, labels.astype(np.int8), known, keys, newest)


def _empty_index() -> Index:
    none = np.empty(0, np.int64)
    return Index(none, np.empty(0, np.int8), none, none, 0)


def _check_values(values: npt.NDArray[np.float64], names: Sequence[str]) -> None:
    if values.shape[1:] != (len(names),):
        message = f"values of shape {values.shape}, expected (n, {len(names)})"
        raise ValueError(message)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        message = f"{names[bad[0][1]]} is {values[tuple(bad[0])]:g}, expected a finite number"
        raise ValueError(message)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _problem(path: Path, key: str, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem(str(path), key, found, expected)])
