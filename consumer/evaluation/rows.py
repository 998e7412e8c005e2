"""Decisions row by row, whatever their format: what rules are tried on."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from consumer.evaluation.batches import ROWS, decode_line, is_parquet, open_lines, translated

Row = dict[str, Any]

# How much smaller gzip makes rows of decisions, about.
_PACKED = 6


def read_rows(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, Row]]:
    """
    Yield each row of *path* with its place, as ``row 17`` or ``line 17``.

    Of Parquet only the columns *wanted*, as far as they are there; of lines everything. Raises
    Misconfigured for a file that cannot be read.
    """
    with translated(path):
        if is_parquet(path):
            yield from _of_parquet(path, wanted)
        else:
            yield from _of_lines(path)


def _of_parquet(path: Path, wanted: Collection[str]) -> Iterator[tuple[str, Row]]:
    with pq.ParquetFile(path) as file:
        there = [name for name in file.schema_arrow.names if name in wanted]
        number = 0
        for batch in file.iter_batches(batch_size=ROWS // 8, columns=there):
            for row in batch.to_pylist():
                number += 1
                yield f"row {number:,}", row


def _of_lines(path: Path) -> Iterator[tuple[str, Row]]:
    with open_lines(path) as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield f"line {number:,}", decode_line(path, number, line)


def estimate_rows(path: Path) -> int:
    """About how many rows *path* has: of Parquet exactly. Raises as ``read_rows``."""
    with translated(path):
        if is_parquet(path):
            return int(pq.read_metadata(path).num_rows)
        with open_lines(path) as file:
            line = len(file.readline())
        packed = _PACKED if path.suffix == ".gz" else 1
        return path.stat().st_size * packed // line if line else 0
