"""What looks at the lease table and the stream say of shards that nobody reads."""

from dataclasses import replace
from pathlib import Path

import pytest

from consumer.errors import Unavailable
from consumer.fleet import SHARD_END, Lease, Shard
from consumer.heartbeat import WorkerState
from consumer.lease_watch import NO_WORKER, STUCK_LEASE, LeaseRecord, LeaseWatch
from consumer.model import ShardId
from tests.fakes.clock import FakeClock

A = ShardId("shard-a")
LIMIT_S = 100.0
OLD_S = 500.0


class Table:
    """A lease table, a stream and a worker whose state a test moves."""

    def __init__(self) -> None:
        self.lease: Lease | None = Lease(A, "me", 0, "5")
        self.lag_s: float | None = 0.0
        self.worker: WorkerState | None = None
        self.down = False
        self.asked: list[str] = []

    def leases(self) -> list[Lease] | None:
        if self.down:
            raise Unavailable("dynamodb", "down")
        return None if self.lease is None else [self.lease]

    def shards(self) -> list[Shard]:
        return [Shard(A)]

    def lag_ms(self, lease: Lease, now_ms: int) -> int | None:
        self.asked.append(lease.checkpoint)
        return None if self.lag_s is None else round(self.lag_s * 1000)

    def states(self) -> list[WorkerState]:
        return [] if self.worker is None else [self.worker]


class Scene:
    def __init__(self) -> None:
        self.table = Table()
        self.clock = FakeClock()
        self.watch = LeaseWatch(self.table, "me", LIMIT_S, 10_000, self.table.states, self.clock)

    def look(self, times: int, *, renewed: bool = True) -> None:
        """Look every ten seconds, an owner that lives renewing in between."""
        for _ in range(times):
            self.clock.sleep(10.0)
            lease = self.table.lease
            if renewed and lease is not None and lease.owner is not None:
                self.table.lease = replace(lease, counter=lease.counter + 1)
            self.watch.look()

    def causes(self) -> list[str]:
        return [complaint.cause for complaint in self.watch.complaints()]


def a_worker(stage: str = "idle", position: str = "5:0") -> WorkerState:
    return WorkerState(Path("1.state"), 1, True, A, stage, position, "5:0", 0.0, None, 0, "")


@pytest.mark.parametrize(
    ("lease", "renewed"),
    [
        (None, True),
        (Lease(A, None, 3, "5"), True),
        (Lease(A, "me", 3, "5"), False),
        (Lease(A, "gone", 3, "5"), False),
    ],
)
def test_a_shard_that_waits_while_no_worker_runs_is_told_after_the_limit_and_then_overdue(
    lease: Lease | None, *, renewed: bool
) -> None:
    scene = Scene()
    scene.table.lease = lease
    scene.look(10, renewed=renewed)
    assert scene.causes() == []
    scene.look(3, renewed=renewed)
    assert scene.causes() == [NO_WORKER]
    assert "shard-a waits for an owner" in scene.watch.complaints()[0].text
    assert scene.watch.verdict() is None
    scene.look(10, renewed=renewed)
    verdict = scene.watch.verdict()
    assert verdict is not None
    assert verdict.cause == NO_WORKER


def test_a_spare_whose_shards_are_all_worked_elsewhere_is_well() -> None:
    scene = Scene()
    scene.table.lease = Lease(A, "another", 0, "5")
    scene.table.lag_s = OLD_S
    scene.look(40)
    assert scene.causes() == []


def test_a_finished_shard_waits_for_nobody() -> None:
    scene = Scene()
    scene.table.lease = Lease(A, None, 0, SHARD_END)
    scene.look(40)
    assert scene.causes() == []


def test_an_instance_with_a_worker_is_not_started_again_for_shards_of_others() -> None:
    scene = Scene()
    scene.table.lease = Lease(A, None, 0, "5")
    scene.table.worker = a_worker()
    scene.look(40)
    assert scene.causes() == []


def test_a_lease_of_ours_that_does_not_move_while_the_stream_does_is_stuck() -> None:
    scene = Scene()
    scene.table.worker = a_worker(position="7:0")
    scene.table.lag_s = 150.0
    scene.look(13)
    assert scene.causes() == [STUCK_LEASE]
    assert scene.watch.verdict() is None
    scene.table.lag_s = OLD_S
    scene.look(1)
    assert scene.watch.verdict() is not None
    assert set(scene.table.asked) == {"7"}, "from where the worker is, not from its checkpoint"


def test_an_idle_shard_is_not_stuck() -> None:
    scene = Scene()
    scene.table.worker = a_worker()
    scene.look(40)
    assert scene.causes() == []


@pytest.mark.parametrize("moves", ["checkpoint", "position"])
def test_a_shard_that_lags_and_moves_is_not_stuck(moves: str) -> None:
    scene = Scene()
    scene.table.lag_s = OLD_S
    for number in range(40):
        if moves == "checkpoint":
            scene.table.lease = Lease(A, "me", number, str(number))
        else:
            scene.table.worker = a_worker(position=f"{number}:0")
        scene.look(1)
    assert scene.causes() == []


def test_a_worker_that_waits_for_a_dependency_has_no_stuck_lease() -> None:
    scene = Scene()
    scene.table.worker = a_worker(stage="waiting:redis")
    scene.table.lag_s = OLD_S
    scene.look(40)
    assert scene.causes() == []


def test_what_cannot_be_looked_at_is_not_held_against_the_kcl() -> None:
    scene = Scene()
    scene.table.lease = None
    scene.look(10)
    scene.table.down = True
    scene.look(30)
    assert scene.causes() == []
    scene.table.down = False
    scene.look(10)
    assert scene.causes() == []


def test_a_new_java_has_the_time_that_any_has() -> None:
    scene = Scene()
    scene.table.lease = None
    scene.look(13)
    assert scene.causes() == [NO_WORKER]
    scene.watch.begin()
    assert scene.causes() == []


def test_two_looks_are_further_apart_than_two_renewals() -> None:
    clock = FakeClock()
    assert LeaseWatch(Table(), "me", 300.0, 60_000, list, clock).pause_s > 20.0
    record = LeaseRecord("me", LIMIT_S)
    assert record.complaints(0.0) == []
