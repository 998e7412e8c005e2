"""
Files as relations of DuckDB: columns, the number of each row and what is wrong with a line.

DuckDB reads Parquet itself. CSV and NDJSON are cut into rows here, because a message
about a row has to name its line, which DuckDB does not tell: Python's csv module knows it,
and a line of NDJSON is a line. Every relation has ``__row``, ``__problem`` (null where the
line is in order) and ``__raw``.
"""

import csv
import gzip
import io
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

import duckdb
import orjson
import pyarrow as pa

from consumer.compression import GZIP_MAGIC
from consumer.errors import FraudstreamError, Misconfigured
from consumer.replay.cells import identifier, literal
from consumer.replay.conversion import Columns, Conversion
from consumer.replay.formats import BOM, Kind, read_head, refuse_file

_BATCH_ROWS: Final = 8_192
_BLOCK_BYTES: Final = 1 << 20
_SAMPLE_ROWS: Final = 20_000
_MAX_CELL: Final = 1 << 20
_DELIMITERS: Final = ",;\t|"
# What DuckDB says of Ctrl-C that met it in Arrow's code, before a row was asked for.
_CTRL_C: Final = KeyboardInterrupt.__name__


@dataclass(slots=True)
class Table:
    """
    One file of *kind*, at *path* on this machine; *address* is where it came from.

    ``noun`` is what its rows are counted in. An error while rows are read, or Ctrl-C, is in
    ``failure``, since DuckDB keeps only its words.
    """

    address: str
    path: Path
    kind: Kind
    failure: FraudstreamError | KeyboardInterrupt | None = field(default=None, init=False)

    @property
    def noun(self) -> str:
        """What a row number counts."""
        return "row" if self.kind == "parquet" else "line"

    def columns(self, connection: duckdb.DuckDBPyConnection, sought: Collection[str]) -> Columns:
        """
        Look at the columns; at those of NDJSON until all that are *sought* were seen.

        Raises Misconfigured.
        """
        if self.kind == "parquet":
            return Columns(self.address, _parquet_columns(connection, self.address, self.path))
        if self.kind == "csv":
            names = _read_header(self.address, self.path)[0]
            return Columns(self.address, dict.fromkeys(names, "VARCHAR"))
        return Columns(
            self.address,
            dict.fromkeys(_sample_members(self.address, self.path, sought), "VARCHAR"),
            open_ended=True,
        )

    def count_rows(self, connection: duckdb.DuckDBPyConnection) -> int | None:
        """How many rows the file says that it has, None where it does not."""
        if self.kind != "parquet":
            return None
        query = f"SELECT num_rows FROM parquet_file_metadata({literal(str(self.path))})"
        return sum(int(rows) for (rows,) in connection.sql(query).fetchall())

    def relation(self, connection: duckdb.DuckDBPyConnection, conversion: Conversion) -> str:
        """The FROM clause that yields what *conversion* reads; of CSV and NDJSON it reads once."""
        if self.kind == "parquet":
            return _parquet_relation(self.path, conversion.wanted)
        if self.kind == "csv":
            names, delimiter = _read_header(self.address, self.path)
            schema = pa.schema([(f"c{n}", pa.string()) for n in range(len(names))] + _HIDDEN)
            rows = _csv_batches(self.address, self.path, (names, delimiter), schema)
            self._register(connection, schema, rows)
            return _csv_relation(names)
        self.lines(connection)
        return _ndjson_relation(conversion.wanted, conversion.literals)

    def lines(self, connection: duckdb.DuckDBPyConnection) -> str:
        """The FROM clause that yields the lines of NDJSON as ``__raw``; they are read once."""
        schema = pa.schema([("__raw", pa.string()), *_NUMBERED])
        self._register(connection, schema, _line_batches(self.address, self.path, schema))
        return f"({_CHECKED_LINES})"

    def _register(
        self,
        connection: duckdb.DuckDBPyConnection,
        schema: Any,
        batches: Iterator[Any],
    ) -> None:
        connection.register(
            "__file", pa.RecordBatchReader.from_batches(schema, self._guarded(batches))
        )

    def _guarded(self, batches: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from batches
        except (FraudstreamError, KeyboardInterrupt) as error:
            self.failure = error
            raise


@contextmanager
def reading(table: Table) -> Iterator[None]:
    """Turn what DuckDB says of *table* into Misconfigured about its file."""
    try:
        yield
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, pa.ArrowInvalid, OSError) as error:
        if table.failure is not None:
            raise table.failure from None
        if _CTRL_C in str(error):
            raise KeyboardInterrupt from None
        said = str(error).partition("\n")[0][:200].replace(str(table.path), "it")
        raise _unreadable(table.address, table.kind, said) from error


