"""
Decisions of a replay on a scratch Redis: the rows that Firehose would get, as one Parquet file.

The rows are those of ``row.py`` in its columns, then a column ``f_<name>`` a feature, further
fields ``x_<name>`` as text, and what the transaction turned out to be: ``fraud`` (null where
nobody said) and ``label_time``. Times of receiving and deciding are the event's own, so that two
replays of one history make equal files. How long decisions took is beside it, in
``<name>.latency.parquet``: a row a chunk, ``first`` (ordinal), ``rows``, ``latency_ms``.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
import pyarrow.parquet as pq

from consumer.document import DocumentFormat, build_document
from consumer.engine import Settled
from consumer.model import (
    Assessment,
    Label,
    Labelled,
    LabelOutcome,
    Record,
    Stored,
    StoredDecision,
)
from consumer.ports import Later, Pending
from consumer.replay.engine_target import is_repetition
from consumer.replay.parts import Parts
from consumer.replay.repeats import CONTENT_DIGITS, Repeats
from consumer.replay.target import Result, no_rows
from consumer.replay.truths import Labels, Truths
from consumer.row import COLUMNS, build_row

_ROW_GROUP_ROWS = 20_000
_TIMES = ("event_time", "arrival_time", "received_time", "decided_time")
_LISTS = ("reasons", "rules", "shadow_rules", "rule_errors", "degraded")
_NUMBERS = (
    *("amount", "base_amount", "latitude", "longitude"),
    *("fraud_score", "anomaly_score", "risk"),
    *("fraud_review", "fraud_decline", "anomaly_review"),
)
_TIME = pa.timestamp("ms", tz="UTC")
# The row of a repetition is null; its content tells whether it contradicts.
_ROWS = pa.schema(
    [
        ("ordinal", pa.int64()),
        ("transaction_id", pa.string()),
        ("content", pa.string()),
        ("row", pa.binary()),
    ]
)
_LATENCY = pa.schema([("first", pa.int64()), ("rows", pa.int32()), ("latency_ms", pa.float64())])


class UnkeptDocuments:
    """
    An EagerDocumentStore that keeps nothing: each assessment stands as its document.

    Only a purchase that every entity had counted is known to exist. What one was decided and
    received at is the transaction's arrival, whenever that is replayed.
    """

    def __init__(self, form: DocumentFormat) -> None:
        self._form = form

    def start(self, assessments: Sequence[Assessment]) -> Pending[list[StoredDecision]]:
        """Do as ``decide`` when asked for the result."""
        return Later(lambda: self.decide(assessments))

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]:
        """Return the document of each assessment as new, unless entity state knows it."""
        return [
            StoredDecision(
                Stored.EXISTING if is_repetition(each) else Stored.CREATED,
                build_document(replace(each, decided_ms=each.origin.arrival_ms), self._form),
            )
            for each in assessments
        ]

    def label(self, labels: Sequence[Label]) -> list[Labelled]:
        """There is no document to note them on."""
        return [Labelled(LabelOutcome.UNMATCHED) for _ in labels]


class _Saved(msgspec.Struct, frozen=True):
    rows: list[str] = msgspec.field(default_factory=list)
    labels: list[str] = msgspec.field(default_factory=list)
    latency: list[str] = msgspec.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns beside those of every row: names of features, and of further fields."""

    features: tuple[str, ...]
    extra: tuple[str, ...]


