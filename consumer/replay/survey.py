"""
The first pass over a history: every row tried, every file's extent and order learnt.

It reads what decides whether a row can be an event and when it is released, no more, and
so costs a fraction of a replay. What it found is kept in the work folder under the
fingerprint, so that a resume does not read everything first.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import orjson

from consumer.replay.database import cursor, stream
from consumer.replay.file_events import FileEvents, Reading, open_file
from consumer.replay.history import Survey
from consumer.replay.known_labels import count_unmatched, note_matched
from consumer.replay.objects import Listed, Spool
from consumer.replay.order import Extent, Member
from consumer.replay.rejects import Rejects
from consumer.replay.tables import reading


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What a first pass found: the sums, and each file's part in the order."""

    survey: Survey
    members: Sequence[Member]


@dataclass(slots=True)
class Surveyor:
    """Surveys *files*; rows that cannot be mapped go to *rejects*."""

    database: duckdb.DuckDBPyConnection
    files: Sequence[Listed]
    rules: Reading
    spool: Spool
    rejects: Rejects
    _transactions: int = 0

    def run(self, on_rows: Callable[[int], None] | None) -> Surveyed:
        """Read every file. Raises Misconfigured and Unavailable."""
        members: list[Member] = []
        extents: list[Extent] = []
        for number, listed in enumerate(self.files):
            with cursor(self.database) as connection:
                try:
                    opened = open_file(connection, listed, self.spool, self.rules)
                    for labels, extent in self._survey(connection, opened, on_rows):
                        extents.append(extent)
                        members += _member(number, extent, labels=labels)
                finally:
                    self.spool.give_back(listed)
        self.rejects.check(complete=True)
        unmatched = count_unmatched(self.database) if self.rules.joined else 0
        return Surveyed(self._sum(extents, unmatched), members)

    def _sum(self, extents: Sequence[Extent], unmatched: int) -> Survey:
        firsts = [each.first_key for each in extents if each.first_key is not None]
        lasts = [each.last_key for each in extents if each.last_key is not None]
        events = sum(each.count for each in extents)
        return Survey(
            rows=self.rejects.rows,
            rejected=self.rejects.rejected,
            events=events,
            transactions=self._transactions,
            labels=events - self._transactions,
            first_ms=min(firsts) // 2 if firsts else None,
            last_ms=max(lasts) // 2 if lasts else None,
            unmatched_labels=unmatched,
            examples=[str(each) for each in self.rejects.examples],
        )

    def _survey(
        self,
        connection: duckdb.DuckDBPyConnection,
        opened: FileEvents,
        on_rows: Callable[[int], None] | None,
    ) -> list[tuple[bool, Extent]]:
        """Return the extents of the events, and of the labels beside them (True)."""
        events, labels = Extent(), Extent()
        with reading(opened.table):
            for batch in stream(connection, opened.rows(connection)):
                self._note(batch, opened)
                keys = _numbers(batch.column("key"))
                self._transactions += int(np.count_nonzero(keys & 1))
                events.add(keys)
                labels.add(_numbers(batch.column("label_key")))
                self.rejects.check(complete=False)
                if on_rows is not None:
                    on_rows(self.rejects.rows)
            if opened.joined:
                labels = _joined_extent(connection, opened)
        return [(False, events), (True, labels)]

    def _note(self, batch: Any, opened: FileEvents) -> None:
        self.rejects.rows += batch.num_rows
        problems = batch.column("problem")
        if problems.null_count == batch.num_rows:
            return
        place = (opened.table.address, opened.table.noun)
        columns = (batch.column("row"), problems, batch.column("raw"))
        for row, problem, raw in zip(*(each.to_pylist() for each in columns), strict=True):
            if problem is not None:
                self.rejects.note(place, row, problem, raw)


def _numbers(column: Any) -> Any:
    return column.drop_null().to_numpy(zero_copy_only=False)


def _joined_extent(connection: duckdb.DuckDBPyConnection, opened: FileEvents) -> Extent:
    query = opened.labels(connection, 0)
    count, first, last = note_matched(connection, query)
    # A join gives no order that one could rely on.
    return Extent(count, first, last, ordered=False)


def _member(number: int, extent: Extent, *, labels: bool) -> list[Member]:
    if extent.first_key is None or extent.last_key is None:
        return []
    return [Member(number, labels, extent.first_key, extent.last_key, extent.ordered)]


def keep(path: Path, found: Surveyed) -> None:
    """Write *found* to *path*, whole or not at all."""
    content = {"survey": asdict(found.survey), "members": [asdict(each) for each in found.members]}
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(orjson.dumps(content))
    unfinished.replace(path)


def kept(path: Path) -> Surveyed | None:
    """Read what ``keep`` wrote, None where there is nothing (readable)."""
    try:
        content = orjson.loads(path.read_bytes())
        members = [Member(**each) for each in content["members"]]
        return Surveyed(Survey(**content["survey"]), members)
    except (OSError, ValueError, TypeError, KeyError):
        return None
