"""
Decisions to a Firehose delivery stream.

Firehose bills each record in steps of 5 KB, so several rows share a record; a
newline ends each row, because Firehose joins records without one. A 200 answer
may still carry failed records: those alone are sent again. What was accepted
but whose answer was lost is sent twice, which readers remove by prediction_id.
With a spill, what Firehose does not take in time goes there.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)

from consumer.errors import Rejected, Unavailable
from consumer.patience import Sleep, pauses_s
from consumer.pool import BoundedPool
from consumer.row import build_row
from consumer.settings import Firehose
from consumer.spill import Spill

if TYPE_CHECKING:
    from mypy_boto3_firehose import FirehoseClient

# Limits of PutRecordBatch (Amazon Data Firehose quotas), before base64.
RECORD_LIMIT_BYTES: Final = 1_000 * 1_024
BATCH_LIMIT_BYTES: Final = 4 * 1_024 * 1_024
BATCH_LIMIT_RECORDS: Final = 500

_THREADS = 2
# Above the publications that one worker leaves unacknowledged, so that none is refused.
_WAITING = 64
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class _Failure:
    """Records that were not acknowledged, the last reason and the SDK's error, if one."""

    records: list[bytes]
    cause: str
    error: Exception | None = None


class FirehoseSink:
    """
    Sends rows through *client*, which retries nothing itself, on threads of its own.

    ``on_error(cause)`` hears of every failed attempt: the error code of the
    service, ``timeout`` or ``connection``. It is called from the threads.
    Without a *spill* a record that has failed ``firehose.attempts`` times fails the
    publication; with one it is sent until the spill opens, and goes there.
    """

    def __init__(
        self,
        client: "FirehoseClient",
        settings: Firehose,
        *,
        sleep: Sleep,
        on_error: Callable[[str], None],
        spill: Spill | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._sleep = sleep
        self._on_error = on_error
        self._spill = spill
        self._pool = BoundedPool("firehose", threads=_THREADS, waiting=_WAITING)

    def publish(self, documents: Sequence[bytes]) -> Future[None]:
        """
        Send the rows of *documents*; never blocks.

        The future ends when every row is acknowledged or spilled. It ends with
        Unavailable when one was neither or when too many publications wait, and with
        Rejected for a row above Firehose's limit, which ``events.max_size_bytes``
        keeps far away.
        """
        kept = tuple(documents)
        future = self._pool.submit(lambda: self._send_all(kept))
        if future is None:
            future = Future()
            future.set_exception(Unavailable("firehose", "saturated"))
        return future

    def close(self) -> None:
        """Finish what was published and stop the threads."""
        self._pool.close()

    def _send_all(self, documents: Sequence[bytes]) -> None:
        records = pack(map(build_row, documents), self._settings.record_bytes)
        for batch in cut(records):
            if self._spill is None:
                self._send(batch)
            else:
                self._send_or_spill(batch, self._spill)

    def _send(self, batch: list[bytes]) -> None:
        """Send *batch* and again what failed of it, as often as the settings say."""
        left = batch
        for attempt, pause_s in enumerate(pauses_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), start=1):
            failure = self._put(left)
            if failure is None:
                return
            if attempt == self._settings.attempts:
                message = f"{len(failure.records)} records refused, the last time {failure.cause}"
                raise Unavailable("firehose", message) from failure.error
            left = failure.records
            self._sleep(pause_s)

    def _send_or_spill(self, batch: list[bytes], spill: Spill) -> None:
        """Send *batch* and again what failed of it, until *spill* opens and takes the rest."""
        left = batch
        started_s = spill.now_s()
        for pause_s in pauses_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S):
            if spill.is_open():
                break
            failure = self._put(left)
            if failure is None:
                spill.accepted()
                return
            left = failure.records
            spill.refused(started_s)
            if spill.is_open():
                break
            self._sleep(pause_s)
        spill.put(left)

    def _put(self, records: list[bytes]) -> _Failure | None:
        """Send *records* once; return what was not acknowledged, or None."""
        failure = self._attempt(records)
        if failure is not None:
            self._on_error(failure.cause)
        return failure

    def _attempt(self, records: list[bytes]) -> _Failure | None:
        try:
            response = self._client.put_record_batch(
                DeliveryStreamName=self._settings.stream_name,
                Records=[{"Data": record} for record in records],
            )
        except ClientError as error:
            return _Failure(records, str(error.response["Error"].get("Code", "unknown")), error)
        except (ReadTimeoutError, ConnectTimeoutError) as error:
            return _Failure(records, "timeout", error)
        except (EndpointConnectionError, HTTPClientError) as error:
            return _Failure(records, "connection", error)
        except BotoCoreError as error:
            return _Failure(records, type(error).__name__, error)
        answers = response["RequestResponses"]
        failed: list[bytes] = []
        cause = "no_answer"
        for record, answer in zip_longest(records, answers[: len(records)]):
            # Only an id acknowledges a record; one without any answer counts as failed.
            if answer is None or "ErrorCode" in answer or not answer.get("RecordId"):
                failed.append(record)
                cause = (answer or {}).get("ErrorCode", cause)
        return _Failure(failed, cause) if failed else None


def pack(rows: Iterable[bytes], record_bytes: int) -> Iterator[bytes]:
    """
    Join *rows* in order to records of at most *record_bytes*; a larger row is one alone.

    Raises Rejected for a row that no record can hold.
    """
    record = bytearray()
    for row in rows:
        if len(row) > RECORD_LIMIT_BYTES:
            message = f"a row takes {len(row)} bytes, Firehose at most {RECORD_LIMIT_BYTES}"
            raise Rejected("row_too_large", message)
        if record and len(record) + len(row) > record_bytes:
            yield bytes(record)
            record.clear()
        record += row
    if record:
        yield bytes(record)


def cut(records: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Cut *records*, in order, into batches within both limits of PutRecordBatch."""
    batch: list[bytes] = []
    size = 0
    for record in records:
        if len(batch) == BATCH_LIMIT_RECORDS or size + len(record) > BATCH_LIMIT_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield batch
