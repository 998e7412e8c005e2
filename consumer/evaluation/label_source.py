"""
Labels from a source of their own: which transactions turned out to be fraud.

Three forms are known: label events as on the stream (JSON lines with ``transaction_id``,
``label``, ``label_time``; other events between them are passed over), a table as CSV or
Parquet or JSON lines with ``transaction_id`` and ``label`` or ``fraud``, and the data sets and
decisions of a replay, which have ``fraud``. Of several labels of one transaction the one with
the newest ``label_time`` wins, and of those the one that was read last.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from consumer.errors import Misconfigured, Problem
from consumer.evaluation.batches import open_lines, problem, read_batches, translated
from consumer.evaluation.decisions import FRAUD, LEGITIMATE, UNLABELLED, Decisions, Indices
from consumer.masking import mask_text

_WORDS: Final = {
    **dict.fromkeys(("fraud", "true", "1", "1.0", "yes"), FRAUD),
    **dict.fromkeys(("legitimate", "false", "0", "0.0", "no"), LEGITIMATE),
    "": UNLABELLED,
}
_TABLE: Final = pa.schema(
    {
        "transaction_id": pa.string(),
        "type": pa.string(),
        "label": pa.string(),
        "fraud": pa.string(),
        "label_time": pa.timestamp("ms"),
    }
)
_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Labels:
    """
    Labels by the hash of their transaction, see ``Decisions.identity``, which rises.

    ``time_ms`` says when each became known, 0 where its source does not.
    """

    identity: Indices
    label: npt.NDArray[np.int8]
    time_ms: Indices

    def of(self, transaction_id: str) -> bool | None:
        """Whether that transaction was fraud; None where these do not say."""
        return self.known(transaction_id)[0]

    def known(self, transaction_id: str) -> tuple[bool | None, int | None]:
        """Whether that transaction was fraud, and since when that is known; None as untold."""
        identity = hash(transaction_id)
        place = int(np.searchsorted(self.identity, identity))
        if place == len(self.identity) or self.identity[place] != identity:
            return None, None
        return bool(self.label[place] == FRAUD), int(self.time_ms[place]) or None

    def apply(self, decisions: Decisions) -> Decisions:
        """Return *decisions* with these labels; what these do not name keeps its own."""
        if not len(self.identity):
            return decisions
        place = np.searchsorted(self.identity, decisions.identity)
        place[place == len(self.identity)] = 0
        known = self.identity[place] == decisions.identity
        return replace(decisions, label=np.where(known, self.label[place], decisions.label))


def read_labels(files: Sequence[Path]) -> Labels:
    """Read the labels of *files*. Raises Misconfigured, naming file and value."""
    parts: list[tuple[Any, Any, Any]] = []
    for path in files:
        for batch in _batches(path):
            ids = batch["transaction_id"]
            numbers = _numbers(path, pc.coalesce(batch["label"], batch["fraud"]))
            kept = numbers != UNLABELLED
            times = np.asarray(pc.fill_null(batch["label_time"].cast(pa.int64()), 0))
            hashes = np.fromiter(map(hash, ids.to_pylist()), dtype=np.int64, count=len(ids))
            parts.append((hashes[kept], numbers[kept], times[kept]))
    if not any(len(part[0]) for part in parts):
        found = f"no label in {', '.join(map(str, files[:3]))}"
        expected = "transaction_id with label or fraud, or label events"
        raise Misconfigured([Problem("arguments", "--labels", found, expected)])
    identity, label, time = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Stable: among equal times the one that was read last stays last, and so wins.
    order = np.lexsort((time, identity))
    identity, label, time = identity[order], label[order], time[order]
    last = np.r_[identity[1:] != identity[:-1], True]
    return Labels(identity[last], label[last].astype(np.int8), time[last])


def _batches(path: Path) -> Iterator[Any]:
    if ".csv" in path.suffixes:
        with translated(path):
            yield from _of_csv(path)
        return
    for batch in read_batches(path, _TABLE, frozenset()):
        other = pc.fill_null(pc.not_equal(batch["type"], "label"), fill_value=False)
        yield batch.filter(pc.and_(pc.invert(other), pc.is_valid(batch["transaction_id"])))


def _of_csv(path: Path) -> Iterator[Any]:
    with io.TextIOWrapper(open_lines(path), encoding="utf-8-sig", newline="") as file:
        table = csv.DictReader(file)
        names = table.fieldnames or []
        if "transaction_id" not in names or not {"label", "fraud"} & set(names):
            expected = "transaction_id, and label or fraud"
            raise problem(path, "header", ", ".join(names) or "nothing", expected)
        rows: list[dict[str, Any]] = []
        for row in table:
            rows.append(row)
            if len(rows) == _ROWS:
                yield _table(path, rows)
                rows = []
        if rows:
            yield _table(path, rows)


def _table(path: Path, rows: list[dict[str, Any]]) -> Any:
    arrays = [
        pa.array([row.get(name) or None for row in rows], pa.string()) for name in _TABLE.names
    ]
    try:
        times = pc.cast(pc.cast(arrays[-1], pa.timestamp("ms", "UTC")), pa.timestamp("ms"))
    except pa.ArrowInvalid:
        times = _plain_times(path, arrays[-1])
    return pa.record_batch([*arrays[:-1], times], schema=_TABLE)


def _plain_times(path: Path, column: Any) -> Any:
    try:
        return pc.cast(column, pa.timestamp("ms"))
    except pa.ArrowInvalid as error:
        raise problem(path, "label_time", mask_text(str(error)), "2026-06-01T12:00:00Z") from error


def _numbers(path: Path, column: Any) -> npt.NDArray[np.int8]:
    told = pc.utf8_lower(pc.fill_null(column, "")).dictionary_encode()
    words = [str(word) for word in told.dictionary]
    unknown = next((word for word in words if word not in _WORDS), None)
    if unknown is not None:
        expected = "fraud or legitimate, true or false, 1 or 0"
        raise problem(path, "label", repr(mask_text(unknown)), expected)
    codes = np.array([_WORDS[word] for word in words], dtype=np.int8)
    numbers: npt.NDArray[np.int8] = codes[np.asarray(told.indices)]
    return numbers
