"""Labels from a source of their own, as a table that files of transactions are joined with."""

from collections.abc import Iterator

import duckdb

from consumer.errors import Misconfigured, Problem
from consumer.replay.cells import Cells
from consumer.replay.conversion import Columns, Conversion, closest, misfit, untimed
from consumer.replay.database import cursor, stream
from consumer.replay.file_events import KNOWN_LABELS, table_kind
from consumer.replay.formats import detect
from consumer.replay.label_files import LabelFiles
from consumer.replay.mapping import (
    LABEL_SOURCE_FIELDS,
    Column,
    Constant,
    EventForm,
    FieldSource,
    columns_of,
)
from consumer.replay.objects import Listed, Spool
from consumer.replay.rejects import Rejects
from consumer.replay.tables import Table, reading

_MATCHED = "matched_labels"


def load(
    database: duckdb.DuckDBPyConnection,
    source: LabelFiles,
    form: EventForm,
    spool: Spool,
    rejects: Rejects | None,
) -> None:
    """
    Fill the table ``KNOWN_LABELS`` of *database*, each label once.

    Rows that say nothing of a transaction go to *rejects*. Raises Misconfigured and Unavailable.
    """
    database.execute(
        f"CREATE OR REPLACE TABLE {KNOWN_LABELS} "
        "(transaction_id VARCHAR, label VARCHAR, label_ms BIGINT, source VARCHAR)"
    )
    database.execute(f"CREATE OR REPLACE TABLE {_MATCHED} (transaction_id VARCHAR)")
    for listed in source.files:
        with cursor(database) as connection, cursor(database) as writer:
            _load_file(connection, writer, listed, (source, form, spool, rejects))


def note_matched(
    connection: duckdb.DuckDBPyConnection, query: str
) -> tuple[int, int | None, int | None]:
    """
    Remember which transactions have labels by *query* (``key``, ``transaction_id``).

    Returns how many labels they are, and their first and last key.
    """
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE __joined AS SELECT key, transaction_id FROM ({query})"
    )
    connection.execute(f"INSERT INTO {_MATCHED} SELECT DISTINCT transaction_id FROM __joined")
    counted = "SELECT count(*), min(key), max(key) FROM __joined"
    count, first, last = connection.sql(counted).fetchall()[0]
    connection.execute("DROP TABLE __joined")
    return count, first, last


def count_unmatched(database: duckdb.DuckDBPyConnection) -> int:
    """How many labels belong to no transaction of those noted."""
    query = f"SELECT count(*) FROM {KNOWN_LABELS} ANTI JOIN {_MATCHED} USING (transaction_id)"
    return int(database.sql(query).fetchall()[0][0])


def _load_file(
    connection: duckdb.DuckDBPyConnection,
    writer: duckdb.DuckDBPyConnection,
    listed: Listed,
    around: tuple[LabelFiles, EventForm, Spool, Rejects | None],
) -> None:
    source, form, spool, rejects = around
    path = spool.take(listed)
    try:
        found = detect(listed.address, path, source.given, mapped=True)
        table = Table(listed.address, path, table_kind(found))
        columns = table.columns(connection, source.field_map.sought(LABEL_SOURCE_FIELDS))
        conversion = _resolve(source, columns, form)
        with reading(table):
            query = conversion.known_labels(table.relation(connection, conversion))
            for batch in stream(connection, query):
                _note_rejects(batch, table, rejects)
                writer.register("__labels", batch)
                writer.execute(
                    f"INSERT INTO {KNOWN_LABELS} SELECT DISTINCT transaction_id, label, "
                    "label_ms, source FROM __labels WHERE problem IS NULL AND label IS NOT NULL "
                    f"EXCEPT SELECT * FROM {KNOWN_LABELS}"
                )
    finally:
        spool.give_back(listed)


def _note_rejects(batch: object, table: Table, rejects: Rejects | None) -> None:
    if rejects is None:
        return
    columns = batch.select(["row", "problem", "raw"])  # type: ignore[attr-defined]
    rejects.rows += columns.num_rows
    rows, problems, raws = (each.to_pylist() for each in columns.columns)
    for row, problem, raw in zip(rows, problems, raws, strict=True):
        if problem is not None:
            rejects.note((table.address, table.noun), row, problem, raw)


def _resolve(source: LabelFiles, columns: Columns, form: EventForm) -> Conversion:
    """As ``conversion.resolve``: without a column of labels every row says fraud."""
    field_map, kinds = source.field_map, dict(columns.kinds)
    sources: dict[str, FieldSource] = {}
    for name in LABEL_SOURCE_FIELDS:
        if name in field_map.fields:
            sources[name] = field_map.fields[name]
        elif name in kinds and name not in field_map.dropped:
            sources[name] = Column(name)
    # As label events call it.
    if "source" in kinds and "label_source" not in {*sources, *field_map.dropped}:
        sources["label_source"] = Column("source")
    sources.setdefault("label", Constant("fraud"))
    cells = Cells(kinds, field_map)
    conversion = Conversion(sources, cells, EventForm(form.base_currency, ()), source.policy)
    problems = list(_misfits(conversion, columns))
    if problems:
        raise Misconfigured(problems)
    return conversion


def _misfits(conversion: Conversion, columns: Columns) -> Iterator[Problem]:
    known = list(columns.kinds)
    if "transaction_id" not in conversion.sources:
        expected = f"--labels-map transaction_id={closest('transaction_id', known)}"
        yield Problem(columns.address, "transaction_id", "no source", expected)
    for name, source in conversion.sources.items():
        for column in columns_of(source):
            if column not in columns.kinds:
                yield Problem(columns.address, name, f"no column {column}", closest(column, known))
            else:
                yield from misfit(conversion, columns.address, name, column)
    yield from untimed(conversion, columns.address)
