"""
The worker tier of the soak: the real worker process under a played KCL, killed again and again.

Epochs of some thousand transactions each are worked to their end under chance faults, compared,
and their documents dropped; the state of the entities goes on through a generation of epochs
that lets four weeks of event time pass, after which new entities begin.
"""

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from consumer.adapters.kinesis import EXIT_FAILED, EXIT_UNAVAILABLE
from tests.chaos.arena import Arena
from tests.chaos.checker import Difference, Expectation, Kind
from tests.chaos.lab import SETTINGS, Lab, score
from tests.chaos.shard import ShardRun
from tests.chaos.soak_books import Books
from tests.chaos.soak_faults import Chance
from tests.chaos.soak_flush import forget_epoch
from tests.chaos.soak_report import Account
from tests.chaos.traffic import Mix, build_traffic

_DAY_MS = 86_400_000
_EPOCHS = 8
_EPOCH_MS = int(3.5 * _DAY_MS)
MIX = Mix(
    transactions=15_000,
    cards=400,
    merchants=60,
    terminals=300,
    devices=500,
    span_s=_EPOCH_MS // 1_000,
    hot=True,
    crowd=0.4,
    conflicts=0.006,
    malformed=0.006,
    ahead=0,
)
_AHEAD = 0.02
_SAMPLED = 0.01
_STUCK_S = 180.0
_CAUSES = {
    -9: "killed",
    EXIT_UNAVAILABLE: "left, a dependency being unavailable",
    EXIT_FAILED: "left on an unexpected error",
    0: "left, the lease being lost",
}
_SETTINGS = {"WORKER__CHUNK_SIZE": "100", "WORKER__CHECKPOINT_INTERVAL_S": "0.25"}


@dataclass(slots=True)
class WorkerTier:
    """Epoch after epoch; ``account`` grows with each."""

    lab: Lab
    folder: Path
    account: Account

    def epochs(self) -> Iterator[Account]:
        """Work the next epoch and compare all of it, without end."""
        generation = 0
        while True:
            generation += 1
            self.lab.redis.flushall()
            name = f"g{self.account.seed}x{generation}"
            choice = random.Random(name)
            books = Books(
                Expectation(self.lab.plan, SETTINGS.features.id_horizon_s, score, degraded=True),
                choice,
                _SAMPLED,
            )
            for epoch in range(1, _EPOCHS + 1):
                self._epoch(name, epoch, books)
                yield self.account

    def _epoch(self, name: str, epoch: int, books: Books) -> None:
        now_ms = time.time_ns() // 1_000_000 - (_EPOCHS - epoch) * _EPOCH_MS
        # A future event is clamped to the arrival, which is late for every epoch but the last.
        mix = replace(MIX, entities=f"{name}e", ahead=_AHEAD if epoch == _EPOCHS else 0)
        folder = self.folder / f"{name}-{epoch}"
        arena = Arena(self.lab, f"{name} {epoch}", self.account.seed, folder)
        items = build_traffic(f"{name}t{epoch}n", mix, arena.choice, now_ms)
        arena.rows.prefix = f"{name}t{epoch}n"
        with arena.proxy() as proxy:
            run = arena.shard(items=items, REDIS__URL=proxy.url)
            run.configure(_SETTINGS)
            run.largest = 800
            (_, ledger), faults = arena.shards[0], arena.folders[0]
            with Chance(self.lab, run, faults, proxy, arena.choice) as chance:
                _work(run, chance)
        chance.finish()
        self._enter_faults(run, chance)
        found = arena.place.find()
        self.account.enter(len(ledger.due), len(items), found)
        violations = [Difference(Kind.LOST, text) for text in run.violations]
        self.account.note([*violations, *books.close([ledger], found)])
        self.account.note_largest("redis MB", round(self._redis_mb(), 1))
        forget_epoch(self.lab, arena.place)

    def _enter_faults(self, run: ShardRun, chance: Chance) -> None:
        self.account.faults += chance.faults
        # The last one has drained, all others had to be replaced.
        self.account.restarts += Counter(
            _CAUSES.get(code, f"exit code {code}") for code in run.exits[:-1]
        )
        for kind, seconds in chance.recoveries():
            self.account.note_recovery(kind, seconds)

    def _redis_mb(self) -> float:
        return int(self.lab.redis.info("memory")["used_memory"]) / 1e6


def _work(run: ShardRun, chance: Chance) -> None:
    """Bring the shard to its end, whatever chance does to its workers."""
    started_s = time.monotonic()
    while run.lease.checkpoint != run.last:
        with ExitStack() as owners, ThreadPoolExecutor() as threads:
            owner = owners.enter_context(run.owner())
            chance.owner = owner
            works = [threads.submit(owner.run)]
            while not all(work.done() for work in works):
                wait_for(works, timeout=0.1)
                _check_moving(run, started_s)
                if chance.overtake.is_set():
                    chance.overtake.clear()
                    works.append(_overtake(run, chance, owners, threads))
            for work in works:
                work.result()


def _overtake(
    run: ShardRun, chance: Chance, owners: ExitStack, threads: ThreadPoolExecutor
) -> "Future[bool]":
    """Give the shard to a second worker, while the first is stopped and wakes a little later."""
    former = chance.owner
    assert former is not None
    former.signal(signal.SIGSTOP)
    successor = owners.enter_context(run.owner())
    chance.owner = successor
    work = threads.submit(successor.run)
    successor.taken_up.wait(30)
    chance.note("two owners")
    with suppress(ProcessLookupError):
        former.resume()
    return work


def _check_moving(run: ShardRun, started_s: float) -> None:
    moved_s = max(run.lease.stored_s, default=started_s)
    if time.monotonic() - moved_s > _STUCK_S:
        raise AssertionError(f"no checkpoint for {_STUCK_S:.0f} s; the log is {run.log}")
