"""Histories in files, and what comes of reading them."""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
from pyarrow import parquet

from consumer.replay.file_history import FileHistory
from consumer.replay.history import Slice
from consumer.replay.mapping import EventForm, LabelPolicy
from consumer.replay.mapping_source import read_field_map
from consumer.replay.objects import OpenBucket
from consumer.replay.opening import HistoryRequest, open_history

Row = Mapping[str, Any]

FORM = EventForm("EUR", ())
WORDS = (
    "transaction_id=ID",
    "event_time=AT",
    "card_id=CUSTOMER",
    "merchant_id=SHOP",
    "amount=PAID",
    "currency==EUR",
)


def row(number: int, at: str, **more: object) -> dict[str, object]:
    """A row of the columns that ``WORDS`` map, all of them as a CSV would have them."""
    cells = {"ID": str(number), "AT": at, "CUSTOMER": "7", "SHOP": "3", "PAID": "12.5"}
    return {**cells, **more}


def write_csv(path: Path, rows: Sequence[Row], delimiter: str = ",") -> Path:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return write(path, text.getvalue().encode())


def write_ndjson(path: Path, rows: Iterable[object]) -> Path:
    return write(path, b"".join(orjson.dumps(each) + b"\n" for each in rows))


def write_parquet(path: Path, rows: Sequence[Row], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist([dict(each) for each in rows]), path, **options)
    return path


def write(path: Path, data: bytes) -> Path:
    """Write *data*, packed where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@contextmanager
def opened(
    source: Path | str,
    *words: str,
    folder: Path | None = None,
    buckets: OpenBucket | None = None,
    mapping: Path | None = None,
    form: EventForm = FORM,
    policy: LabelPolicy | None = None,
    **more: Any,
) -> Iterator[FileHistory]:
    """The history of *source*, mapped by *words*."""
    request = HistoryRequest(
        source=str(source),
        field_map=read_field_map(words, mapping, form),
        form=form,
        policy=policy or LabelPolicy(),
        **more,
    )
    with open_history(request, buckets or _no_bucket, folder) as history:
        yield history


def read_all(history: FileHistory, first: int = 0) -> list[bytes]:
    return [event for found in history.read(first) for event in found.events]


def read_events(source: Path | str, *words: str, **more: Any) -> list[dict[str, Any]]:
    """Every event of *source* in order, decoded."""
    with opened(source, *words, **more) as history:
        return [orjson.loads(event) for event in read_all(history)]


def places(slices: Iterable[Slice]) -> list[str]:
    return [found.place(index) for found in slices for index in range(len(found))]


def _no_bucket(name: str) -> Any:
    raise AssertionError(f"no bucket {name} in this test")
