"""Reads the decisions of a replay (Parquet) or of Firehose (JSON lines) into columns."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from consumer.errors import Misconfigured, Problem
from consumer.evaluation.batches import problem, read_batches
from consumer.evaluation.decisions import (
    BANDS,
    OUTCOMES,
    SCORES,
    UNLABELLED,
    Decisions,
    Floats,
    Indices,
    RuleHits,
)
from consumer.evaluation.distribution import OF_CHUNKS

_TEXTS: Final = pa.list_(pa.string())
_WANTED: Final = pa.schema(
    {
        "transaction_id": pa.string(),
        "event_time": pa.timestamp("ms"),
        "card_id": pa.string(),
        "base_amount": pa.float64(),
        "decision": pa.string(),
        "fraud_score": pa.float64(),
        "anomaly_score": pa.float64(),
        **dict.fromkeys(BANDS, pa.float64()),
        "rules": _TEXTS,
        "shadow_rules": _TEXTS,
        "degraded": _TEXTS,
        "fraud": pa.bool_(),
        "received_time": pa.timestamp("ms"),
        "decided_time": pa.timestamp("ms"),
    }
)
_REQUIRED: Final = frozenset({"transaction_id", "event_time", "card_id", "base_amount", "decision"})
_CHUNKS: Final = pa.schema({"rows": pa.int64(), "latency_ms": pa.float64()})
_CHUNKS_SUFFIX: Final = ".latency.parquet"
_LIVE: Final = "from receiving a record to its decision"


def read_decisions(files: Sequence[Path]) -> Decisions:
    """
    Read *files* into columns: of a transaction that occurs again, the first row stands.

    How long the chunks of a replay took stands beside its ``NAME.parquet`` in
    ``NAME.latency.parquet``. Raises Misconfigured, naming file and row, for what is no
    decision, and where none is.
    """
    gathering = _Gathering()
    files = [path for path in files if not path.name.endswith(_CHUNKS_SUFFIX)]
    for path in files:
        beside = path.with_name(path.name.removesuffix(".parquet") + _CHUNKS_SUFFIX)
        if beside.is_file():
            gathering.add_chunks(beside)
        for batch in read_batches(path, _WANTED, _REQUIRED):
            gathering.add(path, batch)
    if not gathering.rows:
        found, names = f"no row in {len(files):,} files", ", ".join(map(str, files[:3]))
        raise Misconfigured([Problem("arguments", "DECISIONS", found, f"decisions in {names}")])
    return gathering.finish(len(files))


@dataclass(slots=True)
class _Hits:
    """The hits of rules so far; most rows have none."""

    names: dict[str, int] = field(default_factory=dict)
    rows: list[Indices] = field(default_factory=list)
    rules: list[Any] = field(default_factory=list)

    def add(self, column: Any, first: int) -> None:
        parents = np.asarray(pc.list_parent_indices(column))
        if not len(parents):
            return
        told = pc.list_flatten(column).dictionary_encode()
        codes = np.array(
            [self.names.setdefault(str(name), len(self.names)) for name in told.dictionary],
            dtype=np.int32,
        )
        self.rows.append(parents.astype(np.int64) + first)
        self.rules.append(codes[np.asarray(told.indices)])

    def finish(self, place: Indices) -> RuleHits:
        """The hits by final row: *place* holds for each row read its new one, -1 if it went."""
        none = np.empty(0, dtype=np.int64)
        rows = place[np.concatenate([none, *self.rows])]
        rules = np.concatenate([none, *self.rules]).astype(np.int32)
        names = sorted(self.names)
        order = np.argsort(np.argsort(list(self.names), kind="stable"), kind="stable")
        if len(rules):
            rules = order.astype(np.int32)[rules]
        pairs = np.unique(np.stack([rows, rules])[:, rows >= 0], axis=1)
        return RuleHits(tuple(names), pairs[0], pairs[1].astype(np.int32))


@dataclass(slots=True)
class _Gathering:
    """Columns that grow by batches."""

    rows: int = 0
    parts: dict[str, list[Any]] = field(default_factory=dict)
    cards: dict[str, int] = field(default_factory=dict)
    live: _Hits = field(default_factory=_Hits)
    shadow: _Hits = field(default_factory=_Hits)
    causes: Counter[str] = field(default_factory=Counter)
    bands: Counter[tuple[float | None, ...]] = field(default_factory=Counter)
    latency_ms: list[Floats] = field(default_factory=list)
    latency_rows: list[Floats] = field(default_factory=list)
    latency_of: str | None = None

    def add_chunks(self, path: Path) -> None:
        """Take over how long the chunks of a replay took. Raises Misconfigured."""
        for batch in read_batches(path, _CHUNKS, frozenset(_CHUNKS.names)):
            self.latency_ms.append(_floats(batch["latency_ms"]))
            self.latency_rows.append(np.asarray(batch["rows"], dtype=np.float64))
            self.latency_of = OF_CHUNKS

    def add(self, path: Path, batch: Any) -> None:
        """Take over *batch* of *path*. Raises Misconfigured."""
        ids = batch["transaction_id"].to_pylist()
        scores = {name: _floats(batch[f"{name}_score"]) for name in SCORES}
        label = np.asarray(pc.fill_null(pc.cast(batch["fraud"], pa.int8()), UNLABELLED))
        self._keep(
            identity=np.fromiter(map(hash, ids), dtype=np.int64, count=len(ids)),
            time_ms=np.asarray(batch["event_time"].cast(pa.int64())),
            card=self._cards(batch["card_id"]),
            amount=_amounts(path, batch["base_amount"]),
            outcome=_outcomes(path, batch["decision"]),
            label=label,
            banded=self._banded(batch, scores),
            degraded=self._degraded(batch["degraded"]),
            **scores,
        )
        self._time(batch)
        self.live.add(batch["rules"], self.rows)
        self.shadow.add(batch["shadow_rules"], self.rows)
        self.rows += len(ids)

    def finish(self, files: int) -> Decisions:
        """All of it in order of time, each transaction once."""
        identity = np.concatenate(self.parts.pop("identity"))
        time_ms = np.concatenate(self.parts.pop("time_ms"))
        _, first = np.unique(identity, return_index=True)
        kept = first[np.argsort(time_ms[first], kind="stable")]
        place = np.full(self.rows, -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        columns: dict[str, Any] = {"identity": identity[kept], "time_ms": time_ms[kept]}
        del identity, time_ms, first
        # One after another, so that hardly more than the columns themselves is held.
        for name in list(self.parts):
            columns[name] = np.concatenate(self.parts.pop(name))[kept]
        rank = np.empty(len(self.cards), dtype=np.int32)
        rank[np.array(sorted(range(len(rank)), key=list(self.cards).__getitem__))] = np.arange(
            len(rank), dtype=np.int32
        )
        columns["card"] = rank[columns["card"]]
        return Decisions(
            scores={name: columns.pop(name) for name in SCORES},
            live=self.live.finish(place),
            shadow=self.shadow.finish(place),
            causes=dict(sorted(self.causes.items())),
            bands=dict(self.bands.most_common()),
            cards=len(self.cards),
            repeated=self.rows - len(kept),
            files=files,
            latency_ms=np.concatenate([np.empty(0), *self.latency_ms]),
            latency_rows=np.concatenate([np.empty(0), *self.latency_rows]),
            latency_of=self.latency_of,
            **columns,
        )

    def _keep(self, **columns: Any) -> None:
        for name, column in columns.items():
            self.parts.setdefault(name, []).append(column)

    def _cards(self, column: Any) -> Any:
        told = column.dictionary_encode()
        codes = [self.cards.setdefault(str(name), len(self.cards)) for name in told.dictionary]
        return np.array(codes, dtype=np.int32)[np.asarray(told.indices)]

    def _banded(self, batch: Any, scores: Mapping[str, Floats]) -> Any:
        limits = {name: _floats(batch[name]) for name in BANDS}
        together = np.stack(list(limits.values()), axis=1)
        # Thresholds hardly ever change, so runs of equal ones are few.
        absent = np.isnan(together)
        same = (together[1:] == together[:-1]) | (absent[1:] & absent[:-1])
        starts = np.flatnonzero(np.r_[True, ~same.all(axis=1)])
        lengths = np.diff(np.r_[starts, len(together)])
        for kind, count in zip(together[starts].tolist(), lengths.tolist(), strict=True):
            key = tuple(None if math.isnan(value) else value for value in kind)
            if any(value is not None for value in key):
                self.bands[key] += count
        # Nothing is greater than NaN, so an absent score or band flags nothing.
        flags = [scores[BANDS[name]] >= limit for name, limit in limits.items()]
        return np.logical_or.reduce(flags)

    def _degraded(self, column: Any) -> Any:
        self.causes.update(map(str, pc.list_flatten(column)))
        return np.asarray(pc.fill_null(pc.list_value_length(column), 0)) > 0

    def _time(self, batch: Any) -> None:
        """Live rows tell how long they took; a replay's clock stands at the event's time."""
        replayed = pc.equal(batch["received_time"], batch["event_time"])
        taken = pc.subtract(batch["decided_time"], batch["received_time"])
        taken = taken.filter(pc.invert(pc.fill_null(replayed, fill_value=True))).drop_null()
        if len(taken):
            self.latency_ms.append(np.asarray(taken.cast(pa.int64()), dtype=np.float64))
            self.latency_rows.append(np.ones(len(taken)))
            self.latency_of = self.latency_of or _LIVE


def _floats(column: Any) -> Floats:
    """The values, NaN for null."""
    return np.asarray(pc.fill_null(column, math.nan), dtype=np.float64)


def _amounts(path: Path, column: Any) -> Floats:
    amounts = _floats(column)
    if not np.isfinite(amounts).all():
        raise problem(path, "base_amount", "a value that is no number", "money in base currency")
    return amounts


def _outcomes(path: Path, column: Any) -> Any:
    numbers = pc.index_in(column, pa.array(OUTCOMES))
    if numbers.null_count:
        unknown = column.filter(pc.is_null(numbers))[0]
        raise problem(path, "decision", repr(unknown.as_py()), f"one of {', '.join(OUTCOMES)}")
    return np.asarray(numbers).astype(np.int8)
