"""
The second tier: the real daemon on the real KCL, over a stream of two shards.

A first lease takes half a minute, so one daemon serves many cases, one after the other;
each sends traffic of its own and checks the whole state, that of the cases before too.
The two shards hold traffics whose entities do not touch, so the order in which a shard
was worked is the only one.
"""

import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from consumer.adapters.redis.features import RedisFeatureStore
from consumer.local.resources import session
from consumer.model import Position
from tests.chaos.checker import Difference, Expectation, Kind, compare
from tests.chaos.faults import Count, Fault, FaultFolder
from tests.chaos.found import AcceptedRows, Place, PrefixWatch
from tests.chaos.lab import ROOT, SETTINGS, Lab, score, score_by_formula
from tests.chaos.registry import Case, Tier, register
from tests.chaos.surroundings import build_environment
from tests.chaos.traffic import Item, Ledger, Mix, Placed, build_traffic
from tests.e2e.kcl_daemon import KclDaemon, eventually
from tests.sagemaker_server import Handler, Request

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

SHARDS = ("shardId-000000000000", "shardId-000000000001")
# Both halves of the range of hashes that moto gives to two shards.
HASH_KEYS = ("1", str(2**127 + 1))
_FIRST_LEASE_S = 120.0
WORKED_S = 240.0
_PUT = 400
_POLL_S = 0.2


@dataclass
class ChaosDaemon(KclDaemon):
    """``run_daemon`` with the faulty worker, set by variables."""

    environment: dict[str, str] = field(default_factory=dict)

    def start(self, **variables: str) -> None:
        """Start it; *variables* are settings of this start alone."""
        more = {f"FRAUDSTREAM_{name}": value for name, value in variables.items()}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.supervised"],
                env=self.environment | more,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        group = self.group()
        return group[1:]

    def await_workers(self, limit_s: float = _FIRST_LEASE_S) -> list[int]:
        """Wait until each shard has a worker."""

        def both() -> list[int]:
            assert self.process is not None
            code = self.process.poll()
            assert code is None, f"the daemon left with {code}; its log is {self.log}"
            found = self.workers()
            return found if len(found) == len(SHARDS) else []

        return eventually(both, "a worker for each shard", limit_s)


