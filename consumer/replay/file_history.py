"""A history in files: listed, surveyed once, and read in order from any ordinal."""

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import orjson
import pyarrow as pa

from consumer.errors import FraudstreamError
from consumer.replay.database import connect, cursor, sorting, stream
from consumer.replay.file_events import Reading, open_file, ordered_query
from consumer.replay.history import Outline, Slice, Survey
from consumer.replay.known_labels import load
from consumer.replay.label_files import LabelFiles
from consumer.replay.objects import Listed, Spool
from consumer.replay.order import Member, Released, Repetitions, Run, group, merge
from consumer.replay.outlining import outline
from consumer.replay.rejects import Rejects
from consumer.replay.survey import Surveyed, Surveyor, keep, kept
from consumer.replay.tables import reading
from consumer.replay.waypoints import Waypoints

_ORDER_VERSION: Final = 2
"""Rises when the same input would be delivered in another order or as other bytes."""

_SPOOL_BYTES: Final = 4 << 30
_SCHEMA: Final = pa.schema(
    [("key", pa.int64()), ("file", pa.int32()), ("row", pa.int64()), ("event", pa.binary())]
)


@dataclass(frozen=True, slots=True)
class Workplace:
    """
    Where a history keeps what it needs meanwhile.

    In ``folder`` are the survey, objects of S3, what does not fit the memory and, unless
    told otherwise, the rejects. A folder that stays spares a resume the survey.
    """

    folder: Path
    rejects: Path
    max_rejects: float


