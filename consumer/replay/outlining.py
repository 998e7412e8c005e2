"""A look at a history: the list of files, and the first rows of the first file as events."""

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb

from consumer.replay.conversion import SEPARATOR
from consumer.replay.database import cursor
from consumer.replay.file_events import FileEvents, Reading, open_file
from consumer.replay.history import Outline, Sample
from consumer.replay.objects import Listed, Spool
from consumer.replay.shown import show
from consumer.replay.tables import reading, unpacked

_SAMPLES = 5
_LOOKED_AT = 20
_SHOWN = 500
_ESTIMATED_FROM = 1 << 20


def outline(
    database: duckdb.DuckDBPyConnection, files: Sequence[Listed], spool: Spool, rules: Reading
) -> Outline:
    """
    Look at *files*, at most twenty of them evenly spread, for their format and rows.

    Raises Misconfigured with what is wrong with the first that is, and Unavailable.
    """
    step = max(1, len(files) // _LOOKED_AT)
    looked_at = files[::step]
    formats: dict[str, str] = {}
    rows = 0.0
    samples: list[Sample] = []
    for listed in looked_at:
        with cursor(database) as connection:
            try:
                opened = open_file(connection, listed, spool, rules)
                formats[listed.address] = opened.format
                rows += _rows(connection, opened, listed)
                if not samples:
                    samples = list(_samples(connection, opened))
            finally:
                spool.give_back(listed)
    size_bytes = sum(each.size_bytes for each in files)
    seen_bytes = sum(each.size_bytes for each in looked_at)
    return Outline(
        files=[each.address for each in files],
        formats=sorted(set(formats.values())),
        size_bytes=size_bytes,
        estimated_rows=round(rows * size_bytes / seen_bytes) if seen_bytes else 0,
        samples=samples,
    )


def _rows(connection: duckdb.DuckDBPyConnection, opened: FileEvents, listed: Listed) -> float:
    """How many rows the file has: what it says, else estimated from its beginning."""
    known = opened.table.count_rows(connection)
    if known is not None:
        return known
    with unpacked(opened.table.address, opened.table.path) as (content, packed):
        lines = content.read(_ESTIMATED_FROM).count(b"\n")
        # Of gzip, what was read to unpack so much; it is read ahead, so a small file counts whole.
        return lines * listed.size_bytes / max(1, min(packed.tell(), listed.size_bytes))


def _samples(connection: duckdb.DuckDBPyConnection, opened: FileEvents) -> Iterator[Sample]:
    """Yield the first rows with what becomes of them."""
    table = opened.table
    with reading(table):
        raws = _first(connection, f"SELECT row, raw FROM ({opened.raw(connection)})")
        problems = _first(connection, f"SELECT row, problem FROM ({opened.rows(connection)})")
        events = _first(connection, f"SELECT row, event FROM ({opened.events(connection, 0)})")
    for row, raw in raws.items():
        _, _, problem = (problems.get(row) or "").partition(SEPARATOR)
        event = [events[row]] if row in events else []
        place = f"{table.address}, {table.noun} {row}"
        yield Sample(place, show(raw or "")[:_SHOWN], event, problem or None)


def _first(connection: duckdb.DuckDBPyConnection, query: str) -> dict[int, Any]:
    return dict(connection.sql(f"{query} LIMIT {_SAMPLES}").fetchall())
