"""
The queries of one file, whatever its format: a survey of its rows, its events, its labels.

Three kinds of file differ: rows that a mapping turns into events, Firehose's rows, whose
mapping is known, and events as producers write them, which stay as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import duckdb

from consumer.replay.cells import literal, read_offset_time
from consumer.replay.conversion import SEPARATOR, Conversion, resolve
from consumer.replay.formats import Kind, detect
from consumer.replay.mapping import REQUIRED, EventForm, FieldMap, Format, LabelPolicy
from consumer.replay.objects import Listed, Spool
from consumer.replay.tables import Table

KNOWN_LABELS: Final = "known_labels"
"""The table of labels that came from a source of their own."""

_KINDS: Final[dict[Format, Kind]] = {
    "csv": "csv",
    "parquet": "parquet",
    "ndjson": "ndjson",
    "events": "ndjson",
    "firehose": "ndjson",
}
_FIREHOSE_PREFIX = "x_"


@dataclass(frozen=True, slots=True)
class Reading:
    """
    How files are read: what ``resolve`` needs, and the format that was asked for, if any.

    ``joined`` says that labels are in ``KNOWN_LABELS``; ``passed`` are the addresses of files
    known to hold events.
    """

    field_map: FieldMap
    form: EventForm
    policy: LabelPolicy
    given: Format | None = None
    joined: bool = False
    passed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FileEvents:
    """
    One file, open on this machine.

    ``conversion`` is None for events that are passed on and need none; ``labelled`` says whether
    there are labels beside them, of a column or, where ``joined``, of ``KNOWN_LABELS``.
    """

    table: Table
    format: Format
    conversion: Conversion | None
    joined: bool

    @property
    def labelled(self) -> bool:
        """Whether labels are released apart from their rows."""
        if self.joined:
            return True
        return self.format != "events" and self.conversion is not None and self.conversion.labelled

    def rows(self, connection: duckdb.DuckDBPyConnection) -> str:
        """A query of all rows: ``row``, ``key``, ``label_key``, ``problem``, ``raw``."""
        if self.format == "events" or self.conversion is None:
            return _passed_rows(self.table.lines(connection))
        return self.conversion.rows(self.table.relation(connection, self.conversion))

    def raw(self, connection: duckdb.DuckDBPyConnection) -> str:
        """A query of all rows as they stand: ``row``, ``raw``."""
        if self.format == "events" or self.conversion is None:
            relation = self.table.lines(connection)
        else:
            relation = self.table.relation(connection, self.conversion)
        return f"SELECT __row AS row, __raw AS raw FROM {relation}"

    def events(self, connection: duckdb.DuckDBPyConnection, from_key: int) -> str:
        """A query of what the rows are, from a key on: ``key``, ``row``, ``event``."""
        if self.format == "events" or self.conversion is None:
            return _passed_events(self.table.lines(connection), from_key)
        relation = self.table.relation(connection, self.conversion)
        return self.conversion.transactions(relation, from_key)

    def labels(self, connection: duckdb.DuckDBPyConnection, from_key: int) -> str:
        """A query of the labels beside the rows, from a key on: ``key``, ``row``, ``event``."""
        assert self.conversion is not None
        relation = self.table.relation(connection, self.conversion)
        if self.joined:
            return self.conversion.joined_labels(relation, KNOWN_LABELS, from_key)
        return self.conversion.labels(relation, from_key)


def open_file(
    connection: duckdb.DuckDBPyConnection, listed: Listed, spool: Spool, reading: Reading
) -> FileEvents:
    """
    Take *listed* from *spool* and resolve what it holds.

    Raises Misconfigured, naming the file, and Unavailable.
    """
    path = spool.take(listed)
    mapped = bool(reading.field_map.fields)
    given = "events" if listed.address in reading.passed else reading.given
    found = detect(listed.address, path, given, mapped=mapped)
    table = Table(listed.address, path, table_kind(found))
    if found == "events" and not reading.joined:
        return FileEvents(table, found, None, joined=False)
    field_map, prefix = reading.field_map, ""
    if found == "firehose":
        # Its times are UTC by definition, and its columns are ours.
        field_map, prefix = replace(field_map, time_zone="UTC"), _FIREHOSE_PREFIX
    columns = table.columns(connection, field_map.sought(REQUIRED))
    conversion = resolve(field_map, columns, reading.form, reading.policy, prefix)
    return FileEvents(table, found, conversion, joined=reading.joined)


def ordered_query(query: str, file: int, order: Sequence[str]) -> str:
    """*query* with the number of its file, sorted by *order* where that is not empty."""
    by = f" ORDER BY {', '.join(order)}" if order else ""
    return f"SELECT key, {file}::INTEGER AS file, row, event FROM ({query}){by}"


def _checked(relation: str) -> str:
    sound = "CASE WHEN __problem IS NULL THEN __raw END"
    paths = ", ".join(literal(each) for each in ("/type", "/event_time", "/label_time"))
    named = f"SELECT *, json_extract_string({sound}, [{paths}]) AS found FROM {relation}"
    timed = (
        f"SELECT *, found[1] AS kind, {read_offset_time('found[2]')} AS event_ms, "
        f"{read_offset_time('found[3]')} AS label_ms FROM ({named})"
    )
    expected = "a time such as 2026-05-01T12:30:00Z"
    return (
        f"SELECT __row AS row, __raw AS raw, CASE "
        f"WHEN kind = 'label' THEN label_ms * 2 "
        f"WHEN kind = 'transaction' THEN event_ms * 2 + 1 END AS key, CASE "
        f"WHEN __problem IS NOT NULL THEN {literal(SEPARATOR)} || __problem "
        f"WHEN kind IS NULL OR kind NOT IN ('transaction', 'label') "
        f"THEN {literal(f'type{SEPARATOR}type: expected transaction or label')} "
        f"WHEN kind = 'label' AND label_ms IS NULL "
        f"THEN {literal(f'label_time{SEPARATOR}label_time: expected {expected}')} "
        f"WHEN kind = 'transaction' AND event_ms IS NULL "
        f"THEN {literal(f'event_time{SEPARATOR}event_time: expected {expected}')} "
        f"END AS problem FROM ({timed})"
    )


def _passed_rows(relation: str) -> str:
    return (
        f"SELECT row, CASE WHEN problem IS NULL THEN key END AS key, NULL::BIGINT AS label_key, "
        f"problem, CASE WHEN problem IS NOT NULL THEN raw END AS raw FROM ({_checked(relation)})"
    )


def _passed_events(relation: str, from_key: int) -> str:
    return (
        f"SELECT key, row, encode(raw) AS event FROM ({_checked(relation)}) "
        f"WHERE problem IS NULL AND key >= {from_key}"
    )


def table_kind(found: Format) -> Kind:
    """What a file of the format *found* is to whom reads rows."""
    return _KINDS[found]