class FileHistory:
    """
    The events of *files*, read by *rules*, and of *labels* where they have their own source.

    Implements ``History``. To be closed. ``read`` may be asked again, one at a time.
    """

    def __init__(
        self, files: Sequence[Listed], rules: Reading, labels: LabelFiles | None, place: Workplace
    ) -> None:
        place.folder.mkdir(parents=True, exist_ok=True)
        self._files = list(files)
        self._rules = rules
        self._labels = labels
        self._place = place
        self._database = connect(place.folder / "spill")
        self._spool = Spool(place.folder / "objects", _SPOOL_BYTES)
        self._spool.clear()
        self._rejects = Rejects(place.rejects, place.max_rejects)
        self._surveyed: Surveyed | None = None
        self._labels_loaded = False
        self._nouns: dict[int, str] = {}
        self.fingerprint = self._fingerprint()
        path = place.folder / f"waypoints-{self.fingerprint[:16]}.ndjson"
        self._waypoints = Waypoints.of(path)

    def close(self) -> None:
        """End the database and drop the copies of objects."""
        self._database.close()
        self._spool.clear()

    def _fingerprint(self) -> str:
        labels = self._labels
        content = {
            "order": _ORDER_VERSION,
            "files": [(each.address, each.size_bytes, each.version) for each in self._files],
            "map": self._rules.field_map.digest,
            "form": asdict(self._rules.form),
            "policy": asdict(self._rules.policy),
            "format": self._rules.given,
        }
        if labels is not None:
            content["labels"] = [
                [(each.address, each.size_bytes, each.version) for each in labels.files],
                labels.field_map.digest,
                asdict(labels.policy),
                labels.given,
            ]
        return hashlib.sha256(orjson.dumps(content)).hexdigest()

    def outline(self) -> Outline:
        """Look at the files without reading them through. Raises Misconfigured, Unavailable."""
        return outline(self._database, self._files, self._spool, self._rules)

    @property
    def rejects(self) -> Path:
        """The file of the rows that cannot be mapped."""
        return self._place.rejects

    def survey(self, on_rows: Callable[[int], None] | None = None) -> Survey:
        """Read every row once, or what an earlier survey kept. See ``History``."""
        return self._survey(on_rows).survey

    def _survey(self, on_rows: Callable[[int], None] | None = None) -> Surveyed:
        if self._surveyed is not None:
            return self._surveyed
        path = self._place.folder / f"survey-{self.fingerprint[:16]}.json"
        found = kept(path) if self._place.rejects.exists() else None
        if found is None:
            self._rejects.begin()
            self._load_labels(self._rejects)
            surveyor = Surveyor(
                self._database, self._files, self._rules, self._spool, self._rejects
            )
            found = surveyor.run(on_rows)
            keep(path, found)
        self._surveyed = found
        return found

    def _load_labels(self, rejects: Rejects | None = None) -> None:
        if self._labels is not None and not self._labels_loaded:
            form = self._rules.form
            load(self._database, self._labels, form, self._spool, rejects)
            self._labels_loaded = True

    def read(self, first: int = 0) -> Iterator[Slice]:
        """Read the events in order, from ordinal *first*. Raises Misconfigured, Unavailable."""
        found = self._survey()
        self._load_labels()
        ordinal, from_key = self._waypoints.before(first)
        members = [each for each in found.members if each.last_key >= from_key]
        kinds = [[each for each in members if each.labels is labels] for labels in (False, True)]
        runs = [self._run(each) for kind in kinds for each in group(kind)]
        repetitions = Repetitions()
        with closing(merge(runs, from_key)) as merged:
            for released in merged:
                whole = self._slice(ordinal, released, repetitions)
                self._waypoints.note(whole)
                ordinal += len(whole)
                if ordinal > first:
                    yield _from(whole, first)

    def _slice(self, first: int, released: Released, repetitions: Repetitions) -> Slice:
        events = released.events.to_pylist()
        places = repetitions.drop(released.keys, events)
        keys, files, rows = released.keys, released.files, released.rows
        if places is not None:
            chosen = np.array(places, np.int64)
            keys, files, rows = keys[chosen], files[chosen], rows[chosen]
            events = [events[place] for place in places]

        def origin(index: int) -> str:
            file = int(files[index])
            return f"{self._files[file].address}, {self._nouns[file]} {rows[index]}"

        return Slice(first, (keys >> 1).tolist(), events, (keys & 1 == 1).tolist(), origin)

    def _run(self, members: Sequence[Member]) -> Run:
        first = min(each.first_key for each in members)
        last = max(each.last_key for each in members)
        if len(members) == 1:
            return Run(first, last, lambda from_key: self._read_one(members[0], from_key))
        return Run(first, last, lambda from_key: self._read_sorted(members, from_key))

    def _read_one(self, member: Member, from_key: int) -> Generator[Released]:
        order = () if member.ordered else ("key", "row", "event")
        previous = 0
        for batch in self._batches(member, from_key, order):
            released = Released.of(batch)
            if int(released.keys[0]) < previous or np.any(np.diff(released.keys) < 0):
                raise RuntimeError(f"{self._files[member.file].address}: read out of order")
            previous = int(released.keys[-1])
            yield released

    def _batches(self, member: Member, from_key: int, order: Sequence[str]) -> Generator[Any]:
        listed = self._files[member.file]
        with ExitStack() as stack:
            connection = stack.enter_context(cursor(self._database))
            stack.callback(self._spool.give_back, listed)
            opened = open_file(connection, listed, self._spool, self._rules)
            self._nouns[member.file] = opened.table.noun
            choose = opened.labels if member.labels else opened.events
            with reading(opened.table), sorting(self._place.folder):
                query = ordered_query(choose(connection, from_key), member.file, order)
                yield from stream(connection, query)

    def _read_sorted(self, members: Sequence[Member], from_key: int) -> Generator[Released]:
        """Let DuckDB sort the events of many files, which are open one after the other."""
        failures: list[FraudstreamError | KeyboardInterrupt] = []

        def batches() -> Iterator[Any]:
            try:
                for member in members:
                    for batch in self._batches(member, from_key, ()):
                        yield batch.cast(_SCHEMA)
            except (FraudstreamError, KeyboardInterrupt) as error:
                failures.append(error)
                raise

        with cursor(self._database) as connection, sorting(self._place.folder):
            connection.register("__run", pa.RecordBatchReader.from_batches(_SCHEMA, batches()))
            query = "SELECT * FROM __run ORDER BY key, file, row, event"
            try:
                for batch in stream(connection, query):
                    yield Released.of(batch)
            except duckdb.Error:
                # DuckDB keeps only the words of what went wrong with a file.
                if failures:
                    raise failures[0] from None
                raise


def _from(found: Slice, first: int) -> Slice:
    """*found* without what lies before the ordinal *first*."""
    skipped = first - found.first
    if skipped <= 0:
        return found
    return Slice(
        first,
        found.times_ms[skipped:],
        found.events[skipped:],
        found.kinds[skipped:],
        lambda index: found.origin(index + skipped),
    )