class DecisionsFile:
    """
    Collects decisions in *folder*, and at the end makes the file *path* of them.

    A purchase that every entity had counted before is a duplicate, which on a live Redis would
    find its document; it makes no row, and neither does any other event of an id that has one:
    the first decision stands.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        columns: Columns,
        saved: dict[str, object],
    ) -> None:
        known = msgspec.convert(saved, _Saved)
        self._path = path
        self._folder = folder
        self._columns = columns
        self._rows = Parts(folder, "rows", _ROWS, known.rows)
        self._latency = Parts(folder, "latency", _LATENCY, known.latency)
        self._labels = Labels(folder, known.labels)
        self._took: list[tuple[int, int, float]] = []

    def label(self, label: Label) -> None:
        """Keep *label* for the rows."""
        self._labels.add(label)

    def take(
        self, settled: Sequence[Settled], records: Sequence[Record], latency_ms: float
    ) -> None:
        """Keep the rows of a chunk (at least one)."""
        transactions = [each.assessment.transaction for each in settled]
        self._rows.write(
            [
                [record.position.sequence_number for record in records],
                [each.transaction_id for each in transactions],
                [each.digest[:CONTENT_DIGITS] for each in transactions],
                [None if is_repetition(each.assessment) else self._row(each) for each in settled],
            ]
        )
        self._took.append((records[0].position.sequence_number, len(settled), latency_ms))

    def save(self) -> dict[str, object]:
        """Put everything on disk."""
        if self._took:
            self._latency.write(list(zip(*self._took, strict=True)))
            self._took = []
        for parts in (self._rows, self._latency):
            parts.close_part()
        self._labels.close_part()
        saved = _Saved(self._rows.closed, self._labels.parts.closed, self._latency.closed)
        return msgspec.structs.asdict(saved)

    def finish(self) -> Result:
        """Join rows and labels into the file, each id once. Raises Misconfigured without a row."""
        if not self._rows.paths:
            raise no_rows(self._path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        latency = self._path.with_suffix(".latency.parquet")
        _write(latency, _LATENCY, self._latency.batches())
        repeats = Repeats.find(self._rows.paths, self._folder)
        counts: Counter[str] = Counter()
        with Truths(self._rows.paths, self._labels.parts.paths, self._folder) as truths:
            tables = (
                self._table(batch, _choose(batch, repeats, counts), truths)
                for batch in self._rows.batches()
            )
            _write(self._path, self._schema(), tables)
        return Result((str(self._path), str(latency)), counts=counts)

    def close(self) -> None:
        """Let go of open files."""
        for parts in (self._rows, self._latency, self._labels.parts):
            parts.abandon()

    def _row(self, settled: Settled) -> bytes:
        row = build_row(settled.stored.document)
        return _with_texts(row) if self._columns.extra else row

    def _schema(self) -> Any:
        fields = [pa.field(name, _type_of(name)) for name in COLUMNS]
        fields += [pa.field(f"f_{name}", pa.float64()) for name in self._columns.features]
        fields += [pa.field(f"x_{name}", pa.string()) for name in sorted(self._columns.extra)]
        return pa.schema([*fields, pa.field("fraud", pa.bool_()), pa.field("label_time", _TIME)])

    def _table(self, batch: Any, chosen: npt.NDArray[np.bool_], truths: Truths) -> Any:
        ordinals = batch.column("ordinal").to_numpy()
        truth = zip(*truths.of(ordinals), chosen.tolist(), strict=True)
        known = [(fraud, time_ms) for fraud, time_ms, wanted in truth if wanted]
        lines = b"".join(batch.column("row").filter(pa.array(chosen)).to_pylist())
        schema = self._schema()
        told = pa.schema(
            [
                pa.field(each.name, pa.timestamp("ms") if each.name in _TIMES else each.type)
                for each in schema
                if each.name not in ("fraud", "label_time")
            ]
        )
        table = pj.read_json(
            BytesIO(lines),
            read_options=pj.ReadOptions(use_threads=False, block_size=max(len(lines), 1) + 1),
            parse_options=pj.ParseOptions(explicit_schema=told, unexpected_field_behavior="ignore"),
        )
        columns = [
            pc.assume_timezone(table.column(name), "UTC") if name in _TIMES else table.column(name)
            for name in told.names
        ]
        columns.append(pa.array([fraud for fraud, _ in known], pa.bool_()))
        columns.append(pa.array([time_ms for _, time_ms in known], pa.int64()).cast(_TIME))
        return pa.Table.from_arrays(columns, schema=schema)


def _choose(batch: Any, repeats: Repeats, counts: "Counter[str]") -> npt.NDArray[np.bool_]:
    """Which rows of *batch* stand; *counts* learns what the others were counted as."""
    repeated, contradicting = repeats.among(batch.column("ordinal").to_numpy())
    written = ~batch.column("row").is_null().to_numpy(zero_copy_only=False)
    for row in batch.column("row").filter(pa.array(written & repeated)).to_pylist():
        fields = orjson.loads(row)
        counts.subtract(("decided", fields["decision"]))
        counts["degraded"] -= bool(fields.get("degraded"))
    conflicts = int(np.count_nonzero(contradicting))
    counts["conflict"] += conflicts
    # What was not written was counted so already.
    counts["existing"] += int(np.count_nonzero(written & repeated)) - conflicts
    stands: npt.NDArray[np.bool_] = written & ~repeated
    return stands


def _write(path: Path, schema: Any, tables: Any) -> None:
    """Write row groups of one size to *path*, which stands there only when it is whole."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    waiting: list[Any] = []
    with pq.ParquetWriter(partial, schema, compression="zstd") as writer:

        def flush(rows: int) -> None:
            table = pa.concat_tables(waiting)
            writer.write_table(table.slice(0, rows).combine_chunks(), row_group_size=rows)
            waiting[:] = [table.slice(rows)]

        for each in tables:
            waiting.append(each if isinstance(each, pa.Table) else pa.Table.from_batches([each]))
            while sum(map(len, waiting)) >= _ROW_GROUP_ROWS:
                flush(_ROW_GROUP_ROWS)
        if rest := sum(map(len, waiting)):
            flush(rest)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(path)


def _type_of(name: str) -> Any:
    if name in _TIMES:
        return _TIME
    if name in _LISTS:
        return pa.list_(pa.string())
    if name in _NUMBERS:
        return pa.float64()
    return pa.bool_() if name == "future" else pa.string()


def _with_texts(row: bytes) -> bytes:
    """*row* with its further fields as text, whatever they are."""
    fields = orjson.loads(row)
    for name, value in fields.items():
        if name.startswith("x_") and not isinstance(value, str):
            fields[name] = orjson.dumps(value).decode()
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
