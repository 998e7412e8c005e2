"""
What a producer sent, one line of JSON a record, to be compared with what came out.

A line is written when the stream has acknowledged the record, with the shard
and sequence number it got, and never before. A record whose request broke off
may stand in the stream although nobody acknowledged it; it is sent again, and
``uncertain`` of its line says how often that happened.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypedDict

import msgspec
import orjson

from consumer.features.plan import DISTINCT_FIELDS
from consumer.local.simulator.events import Event, RecordKind
from consumer.model import Kind


class Entry(msgspec.Struct, frozen=True):
    """
    One acknowledged record; the truth about it as in `Event`.

    ``sent_ms`` is the wall clock of the request that succeeded, milliseconds
    since the epoch; ``label_time_ms`` is set on labels only. ``keys`` (field →
    value), ``latitude`` and ``longitude`` are what features are counted by; a label
    has the keys of its transaction.
    """

    record: RecordKind
    transaction_id: str
    card_id: str
    merchant_id: str
    event_time_ms: int
    label_time_ms: int | None
    amount_minor: int
    currency: str
    base_amount_minor: int
    kind: Kind
    fraud: bool
    pattern: str
    held_ms: int
    malformed: str
    sent_ms: int
    shard_id: str
    sequence_number: str
    uncertain: int
    keys: dict[str, str] = {}
    latitude: float | None = None
    longitude: float | None = None

    @property
    def late(self) -> bool:
        """Whether it was sent after newer events of its card."""
        return self.held_ms > 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the stream said about a record: where it stands, when sent, after how many doubts."""

    shard_id: str
    sequence_number: str
    sent_ms: int
    uncertain: int


class LedgerWriter:
    """Writes a ledger as a context manager; an older file of the same path is replaced."""

    def __init__(self, path: Path) -> None:
        """Start an empty ledger at *path*, in a folder made if need be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("wb")
        self._encoder = msgspec.json.Encoder()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file, also after an error: what was sent stays written."""
        self.close()

    def write(self, sent: Iterable[tuple[Event, Receipt]]) -> None:
        """Note acknowledged records; they are readable when this returns."""
        self._file.write(self._encoder.encode_lines([_entry(*pair) for pair in sent]))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _entry(event: Event, receipt: Receipt) -> Entry:
    return Entry(
        record=event.record,
        transaction_id=event.transaction_id,
        card_id=event.card_id,
        merchant_id=event.merchant_id,
        event_time_ms=event.event_time_ms,
        label_time_ms=event.time_ms if event.record is RecordKind.LABEL else None,
        amount_minor=event.amount_minor,
        currency=event.currency,
        base_amount_minor=event.base_amount_minor,
        kind=event.kind,
        fraud=event.fraud,
        pattern=event.pattern,
        held_ms=event.held_ms,
        malformed=event.malformed,
        sent_ms=receipt.sent_ms,
        shard_id=receipt.shard_id,
        sequence_number=receipt.sequence_number,
        uncertain=receipt.uncertain,
        **_counted_by(event),
    )


class _Counted(TypedDict, total=False):
    """What features count an event by."""

    keys: dict[str, str]
    latitude: float
    longitude: float


def _counted_by(event: Event) -> _Counted:
    if event.malformed:
        return {}
    sent = orjson.loads(event.data)
    if event.record is RecordKind.LABEL:
        return {"keys": sent.get("keys", {})}
    keys = {name: sent[name] for name in DISTINCT_FIELDS if name in sent}
    counted: _Counted = {"keys": keys}
    if "latitude" in sent and "longitude" in sent:
        counted["latitude"], counted["longitude"] = sent["latitude"], sent["longitude"]
    return counted


@dataclass(frozen=True)
class Ledger:
    """A ledger read back: its entries in the order they were acknowledged, and their counts."""

    entries: tuple[Entry, ...]

    @classmethod
    def read(cls, path: Path) -> "Ledger":
        """
        Read the ledger at *path*, also while it is being written.

        Raises OSError, and msgspec.DecodeError where a line is no entry.
        """
        decoder = msgspec.json.Decoder(Entry)
        whole, _, _ = path.read_bytes().rpartition(b"\n")
        return cls(tuple(decoder.decode_lines(whole)))

    @property
    def sent(self) -> int:
        """Records acknowledged, of every kind."""
        return len(self.entries)

    @property
    def unique(self) -> int:
        """Different transactions, the malformed ones not counted."""
        return len(self.transactions)

    @property
    def duplicates(self) -> int:
        """Transactions sent again."""
        return self._counts[RecordKind.DUPLICATE]

    @property
    def malformed(self) -> int:
        """Records that cannot be decoded."""
        return self._counts[RecordKind.MALFORMED]

    @property
    def labels(self) -> int:
        """Labels sent."""
        return self._counts[RecordKind.LABEL]

    @property
    def late(self) -> int:
        """Transactions sent after newer ones of their card."""
        return sum(entry.late for entry in self.transactions.values())

    @property
    def frauds(self) -> int:
        """Different fraudulent transactions."""
        return sum(entry.fraud for entry in self.transactions.values())

    @property
    def uncertain(self) -> int:
        """Sends whose outcome nobody knows; 0 means that the other counts are exact."""
        return sum(entry.uncertain for entry in self.entries)

    @cached_property
    def transactions(self) -> Mapping[str, Entry]:
        """The first send of every transaction, by its id."""
        return {
            entry.transaction_id: entry
            for entry in self.entries
            if entry.record is RecordKind.TRANSACTION
        }

    @cached_property
    def _counts(self) -> Counter[RecordKind]:
        return Counter(entry.record for entry in self.entries)
