"""
A stream that is split and merged under load, and the daemons that read it.

Traffic goes down lanes: each has one hash key and entities that no other lane touches, so
whatever shards it passes through, its order is the only one. Documents whose features are
those of their place in the lane prove that no child was read before its parents.
"""

import random
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from consumer.adapters.redis.features import RedisFeatureStore
from consumer.local.resources import session
from consumer.model import Position
from tests.chaos.checker import Difference, Expectation, Kind, compare
from tests.chaos.faults import Count, FaultFolder
from tests.chaos.found import AcceptedRows, Place, PrefixWatch
from tests.chaos.kcl import ChaosDaemon, end
from tests.chaos.kinesis_local import KinesisLocal
from tests.chaos.lab import SETTINGS, Lab, score
from tests.chaos.registry import Case, Tier, register
from tests.chaos.surroundings import build_environment
from tests.chaos.traffic import Item, Ledger, Mix, Placed, build_traffic
from tests.e2e.kcl_daemon import eventually

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_kinesis.type_defs import ShardTypeDef

_HASH_KEYS = 2**128
# After a death another leader of the KCL may have to wait for the lock of the one before, 120 s.
_LIMIT_S = 300.0
_ENDED = "SHARD_END"
_TRIES = 50


@dataclass(frozen=True, slots=True)
class Lane:
    """Items that go to one hash key, in their order."""

    hash_key: int
    items: Sequence[Item]


