"""
Where one case of the worker tier takes place: its traffic, its shards, its faults.

A case drives shards (``arena.shard()``) and says what it wants injected; the runner then
asks for the verdict, so that no case can forget to check.
"""

import random
import sys
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from tests.builders import SHARD
from tests.chaos.checker import Difference, Expectation, Kind, compare, without_rows
from tests.chaos.faults import Count, Fault, FaultFolder
from tests.chaos.found import AcceptedRows, Place, PrefixWatch
from tests.chaos.lab import SETTINGS, Lab, score
from tests.chaos.proxy import RedisProxy
from tests.chaos.shard import ShardRun
from tests.chaos.surroundings import build_environment
from tests.chaos.traffic import Item, Ledger, Mix, build_traffic, place

_WORKER = (sys.executable, "-m", "tests.chaos.faulty_worker")


@dataclass(slots=True)
class Arena:
    """
    One case's own part of the lab. Redis is empty at its start.

    ``choice`` is seeded by the seed and the case's name. ``count`` takes what the case
    injects by hand; what worker faults, proxies, the gateway and shards inject counts itself.
    ``degraded`` says that decisions without scores are expected. ``gone`` are transactions
    of which nothing but their row is left, because Redis lost them behind a checkpoint;
    ``decided_again`` are those that it lost before one. ``clustered`` lets alerts repeat.
    What ``stack`` holds (servers of the case's own) lives until all was looked at.
    """

    lab: Lab
    case: str
    seed: int
    folder: Path
    choice: random.Random = field(init=False)
    name: str = field(init=False)
    degraded: bool = False
    gone: set[str] = field(default_factory=set)
    decided_again: set[str] = field(default_factory=set)
    clustered: bool = False
    client: redis.Redis = field(init=False)
    redis_url: str = field(init=False)
    count: Count = field(default_factory=Count)
    shards: list[tuple[ShardRun, Ledger]] = field(default_factory=list)
    folders: list[FaultFolder] = field(default_factory=list)
    proxies: list[RedisProxy] = field(default_factory=list)
    rows: AcceptedRows = field(init=False)
    store: RedisFeatureStore = field(init=False)
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.choice = random.Random(f"{self.seed}:{self.case}")
        # The first letter keeps it from looking like a number, let alone that of a card.
        self.name = f"c{zlib.crc32(f'{self.seed}:{self.case}'.encode()):08x}x"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows = AcceptedRows(lambda: self.lab.firehose.accepted, self.name)
        self._look_in(self.lab.redis, self.lab.stack.redis_url)

    @property
    def place(self) -> Place:
        """Where this case leaves its traces."""
        bucket = SETTINGS.dead_letters.bucket
        return Place(self.client, self.lab.s3, bucket, f"{self.name}/", self.rows, self.store)

    def use_redis(self, url: str) -> None:
        """Let the shards of this case, and what looks at them, use the empty Redis at *url*."""
        client = connect(url, connect_timeout_s=5, timeout_s=30)
        self._look_in(self.stack.enter_context(closing(client)), url)

    def _look_in(self, client: redis.Redis, url: str) -> None:
        self.client, self.redis_url = client, url
        self.store = RedisFeatureStore(
            client, self.lab.plan, id_horizon_s=SETTINGS.features.id_horizon_s
        )

    def shard(
        self,
        mix: Mix | None = None,
        *,
        faults: Iterable[Fault] = (),
        items: list[Item] | None = None,
        **variables: str,
    ) -> ShardRun:
        """
        A shard that holds traffic of *mix* (or *items*), not worked yet.

        *faults* are the plan of its workers, one after the other; *variables* are settings
        of all of them (``WORKER__CHUNK_SIZE="7"``).
        """
        number = len(self.shards)
        now_ms = time.time_ns() // 1_000_000
        if items is None:
            name = f"{self.name}{number}"
            items = build_traffic(name, mix or Mix(), self.choice, now_ms)
        shard_id = f"{SHARD[:-1]}{number}"
        ledger = Ledger.of(place(items, shard_id, now_ms))
        folder = FaultFolder(self.folder / f"faults-{number}")
        folder.plan("case", faults)
        self.folders.append(folder)
        run = ShardRun(
            shard_id=shard_id,
            placed=ledger.placed,
            command=_WORKER,
            environment=build_environment(
                self.lab,
                folder.path,
                {
                    "SUPERVISOR__RUN_DIR": str(self.folder / "run"),
                    "DEAD_LETTERS__PREFIX": f"{self.name}/",
                    "REDIS__URL": self.redis_url,
                    **variables,
                },
            ),
            log=self.folder / f"worker-{number}.log",
            watch=PrefixWatch(ledger, self.place, self.gone),
            choice=self.choice,
            count=self.count,
        )
        self.shards.append((run, ledger))
        return run

    def take_back(self) -> tuple[list[Item], list[str]]:
        """
        Forget the newest shard and every trace of it; return its items and its calls of ports.

        For a dry run that counts what a fault can hit.
        """
        run, _ = self.shards.pop()
        calls = self.folders.pop().calls()
        self.client.flushall()
        for letter in self.place.letter_keys():
            self.lab.s3.delete_object(Bucket=SETTINGS.dead_letters.bucket, Key=letter)
        self.rows.forget()
        return [placed.item for placed in run.placed], calls

    @contextmanager
    def proxy(self) -> Iterator[RedisProxy]:
        """A proxy in front of Redis; hand its ``url`` to workers as ``REDIS__URL``."""
        with RedisProxy(self.redis_url) as proxy:
            self.proxies.append(proxy)
            yield proxy

    def injected(self) -> list[float]:
        """When each injection of this case took place, oldest first."""
        times = [*self.count.at_s, *self.lab.gateway.injected]
        times += [fired.at_s for folder in self.folders for fired in folder.fired()]
        times += [at_s for proxy in self.proxies for at_s in proxy.injected]
        return sorted(times)

    def differences(self) -> list[Difference]:
        """Everything that is not as it has to be, the workers being gone."""
        against = Expectation(
            self.lab.plan,
            SETTINGS.features.id_horizon_s,
            score,
            degraded=self.degraded,
            decided_again=frozenset(self.decided_again),
            alerts_repeat=self.clustered,
        )
        violations = [
            Difference(Kind.LOST, text) for run, _ in self.shards for text in run.violations
        ]
        unfinished = [
            Difference(Kind.LOST, f"{run.shard_id} was checkpointed up to {run.lease.checkpoint}")
            for run, _ in self.shards
            if run.lease.checkpoint != run.last and not run.lease.ended
        ]
        found, unaccounted = without_rows(self.place.find(), self.gone)
        ledgers = [ledger.without(self.gone) for _, ledger in self.shards]
        return [*violations, *unfinished, *unaccounted, *compare(ledgers, found, against)]

    def recovered_s(self) -> float | None:
        """From the last injection to the next stored checkpoint of any shard; None without one."""
        injected = self.injected()
        stored = sorted(at_s for run, _ in self.shards for at_s in run.lease.stored_s)
        later = [at_s for at_s in stored if injected and at_s > injected[-1]]
        return round(later[0] - injected[-1], 2) if later else None
