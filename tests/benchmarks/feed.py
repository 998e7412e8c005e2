"""Simulated transactions as the deliveries that a worker gets."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, islice

import orjson

from consumer.local.simulator.events import Event, RecordKind
from consumer.local.simulator.traffic import Scenario, Traffic
from consumer.model import Position
from tests.multilang import Delivered, MultilangDriver

SHARD = "shardId-000000000000"
_HISTORY_DAYS = 10.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """
    One message of the KCL, encoded before anything is measured.

    Made of encoded *records*, so that the driver's own work is copying bytes.
    """

    records: orjson.Fragment
    size: int

    @classmethod
    def of(cls, records: Sequence[bytes]) -> "Delivery":
        return cls(orjson.Fragment(b"[" + b",".join(records) + b"]"), len(records))

    def send(self, driver: MultilangDriver) -> None:
        """Hand it to the worker and wait until the worker is done with it."""
        driver.ask({"action": "processRecords", "millisBehindLatest": 0, "records": self.records})


class Feed:
    """
    Traffic of 2,000 cards at 400 merchants: ten days of history, then *transactions*.

    Labels are left out, so that every record is a transaction. Positions grow
    from delivery to delivery; an id is never handed out twice.
    """

    def __init__(self, transactions: int) -> None:
        end_ms = int(datetime.now(UTC).timestamp() * 1000)
        scenario = Scenario(end_ms=end_ms, transactions=transactions, history_days=_HISTORY_DAYS)
        self._traffic = Traffic(scenario)
        self._live = filter(_is_transaction, self._traffic.live())
        self._numbers = count(1)

    def history(self) -> Iterator[Event]:
        """The transactions before the live ones, in order of time."""
        for _, events in self._traffic.history():
            yield from filter(_is_transaction, events)

    def take(self, size: int) -> list[Event]:
        """The next *size* live transactions. Raises ValueError when there are fewer left."""
        events = list(islice(self._live, size))
        if len(events) < size:
            message = f"the feed has {len(events)} transactions left, {size} are asked for"
            raise ValueError(message)
        return events

    def deliveries(self, number: int, size: int) -> list[Delivery]:
        """The next *number* deliveries of *size* transactions that arrived just now."""
        now_ms = int(time.time() * 1000)
        return [
            Delivery.of([self.encode(event, now_ms) for event in self.take(size)])
            for _ in range(number)
        ]

    def encode(self, event: Event, arrival_ms: int) -> bytes:
        """*event* as the next record of the shard."""
        position = Position(next(self._numbers))
        return orjson.dumps(
            Delivered(event.data, position, arrival_ms, event.partition_key).encode()
        )


def _is_transaction(event: Event) -> bool:
    return event.record is RecordKind.TRANSACTION
