"""What a file is: by its name, else by how it begins."""

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NoReturn

import orjson

from consumer.compression import GZIP_MAGIC
from consumer.errors import Misconfigured, Problem
from consumer.replay.mapping import Format

Kind = Literal["csv", "ndjson", "parquet"]

_PARQUET_MAGIC: Final = b"PAR1"
_SUFFIXES: Final[Mapping[str, Kind]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_HEAD_BYTES = 65_536
BOM: Final = b"\xef\xbb\xbf"


def refuse_file(address: str, found: str, expected: str) -> NoReturn:
    """Raise Misconfigured about the whole file at *address*."""
    raise Misconfigured([Problem(address, "the file", found, expected)])


def detect(address: str, path: Path, given: Format | None, *, mapped: bool) -> Format:
    """
    Tell the format of the file at *path*, which came from *address*.

    *given* is what was asked for. Where fields are *mapped* NDJSON is what the mapping says;
    else events and Firehose's rows are recognised. Raises Misconfigured.
    """
    if given is not None:
        return given
    head = read_head(address, path)
    kind = _by_name(address) or _by_content(address, head)
    if kind != "ndjson" or mapped:
        return kind
    return _by_members(head)


def read_head(address: str, path: Path) -> bytes:
    """The first bytes of the file, unpacked, without a byte order mark. Raises Misconfigured."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head[:2] == GZIP_MAGIC:
        try:
            with gzip.open(path) as unpacked:
                head = unpacked.read1(_HEAD_BYTES)
        except (EOFError, OSError, zlib.error):
            refuse_file(address, "gzip that is cut off or corrupt", "a whole file")
    if not head:
        refuse_file(address, "an empty file", "rows, or at least the header of a CSV")
    return head.removeprefix(BOM)


def _by_name(address: str) -> Kind | None:
    name = Path(address).name.lower().removesuffix(".gz")
    return _SUFFIXES.get(Path(name).suffix)


def _by_content(address: str, head: bytes) -> Kind:
    if head.startswith(_PARQUET_MAGIC):
        return "parquet"
    if head.lstrip()[:1] == b"{":
        return "ndjson"
    line = head.partition(b"\n")[0]
    if b"\0" not in head and any(each in line for each in b",;\t|"):
        return "csv"
    refuse_file(address, "another format", "CSV, NDJSON or Parquet; --format names it")


def _by_members(head: bytes) -> Format:
    try:
        row = orjson.loads(head.lstrip().partition(b"\n")[0])
    except orjson.JSONDecodeError:
        return "ndjson"
    if not isinstance(row, dict):
        return "ndjson"
    if row.get("type") in ("transaction", "label"):
        return "events"
    return "firehose" if {"prediction_id", "digest", "event_time"} <= row.keys() else "ndjson"
