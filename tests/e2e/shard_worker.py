"""
A worker whose records tell it what to do, run by the real KCL in the tests.

Every event is a line of JSON in the journal. A record ``note`` is noted;
``print`` prints to standard output; ``raise`` and ``hang`` do so until the file
``heal`` stands beside the journal. Each delivery is checkpointed at its last
record; what is drained on shutdown is said too.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from consumer.stdout_guard import guard

protocol_out = guard()

import orjson  # noqa: E402 - nothing is imported before the guard
from prometheus_client import REGISTRY  # noqa: E402

from consumer.adapters.kinesis import Checkpoint, Waiting, run_worker  # noqa: E402
from consumer.clock import SystemClock  # noqa: E402
from consumer.errors import Unavailable  # noqa: E402
from consumer.heartbeat import Heartbeat  # noqa: E402
from consumer.logs import configure, get_logger  # noqa: E402
from consumer.metrics import Metrics  # noqa: E402
from consumer.model import Position, Record, ShardId  # noqa: E402
from consumer.orphan import leave_with_parent  # noqa: E402
from consumer.patience import Patience  # noqa: E402


class JournalWorker:
    """Writes down what the KCL asks of it."""

    def __init__(self, journal: Path, heartbeat: Heartbeat, metrics: Metrics) -> None:
        self._journal = journal
        self._heartbeat = heartbeat
        self._metrics = metrics
        self._shard_id = ShardId("")
        self._last: Position | None = None

    def start(self, shard_id: ShardId, position: Position | None) -> None:
        self._shard_id = shard_id
        self._heartbeat.shard(shard_id)
        self._note("start", position)

    def process(
        self, records: Sequence[Record], millis_behind_latest: int | None, checkpoint: Checkpoint
    ) -> None:
        self._heartbeat.stage("decode")
        for record in records:
            self._obey(record)
            self._last = record.position
        if records and self._last is not None:
            self._heartbeat.progress(self._last, millis_behind_latest)
            self._heartbeat.stage("checkpoint")
            checkpoint(self._last)
            self._heartbeat.checkpointed(self._last)
            self._note("checkpoint", self._last)
        self._heartbeat.progress(self._last, millis_behind_latest)
        self._heartbeat.stage("idle")

    def lease_lost(self) -> None:
        self._note("lease_lost", None)

    def shard_ended(self, checkpoint: Checkpoint) -> None:
        self._note("shard_ended", None)

    def shutdown_requested(self, checkpoint: Checkpoint) -> None:
        if self._last is not None:
            checkpoint(self._last)
        self._note("drained", self._last)

    def _obey(self, record: Record) -> None:
        order = record.data.decode()
        healed = (self._journal.parent / "heal").exists()
        if order == "print":
            print('{"action":"checkpoint","sequenceNumber":null}')  # noqa: T201
        elif order == "raise" and not healed:
            self._note("raise", record.position)
            raise ValueError("told to")
        elif order == "hang" and not healed:
            self._note("hang", record.position)
            time.sleep(3_600)
        self._metrics.records.labels("decided").inc()
        self._note("record", record.position, order)

    def _note(self, event: str, position: Position | None, data: str = "") -> None:
        line = orjson.dumps(
            {
                "event": event,
                "pid": os.getpid(),
                "shard": self._shard_id,
                "position": None if position is None else str(position),
                "data": data,
            }
        )
        with self._journal.open("ab") as file:
            file.write(line + b"\n")


def _wait(error: Unavailable, _waited_s: float) -> None:
    get_logger("journal").warning("waiting", error=str(error))


def main() -> int:
    journal, run_dir = Path(sys.argv[1]), Path(sys.argv[2])
    configure("info", "json")
    leave_with_parent()
    get_logger("journal").info("hello")
    clock = SystemClock()
    with Heartbeat(run_dir, clock) as heartbeat:
        worker = JournalWorker(journal, heartbeat, Metrics(REGISTRY))
        return run_worker(
            worker,
            sys.stdin.buffer,
            protocol_out,
            waiting=Waiting(Patience(clock, time.sleep, 10.0, _wait), drain_limit_s=10.0),
            on_failure=heartbeat.leaving,
        )


if __name__ == "__main__":
    raise SystemExit(main())