@dataclass(slots=True)
class ReshardingArena:
    """One case: a stream on a server of its own, lanes of traffic, daemons. Redis is empty."""

    lab: Lab
    case: str
    seed: int
    folder: Path
    choice: random.Random = field(init=False)
    name: str = field(init=False)
    kinesis: "KinesisClient" = field(init=False)
    place: Place = field(init=False)
    faults: FaultFolder = field(init=False)
    url: str = ""
    degraded: bool = False
    count: Count = field(default_factory=Count)
    sent: list[tuple[int, Placed]] = field(default_factory=list)
    daemons: list[ChaosDaemon] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    moved_s: list[float] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)
    _checkpoints: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.choice = random.Random(f"{self.seed}:{self.case}")
        self.name = f"r{zlib.crc32(f'{self.seed}:{self.folder}'.encode()):08x}x"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.faults = FaultFolder(self.folder / "faults")
        self.faults.plan("none", [])
        rows = AcceptedRows(lambda: self.lab.firehose.accepted, self.name)
        horizon_s = SETTINGS.features.id_horizon_s
        store = RedisFeatureStore(self.lab.redis, self.lab.plan, id_horizon_s=horizon_s)
        bucket = SETTINGS.dead_letters.bucket
        self.place = Place(self.lab.redis, self.lab.s3, bucket, f"{self.name}/", rows, store)

    def open_stream(self, shards: int) -> None:
        """A server and a stream of *shards* on it."""
        self.url = self.stack.enter_context(KinesisLocal(self.folder)).url
        aws = session(self.url)
        self.kinesis = self.stack.enter_context(closing(aws.client("kinesis")))
        self.kinesis.create_stream(StreamName=self.name, ShardCount=shards)
        self.await_active()

    def daemon(self, **variables: str) -> ChaosDaemon:
        """One more daemon on the stream, started; *variables* are settings."""
        number = len(self.daemons)
        folder = self.folder / f"daemon-{number}"
        folder.mkdir(parents=True)
        settings = {
            "AWS__ENDPOINT_URL": self.url,
            "KCL__DYNAMODB_ENDPOINT_URL": self.lab.gateway.url,
            "KCL__STREAM_NAME": self.name,
            "KCL__APPLICATION_NAME": f"app-{self.name}",
            "KCL__WORKER_ID": f"worker-{self.name}-{number}",
            "KCL__FAILOVER_TIME_MS": "2000",
            "WORKER__PROGRESS_LIMIT_S": "30",
            "SUPERVISOR__HOST": "127.0.0.1",
            "SUPERVISOR__PORT": "0",
            "SUPERVISOR__RUN_DIR": str(folder / "run"),
            "SUPERVISOR__RESTART_BACKOFF_S": "0.2",
            "SUPERVISOR__RESTART_BACKOFF_MAX_S": "0.5",
            "SUPERVISOR__RESTART_LIMIT": "1000",
            "DEAD_LETTERS__PREFIX": f"{self.name}/",
            **variables,
        }
        # Leases are looked at where they are, not through the gateway.
        aws = session(self.lab.stack.aws_url)
        environment = build_environment(self.lab, self.faults.path, settings)
        daemon = ChaosDaemon(folder, self.url, aws, self.name, environment=environment)
        daemon.start()
        self.stack.callback(end, daemon)
        self.daemons.append(daemon)
        return daemon

    def lanes(self, number: int, mix: Mix) -> list[Lane]:
        """*number* lanes of *mix* over the whole range of hash keys."""
        now_ms = time.time_ns() // 1_000_000
        first = len(self.sent)
        return [
            Lane(
                _HASH_KEYS * (2 * lane + 1) // (2 * number),
                build_traffic(f"{self.name}n{first}l{lane}-", mix, self.choice, now_ms),
            )
            for lane in range(number)
        ]

    @contextmanager
    def sending(self, lanes: Sequence[Lane], pause_s: float) -> Iterator[None]:
        """Send *lanes* beside the block, a record every *pause_s*; the block's end waits for it."""
        errors: list[BaseException] = []

        def run() -> None:
            try:
                self.send(lanes, pause_s)
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            thread.join()
        if errors:
            raise errors[0]

    def send(self, lanes: Sequence[Lane], pause_s: float = 0.0) -> None:
        """Put *lanes* record by record, in turns: the order of each is that of its items."""
        for turn in range(max(len(lane.items) for lane in lanes)):
            for lane in lanes:
                if turn < len(lane.items):
                    placed = self._put(lane.items[turn], lane.hash_key)
                    with self._lock:
                        self.sent.append((lane.hash_key, placed))
                    time.sleep(pause_s)

    def await_active(self) -> None:
        """Wait until a change of the stream is done."""

        def active() -> bool:
            summary = self.kinesis.describe_stream_summary(StreamName=self.name)
            return summary["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"

        eventually(active, "the stream is active")

    def shards(self) -> "list[ShardTypeDef]":
        """Every shard that the stream knows, ended ones too."""
        return self.kinesis.list_shards(StreamName=self.name)["Shards"]

    def open_shards(self) -> "list[ShardTypeDef]":
        """Those that take records, by their hash keys."""
        found = [
            shard
            for shard in self.shards()
            if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
        ]
        return sorted(found, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

    def split(self, shard: "ShardTypeDef") -> None:
        """Split *shard* in its middle; counted as an injection."""
        keys = shard["HashKeyRange"]
        middle = (int(keys["StartingHashKey"]) + int(keys["EndingHashKey"])) // 2 + 1
        self.kinesis.split_shard(
            StreamName=self.name, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle)
        )
        self.await_active()
        self.count.note()

    def merge(self, shard: "ShardTypeDef", neighbour: "ShardTypeDef") -> None:
        """Merge two shards; counted as an injection."""
        self.kinesis.merge_shards(
            StreamName=self.name,
            ShardToMerge=shard["ShardId"],
            AdjacentShardToMerge=neighbour["ShardId"],
        )
        self.await_active()
        self.count.note()

    def await_decided(self, number: int, limit_s: float = _LIMIT_S) -> None:
        """Wait until *number* transactions have a document, looking at every checkpoint."""

        def decided() -> bool:
            self.look()
            documents = self.lab.redis.scan_iter(match="tx:*", count=1_000)
            return sum(1 for _ in documents) >= number

        eventually(decided, f"{number} documents", limit_s)

    def await_worked(self, limit_s: float = _LIMIT_S) -> None:
        """Wait until all that was sent is checkpointed, looking at every checkpoint."""
        eventually(self.look, "everything is checkpointed", limit_s)

    def look(self) -> bool:
        """Hold the checkpoints against what they cover; whether all that was sent is."""
        with self._lock:
            sent = list(self.sent)
        by_shard: dict[str, list[Placed]] = defaultdict(list)
        for _, placed in sent:
            by_shard[placed.shard_id].append(placed)
        leases = {shard: text for shard, (_, text) in self._leases().items()}
        # The lease of a shard that was read to its end is taken away after a while.
        for shard, text in self._checkpoints.items():
            if shard not in leases and not text.startswith(_ENDED):
                self.violations.append(f"{shard}: its lease is gone, its checkpoint was {text}")
        for shard, text in leases.items():
            if text != self._checkpoints.get(shard):
                self._moved(shard, text, by_shard.get(shard, []))
        return all(self._covered(shard, own[-1].position) for shard, own in by_shard.items())

    def ledgers(self) -> list[Ledger]:
        """One a lane, in the order in which it was sent, through all its shards."""
        lanes: dict[int, list[Placed]] = defaultdict(list)
        for lane, placed in self.sent:
            lanes[lane].append(placed)
        return [Ledger.of(lanes[lane]) for lane in sorted(lanes)]

    def differences(self) -> list[Difference]:
        """Everything that is not as it has to be."""
        self.await_worked()
        against = Expectation(
            self.lab.plan, SETTINGS.features.id_horizon_s, score, degraded=self.degraded
        )
        texts = [*self.violations, *self._too_early()]
        found = self.place.find()
        return [
            *(Difference(Kind.LOST, text) for text in texts),
            *compare(self.ledgers(), found, against),
        ]

    def injected(self) -> list[float]:
        """When each injection took place, oldest first."""
        fired = [fired.at_s for fired in self.faults.fired()]
        return sorted([*self.count.at_s, *fired, *self.lab.gateway.injected])

    def recovered_s(self) -> float | None:
        """From the last injection to the next checkpoint that was seen; None without one."""
        injected = self.injected()
        later = [at_s for at_s in self.moved_s if injected and at_s > injected[-1]]
        return round(later[0] - injected[-1], 2) if later else None

    def _leases(self) -> Mapping[str, tuple[str, str]]:
        try:
            return self.daemons[0].leases()
        except self.daemons[0].aws.client("dynamodb").exceptions.ResourceNotFoundException:
            return {}

    def _put(self, item: Item, hash_key: int) -> Placed:
        for _ in range(_TRIES):
            try:
                answer = self.kinesis.put_record(
                    StreamName=self.name,
                    Data=item.data,
                    PartitionKey="key",
                    ExplicitHashKey=str(hash_key),
                )
            except (
                self.kinesis.exceptions.ResourceInUseException,
                self.kinesis.exceptions.ProvisionedThroughputExceededException,
            ):
                time.sleep(0.2)
                continue
            arrival_ms = time.time_ns() // 1_000_000
            position = Position(int(answer["SequenceNumber"]))
            return Placed(item, position, arrival_ms, answer["ShardId"])
        raise AssertionError(f"the stream took no record in {_TRIES} tries")

    def _moved(self, shard: str, text: str, placed: Sequence[Placed]) -> None:
        """A checkpoint that was not there before."""
        number, _, sub = text.partition(":")
        before = self._checkpoints.get(shard, "")
        self._checkpoints[shard] = text
        self.moved_s.append(time.monotonic())
        upto = None
        if number.isdecimal():
            upto = Position(int(number), int(sub))
            known = before.partition(":")[0]
            if before.startswith(_ENDED) or (known.isdecimal() and int(known) > int(number)):
                self.violations.append(f"{shard}: the checkpoint went back to {text}")
        elif number != _ENDED:
            return
        # What of the shard was covered before is looked at again: it is a few hundred records.
        watch = PrefixWatch(Ledger.of(placed), self.place)
        self.violations += [
            f"{shard}: the checkpoint {text} covers more than was done: {what}"
            for what in watch.missing(upto)
        ]

    def _covered(self, shard: str, last: Position) -> bool:
        number, _, sub = self._checkpoints.get(shard, "").partition(":")
        if number == _ENDED:
            return True
        return number.isdecimal() and Position(int(number), int(sub)) >= last

    def _too_early(self) -> Iterator[str]:
        """Records of a child that were taken before the last of its parents was decided."""
        taken: dict[str, list[int]] = defaultdict(list)
        decided: dict[str, list[int]] = defaultdict(list)
        for document in self.place.find().documents.values():
            name = str(document["origin"]["shard_id"])
            taken[name].append(int(document["origin"]["received_ms"]))
            decided[name].append(int(document["decided_ms"]))
        for shard in self.shards():
            child = shard["ShardId"]
            for parent in (shard.get("ParentShardId"), shard.get("AdjacentParentShardId")):
                both = parent in decided and child in taken
                if parent and both and min(taken[child]) < max(decided[parent]):
                    yield f"{child} was begun before {parent} was finished"


def resharding_case(
    name: str, expected: str
) -> Callable[[Callable[[ReshardingArena], None]], Callable[[ReshardingArena], None]]:
    """Register a case on a stream that splits; it gets its ``ReshardingArena``."""

    def add(
        run: Callable[[ReshardingArena], None],
    ) -> Callable[[ReshardingArena], None]:
        register(Case(name, Tier.RESHARDING, expected, run))
        return run

    return add
