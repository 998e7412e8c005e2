"""
Sends events to Kinesis at a steady rate, and again only what was refused.

Open loop: each record has the time it is due, and a slow answer does not move
the times of later ones. Whoever measures a daemon against this traffic sees
the waiting that a closed loop would hide.

A request carries at most 500 records and 5 MiB, keys included; one record at
most 1 MiB (PutRecords, Kinesis API reference).
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from consumer.clock import Clock, SystemClock
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.local.simulator.events import Event
from consumer.local.simulator.ledger import LedgerWriter, Receipt
from consumer.patience import Patience, Sleep

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_kinesis.type_defs import PutRecordsResultEntryTypeDef

MAX_RECORDS = 500
MAX_BYTES = 5 * 1024 * 1024
_TICK_S = 0.02
"""Records due within this time share a request; one request each would be the producer's limit."""
_PATIENCE_S = 60.0
_SERVER_ERROR = 500
"""HTTP status from which on nobody can say whether the request was carried out."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a producer is: records acknowledged, seconds since its start, how late it is."""

    sent: int
    elapsed_s: float
    behind_s: float


@dataclass(frozen=True, slots=True)
class Summary:
    """
    What a producer did.

    ``refused`` counts records that the stream turned down at first and
    ``uncertain`` those in requests that broke off; all were sent again.
    ``behind_s`` is the most a record left after it was due.
    """

    sent: int
    requests: int
    refused: int
    uncertain: int
    seconds: float
    behind_s: float


@dataclass(slots=True)
class _Tally:
    sent: int = 0
    requests: int = 0
    refused: int = 0
    uncertain: int = 0
    behind_s: float = 0.0


@dataclass(slots=True)
class _Batch:
    """Records that travel together, and the doubts about those not acknowledged yet."""

    pending: list[Event] = field(default_factory=list)
    uncertain: int = 0


class Producer:
    """
    Sends events to one stream, in order, and notes them in a ledger.

    The client must not retry by itself (``max_attempts`` 0): records that were
    taken would be sent twice without anybody knowing.
    """

    def __init__(
        self,
        client: "KinesisClient",
        stream: str,
        ledger: LedgerWriter | None = None,
        *,
        clock: Clock | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        """Send to *stream*; nothing is called before `send`."""
        self._client = client
        self._stream = stream
        self._ledger = ledger
        self._clock = clock or SystemClock()
        self._sleep = sleep
        self._patience = Patience(self._clock, sleep, _PATIENCE_S, lambda _error, _waited_s: None)

    def send(
        self,
        events: Iterable[Event],
        rate: float = 0.0,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Summary:
        """
        Send *events*, *rate* records a second or, at 0, as fast as the stream takes them.

        ``on_progress`` hears after every request. Records of one request that
        were refused may arrive after later ones of the same request; requests
        are never in flight together, so nothing else changes its order.

        Raises Unavailable when the stream takes nothing for a minute,
        Misconfigured when there is no such stream.
        """
        tally = _Tally()
        started_s = self._clock.monotonic_s()
        for batch, behind_s in self._due(events, rate, started_s):
            self._put(batch, tally)
            tally.behind_s = max(tally.behind_s, behind_s)
            if on_progress is not None:
                elapsed_s = self._clock.monotonic_s() - started_s
                on_progress(Progress(tally.sent, elapsed_s, behind_s))
        return Summary(
            sent=tally.sent,
            requests=tally.requests,
            refused=tally.refused,
            uncertain=tally.uncertain,
            seconds=self._clock.monotonic_s() - started_s,
            behind_s=tally.behind_s,
        )

    def _due(
        self, events: Iterable[Event], rate: float, started_s: float
    ) -> Iterator[tuple[list[Event], float]]:
        """Batches when they are due, with the seconds by which their first record is late."""
        batch: list[Event] = []
        size_bytes = 0
        number = 0
        for number, event in enumerate(events):
            wait_s = 0.0
            if rate > 0.0:
                wait_s = started_s + number / rate - self._clock.monotonic_s()
            record_bytes = len(event.data) + len(event.partition_key.encode())
            full = len(batch) == MAX_RECORDS or size_bytes + record_bytes > MAX_BYTES
            if batch and (full or wait_s > 0.0):
                yield batch, self._behind_s(number - len(batch), rate, started_s)
                batch, size_bytes = [], 0
            if wait_s > 0.0:
                self._sleep(max(wait_s, _TICK_S))
            batch.append(event)
            size_bytes += record_bytes
        if batch:
            yield batch, self._behind_s(number + 1 - len(batch), rate, started_s)

    def _behind_s(self, first: int, rate: float, started_s: float) -> float:
        if rate <= 0.0:
            return 0.0
        return max(0.0, self._clock.monotonic_s() - started_s - first / rate)

    def _put(self, events: list[Event], tally: _Tally) -> None:
        batch = _Batch(events)

        def attempt() -> None:
            self._put_once(batch, tally)

        self._patience.call(attempt)

    def _put_once(self, batch: _Batch, tally: _Tally) -> None:
        """Send what is pending and keep what was refused. Raises Unavailable if anything was."""
        sent_ms = self._clock.now_ms()
        tally.requests += 1
        try:
            answers = self._client.put_records(
                StreamName=self._stream,
                Records=[
                    {"Data": event.data, "PartitionKey": event.partition_key}
                    for event in batch.pending
                ],
            )["Records"]
        except ClientError as error:
            raise self._translated(error, batch, tally) from error
        except BotoCoreError as error:
            _doubt(batch, tally)
            raise Unavailable("kinesis", str(error)) from error
        refused = self._settle(batch, answers, sent_ms)
        tally.sent += len(batch.pending) - len(refused)
        tally.refused += len(refused)
        batch.pending = refused
        if refused:
            raise Unavailable("kinesis", f"{len(refused)} records were refused")

    def _settle(
        self, batch: _Batch, answers: "list[PutRecordsResultEntryTypeDef]", sent_ms: int
    ) -> list[Event]:
        """Note what was taken in the ledger and return what was not."""
        pairs = list(zip(batch.pending, answers, strict=True))
        if self._ledger is not None:
            self._ledger.write(
                (
                    event,
                    Receipt(answer["ShardId"], answer["SequenceNumber"], sent_ms, batch.uncertain),
                )
                for event, answer in pairs
                if not answer.get("ErrorCode")
            )
        return [event for event, answer in pairs if answer.get("ErrorCode")]

    def _translated(
        self, error: ClientError, batch: _Batch, tally: _Tally
    ) -> Misconfigured | Unavailable:
        code = error.response.get("Error", {}).get("Code", "")
        if code == "ResourceNotFoundException":
            problem = Problem("kinesis", "stream", self._stream, "the name of an existing stream")
            return Misconfigured([problem])
        if (
            error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", _SERVER_ERROR)
            >= _SERVER_ERROR
        ):
            _doubt(batch, tally)
        return Unavailable("kinesis", str(error))


def _doubt(batch: _Batch, tally: _Tally) -> None:
    """A request broke off: its records may have been taken all the same."""
    batch.uncertain += 1
    tally.uncertain += len(batch.pending)