def _unreadable(address: str, kind: str, said: str) -> Misconfigured:
    try:
        refuse_file(address, f"something that cannot be read ({said})", f"a whole {kind} file")
    except Misconfigured as error:
        return error


_NUMBERED: Final = [("__row", pa.int64()), ("__problem", pa.string())]
_HIDDEN: Final = [*_NUMBERED, ("__surplus", pa.string())]


def _parquet_columns(
    connection: duckdb.DuckDBPyConnection, address: str, path: Path
) -> dict[str, str]:
    relation = f"read_parquet({literal(str(path))}, binary_as_string = true)"
    try:
        found = connection.sql(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    except duckdb.Error as error:
        said = str(error).partition("\n")[0][:200].replace(str(path), "it")
        raise _unreadable(address, "Parquet", said) from error
    return {name: kind for name, kind, *_ in found}


def _parquet_relation(path: Path, wanted: Sequence[str]) -> str:
    columns = ", ".join(identifier(each) for each in wanted)
    packed = ", ".join(f"{identifier(each)} := {identifier(each)}" for each in wanted)
    return (
        f"(SELECT file_row_number + 1 AS __row, NULL::VARCHAR AS __problem, {columns}, "
        f"to_json(struct_pack({packed}))::VARCHAR AS __raw "
        f"FROM read_parquet({literal(str(path))}, file_row_number = true, binary_as_string = true))"
    )


def _unpack(file: BinaryIO) -> BinaryIO:
    """What *file* holds, unpacked where it is gzip."""
    packed = file.read(2) == GZIP_MAGIC
    file.seek(0)
    return cast("BinaryIO", gzip.GzipFile(fileobj=file)) if packed else file


@contextmanager
def unpacked(address: str, path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """What the file holds, unpacked, and the file. Raises Misconfigured where it is cut off."""
    with path.open("rb") as file:
        try:
            yield _unpack(file), file
        except (EOFError, gzip.BadGzipFile, zlib.error):
            refuse_file(address, "gzip that is cut off or corrupt", "a whole file")


# CSV


def _read_header(address: str, path: Path) -> tuple[list[str], str]:
    """Read the names of the columns and the delimiter. Raises Misconfigured."""
    try:
        text = read_head(address, path).decode("utf-8", "replace")
    except ValueError:
        text = ""
    first = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error as error:
        refuse_file(address, f"a header that is no CSV ({error})", "names of columns")
    names = [name.strip() for name in names]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        refuse_file(
            address, f"the column {twice[0]!r} twice", "a header that names each column once"
        )
    if not any(names):
        refuse_file(address, "no header", "names of columns in the first line")
    return names, delimiter


def _csv_batches(
    address: str, path: Path, header: tuple[list[str], str], schema: Any
) -> Iterator[Any]:
    names, delimiter = header
    csv.field_size_limit(_MAX_CELL)
    try:
        with (
            unpacked(address, path) as (file, _),
            io.TextIOWrapper(file, "utf-8-sig", newline="") as text,
        ):
            rows = _csv_rows(
                address, csv.reader(text, delimiter=delimiter, strict=True), len(names)
            )
            while batch := list(islice(rows, _BATCH_ROWS)):
                columns = zip(*batch, strict=True)
                arrays = [
                    pa.array(column, kind.type)
                    for column, kind in zip(columns, schema, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    except UnicodeDecodeError:
        refuse_file(address, "bytes that are no UTF-8", "UTF-8")


def _csv_rows(address: str, reader: Any, width: int) -> Iterator[tuple[object, ...]]:
    """Yield cells, then line, problem and the cells too many of each row but the header."""
    nothing = (None,) * width
    started = False
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error) or "field larger" in str(error):
                place = f"{address}, line {line}"
                refuse_file(place, "a quotation that does not end", "a quotation mark at its end")
            yield (*nothing, line, f"not CSV: {error}", None)
            continue
        if not cells:
            continue
        if not started:
            started = True
        elif len(cells) == width:
            yield (*cells, line, None, None)
        else:
            problem = f"expected {width} columns, found {len(cells)}"
            kept = [*cells[:width], *nothing[len(cells) :]]
            yield (*kept, line, problem, "\t".join(cells[width:]))


def _csv_relation(names: Sequence[str]) -> str:
    columns = ", ".join(f"c{n} AS {identifier(name)}" for n, name in enumerate(names))
    packed = ", ".join(f"{identifier(name)} := c{n}" for n, name in enumerate(names))
    raw = f"to_json(struct_pack({packed}))::VARCHAR || coalesce(__surplus, '')"
    return f"(SELECT __row, __problem, {columns}, {raw} AS __raw FROM __file)"


# NDJSON


def _line_batches(address: str, path: Path, schema: Any) -> Iterator[Any]:
    for first, lines in _blocks(address, path):
        numbered = [(n, line) for n, line in enumerate(lines, first) if line and not line.isspace()]
        texts = [_text(line) for _, line in numbered]
        problems = ["not UTF-8" if text is None else None for text in texts]
        numbers = [n for n, _ in numbered]
        arrays = [
            pa.array(values, kind.type)
            for values, kind in zip((texts, numbers, problems), schema, strict=True)
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _blocks(address: str, path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the number of the first line of each block, and its lines. Raises Misconfigured."""
    number, rest, first = 1, b"", True
    with unpacked(address, path) as (file, _):
        while block := file.read(_BLOCK_BYTES):
            if first:
                block, first = block.removeprefix(BOM), False
            *lines, rest = (rest + block).split(b"\n")
            if lines:
                yield number, lines
                number += len(lines)
            elif len(rest) > _MAX_CELL * 16:
                refuse_file(f"{address}, line {number}", "a line without end", "an object a line")
    if rest:
        yield number, [rest]


def _sample_members(address: str, path: Path, sought: Collection[str]) -> list[str]:
    """The names in the first objects, in order of appearance, until all *sought* are there."""
    names: dict[str, None] = {}
    missing = set(sought)
    for first, lines in _blocks(address, path):
        for line in lines:
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(row, dict):
                names.update(dict.fromkeys(row))
                missing -= row.keys()
            if not missing:
                return list(names)
        if first > _SAMPLE_ROWS:
            break
    return list(names)


_CHECKED_LINES: Final = (
    "SELECT __row, __raw, coalesce(__problem, CASE "
    "WHEN NOT json_valid(__raw) THEN 'not JSON' "
    "WHEN json_type(__raw) <> 'OBJECT' THEN 'no JSON object' END) AS __problem FROM __file"
)


def _ndjson_relation(wanted: Sequence[str], literals: frozenset[str]) -> str:
    texts = [each for each in wanted if each not in literals]
    members = [
        *(f"__texts[{n}] AS {identifier(name)}" for n, name in enumerate(texts, 1)),
        *(
            f"json_extract(__json, {_path(each)}) AS {identifier(each)}"
            for each in sorted(literals)
        ),
    ]
    paths = ", ".join(_path(each) for each in texts)
    sound = "CASE WHEN __problem IS NULL THEN __raw END"
    return (
        f"(SELECT __row, __problem, __raw, {', '.join(members)} FROM ("
        f"SELECT *, {sound} AS __json, json_extract_string({sound}, [{paths}]) AS __texts "
        f"FROM ({_CHECKED_LINES})))"
    )


def _path(name: str) -> str:
    # A JSON pointer takes every name, also one with dots and quotes.
    return literal("/" + name.replace("~", "~0").replace("/", "~1"))
