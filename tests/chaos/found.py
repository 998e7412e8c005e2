"""What a run left behind: documents, rows, dead letters, alerts, labels, entity state."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import orjson
import redis

from consumer.adapters.redis.cluster import Call, Servers
from consumer.adapters.redis.documents import ALERTS, PREFIX
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.local.findings import read_documents, read_lines
from consumer.model import Position
from tests.chaos.traffic import Ledger, Placed

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ReadFeatures = Callable[[str, str, int], Mapping[str, float]]
"""Entity, key and time (seconds) to feature name → value."""

Document = Mapping[str, Any]
# What TTL answers for a key without one.
_FOR_EVER = -1


class Rows(Protocol):
    """Whatever took the Firehose rows."""

    def __call__(self) -> Sequence[Document]:
        """Every acknowledged row so far, repeats too."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """
    Everything at one moment.

    ``letters`` maps id to error code, ``unmatched`` transaction id to the waiting label,
    ``entities`` are (entity, key) of all that has state; ``read`` asks for features;
    ``lasting`` are the keys of Redis that would stay for ever and may not.
    """

    documents: Mapping[str, Document]
    rows: Sequence[Document]
    letters: Sequence[tuple[str, str]]
    alerts: Sequence[Document]
    unmatched: Mapping[str, Document]
    entities: frozenset[tuple[str, str]]
    read: ReadFeatures
    lasting: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run leaves its traces: a Redis of its own, a prefix of the letters' bucket."""

    client: redis.Redis
    s3: "S3Client"
    bucket: str
    prefix: str
    rows: Rows
    store: RedisFeatureStore

    def find(self) -> Found:
        """Read all of it."""
        return Found(
            documents=read_documents(self.client),
            rows=self.rows(),
            letters=[
                (str(letter["id"]), str(letter["error"]))
                for letter in read_lines(self.s3, self.bucket, self.prefix)
            ],
            alerts=self._alerts(),
            unmatched=dict(self._unmatched()),
            entities=frozenset(self._entities()),
            read=self.store.read,
            lasting=list(self._lasting()),
        )

    def letter_ids(self) -> set[str]:
        """The ids of the dead letters, from the names of their objects."""
        names = (key.rpartition("/")[2] for key in self.letter_keys())
        return {name.removesuffix(".ndjson.gz") for name in names}

    def letter_keys(self) -> list[str]:
        """The names of the dead letters' objects."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self.prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        """Send *calls* to the primaries there are now, and return their replies."""
        with closing(Servers(self.client)) as servers:
            replies = servers.call(calls)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    def _alerts(self) -> list[Document]:
        (entries,) = self.ask([Call(ALERTS, ("XRANGE", ALERTS, "-", "+"))])
        return [orjson.loads(fields[fields.index(b"alert") + 1]) for _, fields in entries]

    def _unmatched(self) -> Iterator[tuple[str, Document]]:
        keys = self._keys(f"unmatched:{{{PREFIX}*")
        for key, body in zip(
            keys, self.ask([Call(key, ("GET", key)) for key in keys]), strict=True
        ):
            if isinstance(body, bytes):
                name = key.removeprefix(f"unmatched:{{{PREFIX}").removesuffix("}")
                yield name, orjson.loads(body)

    def _entities(self) -> Iterator[tuple[str, str]]:
        for key in self._keys("f:{*"):
            tag = key.partition("{")[2].partition("}")[0]
            entity, _, name = tag.partition(":")
            yield entity, name

    def _lasting(self) -> Iterator[str]:
        keys = [key for kind in ("tx:*", "unmatched:*", "f:{*") for key in self._keys(kind)]
        lives = self.ask([Call(key, ("TTL", key)) for key in keys])
        yield from (key for key, seconds in zip(keys, lives, strict=True) if seconds == _FOR_EVER)

    def _keys(self, pattern: str) -> list[str]:
        with closing(Servers(self.client)) as servers:
            return [
                key.decode()
                for primary in servers.primaries
                for key in primary.scan_iter(match=pattern, count=1_000)
            ]


@dataclass(slots=True)
class PrefixWatch:
    """
    Whether everything up to a checkpoint is done, asked at that moment; each record once.

    A transaction needs its document and an acknowledged row, a rejected record its dead
    letter, a label its place on the document or beside it. Of what is *gone*, as the case
    says, nothing but the row is asked for.
    """

    ledger: Ledger
    place: Place
    gone: Collection[str] = frozenset()
    _next: int = 0

    def missing(self, upto: Position | None) -> list[str]:
        """What a checkpoint at *upto* (None: the end) would lose; looks at what is new."""
        placed = self.ledger.placed
        end = self._next
        while end < len(placed) and (upto is None or placed[end].position <= upto):
            end += 1
        covered, self._next = placed[self._next : end], end
        return list(self._look(covered)) if covered else []

    def _look(self, covered: Sequence[Placed]) -> Iterator[str]:
        wanted = [each for each in covered if each.letter_id in self.ledger.letters]
        if wanted:
            there = self.place.letter_ids()
            for each in wanted:
                if each.letter_id not in there:
                    yield f"no dead letter {each.letter_id}"
        rejected = {each.letter_id for each in wanted}
        events = [each.event for each in covered if each.letter_id not in rejected]
        names = [str(event["transaction_id"]) for event in events]
        calls = []
        for name in names:
            key, waiting = PREFIX + name, f"unmatched:{{{PREFIX}{name}}}"
            calls.append(Call(key, ("EXISTS", key)))
            calls.append(Call(key, ("JSON.GET", key, "$.label")))
            calls.append(Call(waiting, ("EXISTS", waiting)))
        replies = iter(self.place.ask(calls))
        rows = {str(row["transaction_id"]) for row in self.place.rows()}
        for event, name in zip(events, names, strict=True):
            decided, label, waits = next(replies), next(replies), next(replies)
            if event["type"] == "label":
                if not waits and label in (None, b"[]"):
                    yield f"the label of {name} is nowhere"
                continue
            if not decided and name not in self.gone:
                yield f"{name} has no document"
            if name not in rows and name not in self.ledger.shared:
                yield f"{name} has no acknowledged row"


@dataclass(slots=True)
class AcceptedRows:
    """The rows in what a Firehose server accepted, parsed as they come."""

    accepted: Callable[[], Sequence[bytes]]
    prefix: str
    _seen: int = 0
    _rows: list[Document] = field(default_factory=list)

    def __call__(self) -> Sequence[Document]:
        """Every row whose transaction id begins with the prefix, repeats too."""
        records = self.accepted()
        for record in records[self._seen :]:
            self._rows += [
                row
                for row in map(orjson.loads, record.splitlines())
                if row["transaction_id"].startswith(self.prefix)
            ]
        self._seen = len(records)
        return self._rows

    def forget(self) -> None:
        """Leave out what was accepted so far."""
        self._seen = len(self.accepted())
        self._rows.clear()
