"""What producers put on a stream, entry by entry, and what each entry must come to."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.model import Label, Position, Record, ShardId, Transaction, TransactionId
from consumer.settings import Events

RULES = DecodeRules.of(Events())
MALFORMED = (b"{", b"", b"\xff\xfe", b'{"type":"transaction"}', b"\x1f\x8bno gzip", b"[" * 99)


@dataclass(frozen=True, slots=True)
class Entry:
    """A record of the stream with what is to be read from it; ``event`` None: malformed."""

    record: Record
    event: Transaction | Label | None

    @property
    def position(self) -> Position:
        return self.record.position

    @property
    def transaction_id(self) -> TransactionId | None:
        return None if self.event is None else self.event.transaction_id


@dataclass
class Shard:
    """One shard: its entries, its checkpoint in DynamoDB, and how far that was verified."""

    shard_id: ShardId
    entries: list[Entry] = field(default_factory=list)
    checkpoint: Position | None = None
    verified: int = 0
    ended: bool = False

    def safe(self) -> int:
        """How many entries, from the oldest, lie up to the checkpoint."""
        if self.ended:
            return len(self.entries)
        if self.checkpoint is None:
            return 0
        return sum(entry.position <= self.checkpoint for entry in self.entries)


class Stream:
    """One shard after the other: a child begins where its parent ended."""

    def __init__(self) -> None:
        self.shards = [Shard(ShardId("shardId-000000000000"))]
        self.payloads: list[dict[str, Any]] = []
        self.by_id: dict[TransactionId, list[Entry]] = {}
        self._sequence, self._sub_sequence = 100, 0

    @property
    def shard(self) -> Shard:
        """The newest shard, which takes records."""
        return self.shards[-1]

    def __iter__(self) -> Iterator[Entry]:
        for shard in self.shards:
            yield from shard.entries

    def split(self) -> None:
        """Go on in a child shard."""
        self.shards.append(Shard(ShardId(f"shardId-{len(self.shards):012}")))

    def put(self, data: bytes, arrival_ms: int, *, aggregated: bool = False) -> Entry:
        """Append *data*; an aggregated record shares the sequence number of the one before."""
        if aggregated and self.shard.entries:
            self._sub_sequence += 1
        else:
            self._sequence, self._sub_sequence = self._sequence + 7, 0
        position = Position(self._sequence, self._sub_sequence)
        try:
            event = decode(data, RULES)
        except Rejected:
            event = None
        entry = Entry(Record(self.shard.shard_id, position, arrival_ms, data), event)
        self.shard.entries.append(entry)
        if event is not None:
            self.by_id.setdefault(event.transaction_id, []).append(entry)
        return entry

    def transactions(self, transaction_id: TransactionId) -> list[Entry]:
        """The entries of one transaction, in the order of the stream."""
        entries = self.by_id.get(transaction_id, [])
        return [entry for entry in entries if isinstance(entry.event, Transaction)]

    def labels(self, transaction_id: TransactionId) -> list[Entry]:
        """The labels of one transaction, in the order of the stream."""
        entries = self.by_id.get(transaction_id, [])
        return [entry for entry in entries if isinstance(entry.event, Label)]


def iso(time_ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=time_ms)).isoformat()


def a_payload(number: int, time_ms: int, **changes: Any) -> dict[str, Any]:
    """A transaction as a producer writes it."""
    return {
        "type": "transaction",
        "transaction_id": f"tx_{number}",
        "event_time": iso(time_ms),
        "card_id": "card_1",
        "merchant_id": "merchant_1",
        "amount": 12.5,
        "currency": "EUR",
        **changes,
    }


def a_verdict(transaction_id: str, verdict: str, time_ms: int, **changes: Any) -> bytes:
    """A label as a producer writes it."""
    return orjson.dumps(
        {
            "type": "label",
            "transaction_id": transaction_id,
            "label": verdict,
            "label_time": iso(time_ms),
            "source": "chargeback",
            **changes,
        }
    )
