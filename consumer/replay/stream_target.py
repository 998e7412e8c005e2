"""
Events into the Kinesis stream, for the daemon to take up: the way of many machines.

Records of one card stay in order although several calls are under way and each may be refused
in part: a card has one record on its way at a time, and none overtakes it.
"""

from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from consumer.errors import Unavailable
from consumer.model import Label, Transaction
from consumer.patience import Patience
from consumer.replay.chunks import Chunk, Phase
from consumer.replay.target import Result

# A call carries 500 records (the limit of PutRecords), each of another card; of so many that
# wait there are usually that many cards. More calls at once than these only wait at AWS.
_CALL_RECORDS = 500
_WINDOW = 5_000
_CALLS = 4


class Stream(Protocol):
    """Where records are put."""

    def put(self, entries: Sequence[tuple[str, bytes]]) -> list[str | None]:
        """
        Put (partition key, data); for each None, or the code with which it was refused.

        Raises Unavailable when it is not known which of them are in the stream.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Record:
    key: str
    data: bytes


class StreamTarget:
    """
    Puts transactions and labels into *stream*, each with its card as the partition key.

    At least once: after an interruption what was sent since the saved state is sent again,
    which the daemon takes for the producer's duplicates that they are. ``counts`` are of
    ``sent`` records.
    """

    def __init__(self, stream: Stream, patience: Patience) -> None:
        self.counts: Counter[str] = Counter()
        self._stream = stream
        self._patience = patience
        self._pool = ThreadPoolExecutor(_CALLS, "replay-stream")
        self._waiting: deque[_Record] = deque()
        self._busy: set[str] = set()
        self._calls: dict[Future[None], list[_Record]] = {}

    def work(self, chunk: Chunk) -> None:
        """Take *chunk* up; as many records wait as make full calls of different cards."""
        if chunk.phase is not Phase.FULL:
            return
        for event, data in zip(chunk.events, chunk.data, strict=True):
            self._waiting.append(_Record(_key_of(event), data))
            self.counts["labels" if isinstance(event, Label) else "transactions"] += 1
        # A paced replay must not wait for company: what is due goes as soon as it can.
        self._reap(block=False)
        self._send()
        while len(self._waiting) > _WINDOW:
            self._reap(block=True)
            self._send()

    def save(self) -> dict[str, object]:
        """Wait until everything is in the stream."""
        while self._waiting or self._calls:
            self._send()
            self._reap(block=True)
        return {}

    def finish(self) -> Result:
        """Nothing is left to do."""
        return Result()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _send(self) -> None:
        """Begin calls while there is something to send that nothing else is in the way of."""
        while len(self._calls) < _CALLS:
            records = self._choose()
            if not records:
                return
            self._busy.update(record.key for record in records)
            future = self._pool.submit(self._put, records)
            self._calls[future] = records

    def _choose(self) -> list[_Record]:
        """Take the oldest record of each card that has none on its way."""
        chosen: list[_Record] = []
        behind: list[_Record] = []
        passed = set(self._busy)
        while self._waiting and len(chosen) < _CALL_RECORDS:
            record = self._waiting.popleft()
            if record.key in passed:
                behind.append(record)
            else:
                chosen.append(record)
                passed.add(record.key)
        self._waiting.extendleft(reversed(behind))
        return chosen

    def _put(self, records: list[_Record]) -> None:
        """Put *records*, and again those that were refused. Raises Unavailable in the end."""
        left = records

        def attempt() -> None:
            nonlocal left
            codes = self._stream.put([(record.key, record.data) for record in left])
            pairs = zip(left, codes, strict=True)
            refused = [(record, code) for record, code in pairs if code is not None]
            left = [record for record, _ in refused]
            if refused:
                message = f"{len(refused)} records were refused: {refused[0][1]}"
                raise Unavailable("kinesis", message)

        self._patience.call(attempt)

    def _reap(self, *, block: bool) -> None:
        """Take what ended from the calls under way; wait for one if *block*."""
        if not self._calls:
            return
        done, _ = wait(self._calls, timeout=None if block else 0, return_when=FIRST_COMPLETED)
        for future in done:
            records = self._calls.pop(future)
            future.result()
            self.counts["sent"] += len(records)
            self._busy.difference_update(record.key for record in records)


def _key_of(event: Transaction | Label) -> str:
    """The card, which keeps its events in one shard; a label may only know its transaction."""
    if isinstance(event, Transaction):
        return event.card_id
    return event.keys.get("card_id") or event.transaction_id
