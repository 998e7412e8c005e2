"""A producer of the KCL tier: steady traffic on both shards, in event time that runs faster."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from consumer.model import Position
from tests.chaos.kcl import HASH_KEYS, SHARDS, Session
from tests.chaos.traffic import Item, Ledger, Mix, Placed, build_traffic

_RATE = 20
"""Transactions a second and shard."""

_PART_S = 30.0
_PUTS = 120
_REACH_S = 28 * 86_400


@dataclass(slots=True)
class Producer:
    """
    Sends for *planned_s* seconds what happened in four weeks, in parts of half a minute.

    Entities are those of a shard for the whole run; ids are new.
    """

    session: Session
    choice: random.Random
    planned_s: float
    _parts: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _error: BaseException | None = None
    _streams: list[list[Placed]] = field(default_factory=list)
    _began_ms: int = field(default_factory=lambda: time.time_ns() // 1_000_000)

    @contextmanager
    def sending(self) -> Iterator[list[Ledger]]:
        """Send while the block runs; yields the ledgers of the shards, which grow."""
        self._streams = [[] for _ in SHARDS]
        ledgers = [Ledger(stream) for stream in self._streams]
        self._over.clear()
        thread = threading.Thread(target=self._send, args=(ledgers,), name="producer")
        thread.start()
        try:
            while not all(ledger.placed for ledger in ledgers):
                self.check()
                time.sleep(0.1)
            yield ledgers
        finally:
            self._over.set()
            thread.join()
        self.check()

    def check(self) -> None:
        """Raise what ended the sending, if anything did."""
        if self._error is not None:
            raise self._error

    def _send(self, ledgers: Sequence[Ledger]) -> None:
        try:
            while not self._over.is_set():
                self._send_part(ledgers)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._error = error

    def _send_part(self, ledgers: Sequence[Ledger]) -> None:
        """Half a minute of traffic; what has begun when the block ends is not sent to its end."""
        parts = [self._build(number) for number in range(len(SHARDS))]
        self._parts += 1
        begun_s = time.monotonic()
        for turn in range(_PUTS):
            for number, (items, ledger) in enumerate(zip(parts, ledgers, strict=True)):
                cut = slice(turn * len(items) // _PUTS, (turn + 1) * len(items) // _PUTS)
                self._put(items[cut], number, ledger)
            due_s = begun_s + (turn + 1) * _PART_S / _PUTS
            if self._over.wait(max(due_s - time.monotonic(), 0)):
                return

    def _build(self, number: int) -> list[Item]:
        step_s = min(_REACH_S * _PART_S / self.planned_s, _REACH_S)
        ago_s = max(_REACH_S - (self._parts + 1) * step_s, 0)
        name = f"{self.session.name}s{number}"
        mix = Mix(
            transactions=round(_RATE * _PART_S),
            cards=120,
            merchants=20,
            terminals=60,
            devices=100,
            span_s=max(round(step_s), 1_800),
            hot=True,
            crowd=0.4,
            conflicts=0.006,
            malformed=0.006,
            ahead=0,
            entities=f"{name}e",
        )
        now_ms = self._began_ms - int(ago_s * 1_000)
        return build_traffic(f"{name}p{self._parts}n", mix, self.choice, now_ms)

    def _put(self, items: Sequence[Item], number: int, ledger: Ledger) -> None:
        if not items:
            return
        session = self.session
        answer = session.kinesis.put_records(
            StreamName=session.daemon.stream,
            Records=[
                {"Data": item.data, "PartitionKey": "key", "ExplicitHashKey": HASH_KEYS[number]}
                for item in items
            ],
        )
        assert answer.get("FailedRecordCount", 0) == 0, answer
        # Nothing is ahead of its arrival, so that this may be a little off.
        now_ms = time.time_ns() // 1_000_000
        for item, record in zip(items, answer["Records"], strict=True):
            position = Position(int(record["SequenceNumber"]))
            placed = Placed(item, position, now_ms, SHARDS[number])
            # Whoever looks at the stream meanwhile has to find it in the ledger.
            ledger.read(placed)
            self._streams[number].append(placed)
