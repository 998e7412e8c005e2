"""
The past as files by day, in a folder or in S3, as an analytics bucket keeps it.

    <root>/transactions/dt=2026-11-20/part-0000.ndjson.gz   by event time
    <root>/labels/dt=2026-11-23/part-0000.ndjson.gz         by label time

Each line, or Parquet row, is one event as it would be on the stream, in the
order of time. Equal events make equal files: gzip headers carry no time.
"""

import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.local.simulator.events import Event, RecordKind

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Format = Literal["ndjson", "parquet"]
Events = Literal["transactions", "labels"]

_SUFFIXES: dict[Format, str] = {"ndjson": ".ndjson.gz", "parquet": ".parquet"}
_GZIP_LEVEL = 1
"""Files are written once and read once, so speed counts more than size."""


class Place(Protocol):
    """Where files are kept under names with slashes."""

    def write(self, name: str, body: bytes) -> None:
        """Store *body* as *name*, replacing what was there. Raises Unavailable."""
        ...

    def read(self, name: str) -> bytes:
        """Return what is stored as *name*. Raises Unavailable."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Return the stored names that start with *prefix*, sorted. Raises Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """A local folder."""

    root: Path

    def write(self, name: str, body: bytes) -> None:
        """Store *body* in a file, whole or not at all."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".part")
        unfinished.write_bytes(body)
        unfinished.replace(path)

    def read(self, name: str) -> bytes:
        """Return the file *name*."""
        return (self.root / name).read_bytes()

    def names(self, prefix: str) -> list[str]:
        """Return the files below *prefix*, sorted."""
        files = (path for path in (self.root / prefix).rglob("*") if path.suffix != ".part")
        return sorted(str(path.relative_to(self.root)) for path in files if path.is_file())


@dataclass(frozen=True, slots=True)
class Bucket:
    """Objects of one S3 bucket under a prefix, which is empty or ends in a slash."""

    client: "S3Client"
    bucket: str
    prefix: str

    def write(self, name: str, body: bytes) -> None:
        """Put one object. Raises Unavailable."""
        try:
            self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=body)
        except (BotoCoreError, ClientError) as error:
            raise Unavailable("s3", str(error)) from error

    def read(self, name: str) -> bytes:
        """Get one object. Raises Unavailable."""
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)
            return answer["Body"].read()
        except (BotoCoreError, ClientError) as error:
            raise Unavailable("s3", str(error)) from error

    def names(self, prefix: str) -> list[str]:
        """List the objects below *prefix*. Raises Unavailable."""
        pages = self.client.get_paginator("list_objects_v2")
        try:
            return sorted(
                entry["Key"].removeprefix(self.prefix)
                for page in pages.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
                for entry in page.get("Contents", [])
            )
        except (BotoCoreError, ClientError) as error:
            raise Unavailable("s3", str(error)) from error


def place(uri: str, s3: "Callable[[], S3Client]") -> Place:
    """
    The place that *uri* names: ``s3://bucket/prefix`` or the path of a folder.

    *s3* is called only for the former. Raises Misconfigured for other schemes.
    """
    parts = urlsplit(uri)
    if parts.scheme == "s3" and parts.netloc:
        prefix = parts.path.strip("/")
        return Bucket(s3(), parts.netloc, f"{prefix}/" if prefix else "")
    if "://" in uri:
        raise Misconfigured(
            [Problem("command line", "--history", uri, "s3://bucket/prefix or a folder")]
        )
    return Folder(Path(uri))


def write_history(
    days: Iterable[tuple[date, list[Event]]],
    target: Place,
    file_format: Format = "ndjson",
    on_day: Callable[[date, int], None] | None = None,
) -> int:
    """
    Write *days* to *target* and return how many events that were.

    ``on_day`` hears of each day and its number of events. Raises Unavailable.
    """
    total = 0
    for day, events in days:
        for table in ("transactions", "labels"):
            wants_labels = table == "labels"
            bodies = [
                event.data for event in events if (event.record is RecordKind.LABEL) == wants_labels
            ]
            if bodies:
                name = f"{table}/dt={day.isoformat()}/part-0000{_SUFFIXES[file_format]}"
                target.write(name, _WRITERS[file_format](bodies))
        total += len(events)
        if on_day is not None:
            on_day(day, len(events))
    return total


def read_history(source: Place, table: Events) -> Iterator[tuple[date, list[bytes]]]:
    """
    The events of *table* by day, each as the bytes of its JSON, in the order of time.

    Parquet rows come back as equal JSON, not as equal bytes. Raises Unavailable.
    """
    for name in source.names(f"{table}/"):
        day = date.fromisoformat(name.split("/dt=")[1][:10])
        body = source.read(name)
        if name.endswith(_SUFFIXES["ndjson"]):
            yield day, gzip.decompress(body).splitlines()
        elif name.endswith(_SUFFIXES["parquet"]):
            yield day, _parquet_rows(body)


def _ndjson(bodies: list[bytes]) -> bytes:
    return gzip.compress(b"\n".join(bodies) + b"\n", _GZIP_LEVEL, mtime=0)


def _parquet(bodies: list[bytes]) -> bytes:
    # Imported here: loading the library takes longer than writing a history without it.
    from pyarrow import Table, parquet  # noqa: PLC0415

    table = Table.from_pylist(_even([orjson.loads(body) for body in bodies]))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _even(documents: list[dict[str, object]]) -> list[dict[str, object]]:
    """The documents with one set of columns: a column is what any of them has."""
    columns = dict.fromkeys(key for document in documents for key in document)
    return [{column: document.get(column) for column in columns} for document in documents]


def _parquet_rows(body: bytes) -> list[bytes]:
    from pyarrow import parquet  # noqa: PLC0415

    rows: list[dict[str, object]] = parquet.read_table(io.BytesIO(body)).to_pylist()
    return [orjson.dumps(_as_sent(row)) for row in rows]


def _as_sent(value: object) -> object:
    """A Parquet value as the event had it: no empty fields, whole numbers without a fraction."""
    if isinstance(value, dict):
        return {key: _as_sent(part) for key, part in value.items() if part is not None}
    # A column has one type, so 15000 yen come back as 15000.0, which are too many decimals.
    return int(value) if isinstance(value, float) and value.is_integer() else value


_WRITERS: dict[Format, Callable[[list[bytes]], bytes]] = {"ndjson": _ndjson, "parquet": _parquet}
