"""
Results on their way: Parquet files of which only those that are closed count.

A process that is killed leaves one that was not closed, or closed and not noted; both are
removed when the replay resumes, and made again.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_BATCH_ROWS = 5_000


class Parts:
    """
    Part files ``<name>-<number>.parquet`` in *folder*, all of one *schema*.

    *closed* are those that a saved state names, in order; others of the name are removed.
    """

    def __init__(self, folder: Path, name: str, schema: Any, closed: Sequence[str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = name
        self._schema = schema
        self._closed = list(closed)
        self._writer: Any = None
        for path in folder.glob(f"{name}-*.parquet"):
            if path.name not in self._closed:
                path.unlink()

    @property
    def closed(self) -> list[str]:
        """The names of the files that count, in order."""
        return list(self._closed)

    @property
    def paths(self) -> list[str]:
        """Their paths."""
        return [str(self._folder / name) for name in self._closed]

    def write(self, columns: Sequence[Sequence[Any]]) -> None:
        """Append rows, given by column, to the file that is open."""
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._next, self._schema, compression="zstd", compression_level=1
            )
        arrays = [
            column if isinstance(column, pa.Array) else pa.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))

    def close_part(self) -> None:
        """Close the open file, if there is one, and count it."""
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        with self._next.open("rb") as written:
            os.fsync(written.fileno())
        self._closed.append(self._next.name)

    def abandon(self) -> None:
        """Let go of the open file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def batches(self) -> Iterator[Any]:
        """Yield the rows of all files that count, in order, as record batches."""
        for path in self.paths:
            with pq.ParquetFile(path) as file:
                yield from file.iter_batches(_BATCH_ROWS)

    @property
    def _next(self) -> Path:
        return self._folder / f"{self._name}-{len(self._closed):06}.parquet"
