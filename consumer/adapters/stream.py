"""
Records into the Kinesis stream.

A PutRecords answer may refuse some records and take others: those refused are sent
again, with growing pauses, as long as attempts are left.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from consumer.errors import Unavailable
from consumer.patience import Sleep, pauses_s

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

# Limits of PutRecords (Kinesis Data Streams quotas), the bytes with partition keys and
# well below the limit, since a producer shares the shards with others.
BATCH_LIMIT_RECORDS: Final = 500
BATCH_LIMIT_BYTES: Final = 4 * 1_024 * 1_024
ATTEMPTS: Final = 8

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


Keyed = tuple[str, bytes]
"""A partition key, which chooses the shard, and the data of a record."""


class KinesisStream:
    """The stream *name*, written to through a *client* that retries nothing itself."""

    def __init__(self, client: "KinesisClient", name: str, *, sleep: Sleep) -> None:
        self._client = client
        self._name = name
        self._sleep = sleep

    def put(self, entries: Sequence[Keyed]) -> list[str | None]:
        """
        Send *entries*; return for each None, or the code with which it was last refused.

        Raises Unavailable when a whole call is refused or gets no answer: part of
        them may be in the stream then.
        """
        errors: list[str | None] = [None] * len(entries)
        for batch in _cut(entries):
            for place, error in self._put(batch, entries).items():
                errors[place] = error
        return errors

    def _put(self, batch: Sequence[int], entries: Sequence[Keyed]) -> dict[int, str]:
        """Send the entries at the places *batch*; return those refused, place → error."""
        refused: dict[int, str] = {}
        left = batch
        for attempt, pause_s in enumerate(pauses_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), start=1):
            refused = self._call(left, entries)
            if not refused or attempt == ATTEMPTS:
                break
            left = list(refused)
            self._sleep(pause_s)
        return refused

    def _call(self, places: Sequence[int], entries: Sequence[Keyed]) -> dict[int, str]:
        try:
            answer = self._client.put_records(
                StreamName=self._name,
                Records=[
                    {"PartitionKey": entries[place][0], "Data": entries[place][1]}
                    for place in places
                ],
            )
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "unknown")
            raise Unavailable("kinesis", f"put_records: {code}") from error
        except BotoCoreError as error:
            raise Unavailable("kinesis", f"put_records: {type(error).__name__}") from error
        pairs = zip(places, answer["Records"], strict=True)
        return {place: each["ErrorCode"] for place, each in pairs if each.get("ErrorCode")}


def _cut(entries: Sequence[Keyed]) -> Iterator[list[int]]:
    """The places of *entries* in runs within both limits."""
    run: list[int] = []
    size_bytes = 0
    for place, (key, data) in enumerate(entries):
        entry_bytes = len(key) + len(data)
        if len(run) == BATCH_LIMIT_RECORDS or (
            run and size_bytes + entry_bytes > BATCH_LIMIT_BYTES
        ):
            yield run
            run, size_bytes = [], 0
        run.append(place)
        size_bytes += entry_bytes
    if run:
        yield run
