"""
What transactions turned out to be, joined with rows that were written before it was known.

A label comes days after its transaction, so rows and labels are kept apart until the history
has ended. The newest label of a transaction counts, and of equal times the greater id, as in
entity state and on documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from consumer.document import milliseconds
from consumer.model import Label, LabelValue
from consumer.replay.parts import Parts

SCHEMA = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("label_time_ms", pa.int64()),
        ("label_id", pa.string()),
        ("fraud", pa.bool_()),
    ]
)
_FLUSH = 10_000
_MEMORY = "150MB"
_JOIN = """
SELECT r.ordinal, l.fraud, l.label_time_ms
FROM read_parquet($rows) r JOIN (
    SELECT transaction_id, arg_max(fraud, (label_time_ms, label_id)) AS fraud,
           max(label_time_ms) AS label_time_ms
    FROM read_parquet($labels) GROUP BY transaction_id
) l USING (transaction_id)
ORDER BY r.ordinal
"""


class Labels:
    """The labels of a replay, on their way into part files."""

    def __init__(self, folder: Path, closed: Sequence[str]) -> None:
        self._parts = Parts(folder, "labels", SCHEMA, closed)
        self._waiting: list[Label] = []

    @property
    def parts(self) -> Parts:
        """The files."""
        return self._parts

    def add(self, label: Label) -> None:
        """Keep *label*."""
        self._waiting.append(label)
        if len(self._waiting) == _FLUSH:
            self._flush()

    def close_part(self) -> None:
        """Put what was kept on disk."""
        self._flush()
        self._parts.close_part()

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._parts.write(
                [
                    [each.transaction_id for each in waiting],
                    [milliseconds(each.label_time) for each in waiting],
                    [each.label_id for each in waiting],
                    [each.label is LabelValue.FRAUD for each in waiting],
                ]
            )


@dataclass(slots=True)
class _Known:
    """Labels with the ordinals of their rows, ascending."""

    ordinals: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    frauds: npt.NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    times_ms: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))


class Truths:
    """
    The labels of rows, asked for in the order of their ordinals; a context manager.

    Joined by DuckDB, which spills into *folder*, so that memory does not grow with the
    number of rows or labels.
    """

    def __init__(self, rows: Sequence[str], labels: Sequence[str], folder: Path) -> None:
        self._known = _Known()
        self._batches: Any = iter(())
        self._connection: Any = duckdb.connect()
        if rows and labels:
            self._connection.execute(f"SET memory_limit='{_MEMORY}'")
            self._connection.execute("SET threads=2")
            self._connection.execute("SET temp_directory=$1", [str(folder / "spill")])
            files = {"rows": list(rows), "labels": list(labels)}
            self._batches = self._connection.sql(_JOIN, params=files).to_arrow_reader(_FLUSH)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def of(self, ordinals: npt.NDArray[np.int64]) -> tuple[list[bool | None], list[int | None]]:
        """
        Fraud or not and since when that is known, of rows with these (ascending) ordinals.

        None where nobody said. Each call goes on behind the ordinals of the one before.
        """
        self._read_to(int(ordinals[-1]))
        frauds: list[bool | None] = [None] * len(ordinals)
        times: list[int | None] = [None] * len(ordinals)
        known = self._known
        here = int(np.searchsorted(known.ordinals, ordinals[-1], side="right"))
        for place, fraud, time_ms in zip(
            np.searchsorted(ordinals, known.ordinals[:here]).tolist(),
            known.frauds[:here].tolist(),
            known.times_ms[:here].tolist(),
            strict=True,
        ):
            frauds[place], times[place] = fraud, time_ms
        self._known = _Known(known.ordinals[here:], known.frauds[here:], known.times_ms[here:])
        return frauds, times

    def _read_to(self, ordinal: int) -> None:
        while not len(self._known.ordinals) or self._known.ordinals[-1] < ordinal:
            batch: Any = next(self._batches, None)
            if batch is None:
                return
            known = self._known
            columns = [batch.column(at).to_numpy(zero_copy_only=False) for at in range(3)]
            self._known = _Known(
                np.concatenate([known.ordinals, columns[0]]),
                np.concatenate([known.frauds, columns[1]]),
                np.concatenate([known.times_ms, columns[2]]),
            )