@dataclass(slots=True)
class Session:
    """One stream, one daemon, and everything that was sent to it."""

    lab: Lab
    folder: Path
    name: str
    daemon: ChaosDaemon
    faults: FaultFolder
    kinesis: "KinesisClient"
    place: Place
    ledgers: list[Ledger] = field(default_factory=list)
    watches: list[tuple[str, PrefixWatch]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    moved_s: list[float] = field(default_factory=list)
    _checkpoints: dict[str, Position] = field(default_factory=dict)

    def send(self, name: str, mix: Mix, choice: random.Random) -> int:
        """Put traffic of *mix* on each shard; return how many records that are."""
        now_ms = time.time_ns() // 1_000_000
        sent = 0
        for number, (shard_id, hash_key) in enumerate(zip(SHARDS, HASH_KEYS, strict=True)):
            items = build_traffic(f"{self.name}{name}{number}", mix, choice, now_ms)
            self.add(self._put(items, shard_id, hash_key))
            sent += len(items)
        return sent

    def add(self, placed: Sequence[Placed]) -> None:
        """Take note of what was put on one shard, in its order."""
        ledger = Ledger.of(placed)
        self.ledgers.append(ledger)
        self.watches.append((placed[0].shard_id, PrefixWatch(ledger, self.place)))

    def look(self) -> bool:
        """
        Hold the checkpoints as they stand against what they cover.

        Returns whether everything that was sent is checkpointed.
        """
        for shard_id, (_, text) in self.daemon.leases().items():
            number, _, sub = text.partition(":")
            if not number.isdecimal():
                continue
            position = Position(int(number), int(sub))
            known = self._checkpoints.get(shard_id)
            if position == known:
                continue
            if known is not None and position < known:
                self.violations.append(f"{shard_id}: the checkpoint went back to {position}")
            self._checkpoints[shard_id] = position
            self.moved_s.append(time.monotonic())
            for shard, watch in self.watches:
                if shard == shard_id:
                    self.violations += [
                        f"{shard}: the checkpoint {position} covers more than was done: {what}"
                        for what in watch.missing(position)
                    ]
        return self.unworked() == []

    def unworked(self) -> list[str]:
        """The shards whose newest record is not checkpointed."""
        newest: dict[str, Position] = {}
        for ledger in self.ledgers:
            newest[ledger.placed[-1].shard_id] = ledger.placed[-1].position
        return [
            shard
            for shard, position in newest.items()
            if self._checkpoints.get(shard, Position(0)) < position
        ]

    def _put(self, items: Sequence[Item], shard_id: str, hash_key: str) -> list[Placed]:
        """Put *items* on one shard, in their order; return where the stream holds them."""
        placed = []
        for start in range(0, len(items), _PUT):
            part = items[start : start + _PUT]
            answer = self.kinesis.put_records(
                StreamName=self.daemon.stream,
                Records=[
                    {"Data": item.data, "PartitionKey": "key", "ExplicitHashKey": hash_key}
                    for item in part
                ],
            )
            assert answer.get("FailedRecordCount", 0) == 0, answer
            numbers = [int(record["SequenceNumber"]) for record in answer["Records"]]
            assert {record["ShardId"] for record in answer["Records"]} == {shard_id}
            arrivals = self._arrivals(shard_id, numbers[0], len(part))
            placed += [
                Placed(item, Position(number), arrivals[number], shard_id)
                for item, number in zip(part, numbers, strict=True)
            ]
        return placed

    def _arrivals(self, shard_id: str, first: int, size: int) -> dict[int, int]:
        """Sequence number to arrival (ms) of the *size* records from *first* on."""
        iterator = self.kinesis.get_shard_iterator(
            StreamName=self.daemon.stream,
            ShardId=shard_id,
            ShardIteratorType="AT_SEQUENCE_NUMBER",
            StartingSequenceNumber=str(first),
        )["ShardIterator"]
        records = self.kinesis.get_records(ShardIterator=iterator, Limit=size)["Records"]
        return {
            int(record["SequenceNumber"]): round(
                record["ApproximateArrivalTimestamp"].timestamp() * 1_000
            )
            for record in records
        }


@contextmanager
def open_session(lab: Lab, folder: Path, seed: int, **settings: str) -> Iterator[Session]:
    """
    Start a daemon on a stream of its own, with an empty Redis, and wait for both workers.

    *settings* (``WORKER__CHUNK_SIZE="7"``) win over the shortened limits.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lab.redis.flushall()
    name = f"k{zlib.crc32(f'{seed}:{folder}'.encode()):08x}x"
    aws = session(lab.stack.aws_url)
    faults = FaultFolder(folder / "faults")
    faults.plan("none", [])
    variables = {
        "KCL__STREAM_NAME": name,
        "KCL__APPLICATION_NAME": f"app-{name}",
        "KCL__WORKER_ID": f"worker-{name}",
        "KCL__FAILOVER_TIME_MS": "2000",
        # So that leases and checkpoints can be refused; Kinesis needs HTTP/2 and moto itself.
        "KCL__DYNAMODB_ENDPOINT_URL": lab.gateway.url,
        "WORKER__PROGRESS_LIMIT_S": "8",
        "REDIS__OUTAGE_LIMIT_S": "10",
        "SUPERVISOR__HOST": "127.0.0.1",
        "SUPERVISOR__PORT": "0",
        "SUPERVISOR__RUN_DIR": str(folder / "run"),
        "SUPERVISOR__RESTART_BACKOFF_S": "0.2",
        "SUPERVISOR__RESTART_BACKOFF_MAX_S": "0.5",
        # What the cases kill on purpose must not count for a daemon that is beyond help.
        "SUPERVISOR__RESTART_LIMIT": "1000",
        "DEAD_LETTERS__PREFIX": f"{name}/",
        **settings,
    }
    with closing(aws.client("kinesis")) as kinesis:
        kinesis.create_stream(StreamName=name, ShardCount=len(SHARDS))
        daemon = ChaosDaemon(
            folder,
            lab.stack.aws_url,
            aws,
            name,
            environment=build_environment(lab, faults.path, variables),
        )
        rows = AcceptedRows(lambda: lab.firehose.accepted, name)
        horizon_s = SETTINGS.features.id_horizon_s
        store = RedisFeatureStore(lab.redis, lab.plan, id_horizon_s=horizon_s)
        bucket = SETTINGS.dead_letters.bucket
        place = Place(lab.redis, lab.s3, bucket, f"{name}/", rows, store)
        daemon.start()
        try:
            daemon.await_workers()
            yield Session(lab, folder, name, daemon, faults, kinesis, place)
        finally:
            end(daemon)


def end(daemon: ChaosDaemon) -> None:
    """SIGTERM, and if that does not help SIGKILL, which takes Java and workers along."""
    if daemon.process is not None and daemon.process.poll() is None:
        try:
            daemon.stop()
        except subprocess.TimeoutExpired:
            daemon.kill()


@dataclass(slots=True)
class KclArena:
    """One case on a session's daemon."""

    session: Session
    case: str
    seed: int
    degraded: bool = False
    sent: int = 0
    count: Count = field(default_factory=Count)
    choice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.choice = random.Random(f"{self.seed}:{self.case}")

    @property
    def daemon(self) -> ChaosDaemon:
        return self.session.daemon

    def plan(self, *faults: Fault) -> None:
        """What the workers do from their next delivery on; once, whichever comes first."""
        self.session.faults.plan(self.case, faults)

    def send(self, mix: Mix | None = None) -> None:
        """Put traffic on both shards."""
        number = len(self.session.ledgers)
        self.sent += self.session.send(f"n{number}", mix or Mix(), self.choice)

    def slow_endpoints(self, seconds: float) -> None:
        """Let every score take so long, so that a delivery can be met in its middle."""

        def answer(handler: Handler, request: Request) -> None:
            time.sleep(seconds)
            score_by_formula(handler, request)

        self.session.lab.endpoints.always(answer)

    def await_decided(self, number: int, limit_s: float = WORKED_S) -> None:
        """Wait until so many of this case's transactions have a document."""
        before = self._documents_before
        eventually(lambda: self._documents() - before >= number, f"{number} documents", limit_s)

    def await_worked(self, limit_s: float = WORKED_S) -> None:
        """Wait until all that was sent is checkpointed, looking at every checkpoint."""
        deadline_s = time.monotonic() + limit_s
        while not self.session.look():
            left = self.session.unworked()
            assert time.monotonic() < deadline_s, f"not checkpointed in {limit_s:.0f} s: {left}"
            time.sleep(_POLL_S)

    def signal(self, pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, counted as an injection."""
        os.kill(pid, number)
        self.count.note()

    def injected(self) -> list[float]:
        """When each injection took place, oldest first."""
        fired = [fired.at_s for fired in self.session.faults.fired(self.case)]
        return sorted([*self.count.at_s, *fired, *self.session.lab.gateway.injected])

    def differences(self) -> list[Difference]:
        """Everything in the whole state that is not as it has to be."""
        self.session.lab.endpoints.always(score_by_formula)
        self.await_worked()
        against = Expectation(
            self.session.lab.plan, SETTINGS.features.id_horizon_s, score, degraded=self.degraded
        )
        violations = [Difference(Kind.LOST, text) for text in self.session.violations]
        return [*violations, *compare(self.session.ledgers, self.session.place.find(), against)]

    def recovered_s(self) -> float | None:
        """From the last injection to the next checkpoint that was seen; None without one."""
        injected = self.injected()
        later = [at_s for at_s in self.session.moved_s if injected and at_s > injected[-1]]
        return round(later[0] - injected[-1], 2) if later else None

    @property
    def _documents_before(self) -> int:
        own = self.session.ledgers[-len(SHARDS) :]
        return sum(len(ledger.due) for ledger in self.session.ledgers) - sum(
            len(ledger.due) for ledger in own
        )

    def _documents(self) -> int:
        return sum(1 for _ in self.session.lab.redis.scan_iter(match="tx:*", count=1_000))


def kcl_case(
    name: str, expected: str
) -> Callable[[Callable[[KclArena], None]], Callable[[KclArena], None]]:
    """Register a case of the second tier; it gets its ``KclArena``, and leaves a running daemon."""

    def add(run: Callable[[KclArena], None]) -> Callable[[KclArena], None]:
        register(Case(name, Tier.KCL, expected, run))
        return run

    return add
