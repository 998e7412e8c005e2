"""
Files as record batches of a few wanted columns, whatever their format.

Parquet is read by row groups and column; newline-delimited JSON (gzip or not, several rows of
Firehose packed behind one another) line by line. Nothing else of a row is kept.
"""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from consumer.errors import Misconfigured, Problem
from consumer.masking import mask_text

ROWS: Final = 65_536
"""Rows of a batch at most."""

_PARQUET: Final = b"PAR1"
_GZIP: Final = b"\x1f\x8b"
_TIME: Final = pa.timestamp("ms")


def read_batches(path: Path, wanted: "pa.Schema", required: frozenset[str]) -> Iterator[Any]:
    """
    Yield record batches of *path* whose columns are those of *wanted*, null where it has none.

    Times may be timestamps or text, with or without an offset (then UTC). Raises
    Misconfigured, naming file and column or line, where a *required* column or value is
    missing, or a value has another type.
    """
    with translated(path):
        if is_parquet(path):
            yield from _of_parquet(path, wanted, required)
        else:
            yield from _of_lines(path, wanted, required)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Say of which file an error of reading is. Raises Misconfigured."""
    try:
        yield
    except (OSError, EOFError, pa.ArrowException) as error:
        text = mask_text(str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise problem(path, "content", text, "Parquet, or JSON lines, gzip or not") from error


def open_lines(path: Path) -> BinaryIO:
    """Open *path* for reading lines, unpacking gzip."""
    if _begins(path)[:2] == _GZIP:
        return cast("BinaryIO", gzip.open(path, "rb"))
    return path.open("rb")


def is_parquet(path: Path) -> bool:
    """Whether *path* begins as Parquet does."""
    return _begins(path) == _PARQUET


def problem(path: Path, key: str, found: str, expected: str) -> Misconfigured:
    """Build the error for what stands at *key* of the file *path*."""
    return Misconfigured([Problem(str(path), key, found, expected)])


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(_PARQUET))


def _of_parquet(path: Path, wanted: "pa.Schema", required: frozenset[str]) -> Iterator[Any]:
    with pq.ParquetFile(path) as file:
        there = [name for name in wanted.names if name in file.schema_arrow.names]
        missing = sorted(required - set(there))
        if missing:
            raise problem(path, "columns", f"no {', '.join(missing)}", "the columns of decisions")
        done = 0
        for batch in file.iter_batches(batch_size=ROWS, columns=there):
            columns = dict(zip(there, batch.columns, strict=True))
            yield _conform(path, f"rows {done + 1:,} on", columns, wanted, required)
            done += len(batch)


def _of_lines(path: Path, wanted: "pa.Schema", required: frozenset[str]) -> Iterator[Any]:
    gathered: list[dict[str, Any]] = []
    first = 1
    with open_lines(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            gathered.append(decode_line(path, number, line))
            if len(gathered) == ROWS:
                yield _gather(path, first, gathered, wanted, required)
                gathered, first = [], number + 1
    if gathered:
        yield _gather(path, first, gathered, wanted, required)


def decode_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Read line *number* of *path*, an object. Raises Misconfigured."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise problem(path, f"line {number:,}", str(error), "a JSON object a line") from error
    if not isinstance(row, dict):
        raise problem(path, f"line {number:,}", "no JSON object", "a JSON object a line")
    return row


def _gather(
    path: Path,
    first: int,
    rows: list[dict[str, Any]],
    wanted: "pa.Schema",
    required: frozenset[str],
) -> Any:
    columns = {}
    for name in wanted.names:
        values = [row.get(name) for row in rows]
        kind = wanted.field(name).type
        if kind == pa.string():
            values = [_text(value) for value in values]
        try:
            columns[name] = pa.array(values, pa.string() if kind == _TIME else kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            key, text = f"lines {first:,} on, {name}", mask_text(str(error))
            raise problem(path, key, text, f"{kind}, or null") from error
    return _conform(path, f"lines {first:,} on", columns, wanted, required)


def _text(value: Any) -> str | None:
    """Identifiers and labels may be numbers or truth values in JSON."""
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _conform(
    path: Path,
    place: str,
    columns: dict[str, Any],
    wanted: "pa.Schema",
    required: frozenset[str],
) -> Any:
    """Give *columns* the types of *wanted*. Raises Misconfigured."""
    length = len(next(iter(columns.values())))
    arrays = []
    for name in wanted.names:
        kind = wanted.field(name).type
        if name not in columns:
            arrays.append(pa.nulls(length, kind))
            continue
        column = columns[name]
        if name in required and column.null_count:
            raise problem(path, f"{place}, {name}", f"{column.null_count:,} empty", "a value")
        try:
            arrays.append(to_times(column) if kind == _TIME else pc.cast(column, kind))
        except pa.ArrowInvalid as error:
            key, text = f"{place}, {name}", mask_text(str(error))
            raise problem(path, key, text, f"{kind}, or null") from error
    return pa.record_batch(arrays, schema=wanted)


def to_times(column: Any) -> Any:
    """Timestamps in milliseconds, UTC, of timestamps or texts. Raises pa.ArrowInvalid."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        try:
            return pc.cast(column, _TIME)
        except pa.ArrowInvalid:
            column = pc.cast(column, pa.timestamp("ms", "UTC"))
    return pc.cast(column, _TIME, safe=False)
