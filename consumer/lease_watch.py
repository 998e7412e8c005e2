"""
Shards that nobody reads although Java is alive: told by the lease table and the stream.

A KCL that never starts a worker, or holds a lease and reads nothing, has no process
that could be watched. KCL 3.1.3 can end up like that: a leader that lives on as a
zombie, a lease that is stuck (fixed in 3.4 and 3.5).
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from consumer.clock import Clock
from consumer.errors import Unavailable
from consumer.fleet import Lease, Shard, judge, renewal_s
from consumer.heartbeat import WorkerState
from consumer.logs import get_logger
from consumer.model import ShardId
from consumer.stages import WAITING

NO_WORKER = "no_worker"
STUCK_LEASE = "stuck_lease"

# Looks are this far apart at least; each is a scan of the lease table and a ListShards.
_SHORTEST_PAUSE_S = 10.0
_LOOKS_A_LIMIT = 4


class Fleet(Protocol):
    """The lease table and the stream. Every method raises Unavailable."""

    def leases(self) -> list[Lease] | None:
        """The leases as they are now; None while there is no table of them."""
        ...

    def shards(self) -> list[Shard]:
        """The shards of the stream."""
        ...

    def lag_ms(self, lease: Lease, now_ms: int) -> int | None:
        """The age of the oldest record after the checkpoint; None if unknown."""
        ...


@dataclass(frozen=True, slots=True)
class Complaint:
    """Shards that wait: ``cause`` is the metric's label, ``age_s`` for how long they do."""

    cause: str
    age_s: float
    text: str


class LeaseRecord:
    """
    What successive looks say, as pure bookkeeping: when is an argument.

    A shard waits for an owner from the first look that shows it so, while no worker
    lives here. One of ours is stuck when neither its checkpoint nor its worker has
    moved and a record behind both is old; a worker that waits for a dependency is not.
    """

    def __init__(self, worker_id: str, limit_s: float) -> None:
        self._worker_id = worker_id
        self._limit_s = limit_s
        self._before: Sequence[Lease] = ()
        self._waiting_since_s: float | None = None
        self._waiting: tuple[str, ...] = ()
        self._marks: dict[ShardId, tuple[object, float]] = {}
        self._stuck: dict[ShardId, float] = {}

    def note(
        self,
        now_s: float,
        shards: Sequence[Shard],
        leases: Sequence[Lease],
        states: Sequence[WorkerState],
        lag_s: Callable[[Lease], float | None],
    ) -> None:
        """Take in one look; *lag_s* is asked only of what has stood still for long."""
        reports = judge(shards, self._before, leases, {}, 0)
        self._before = leases
        workers = {state.shard_id: state for state in states if state.alive}
        self._waiting = tuple(str(each.shard_id) for each in reports if each.problem)
        if workers or not self._waiting:
            self._waiting_since_s = None
        elif self._waiting_since_s is None:
            self._waiting_since_s = now_s
        ours = {each.shard_id for each in reports if each.owner == self._worker_id}
        known = [lease for lease in leases if lease.shard_id in ours]
        self._stuck = {
            lease.shard_id: age_s
            for lease in known
            if (age_s := self._stuck_s(now_s, lease, workers.get(lease.shard_id), lag_s))
        }
        self._marks = {key: mark for key, mark in self._marks.items() if key in ours}

    def complaints(self, now_s: float) -> list[Complaint]:
        """What has lasted longer than the limit."""
        found = [
            Complaint(STUCK_LEASE, age_s, _stuck_text(shard, age_s))
            for shard, age_s in self._stuck.items()
        ]
        if self._waiting_since_s is not None:
            age_s = now_s - self._waiting_since_s
            if age_s > self._limit_s:
                found.append(Complaint(NO_WORKER, age_s, _waiting_text(self._waiting, age_s)))
        return found

    def _stuck_s(
        self,
        now_s: float,
        lease: Lease,
        worker: WorkerState | None,
        lag_s: Callable[[Lease], float | None],
    ) -> float | None:
        """For how long a record has been waiting behind *lease*, if that is too long."""
        position = "" if worker is None else worker.position
        mark = (lease.checkpoint, lease.sub_checkpoint, position)
        before, since_s = self._marks.get(lease.shard_id, (None, now_s))
        patient = worker is not None and worker.stage.startswith(WAITING)
        if mark != before or patient:
            self._marks[lease.shard_id] = (mark, now_s)
            return None
        if now_s - since_s <= self._limit_s:
            return None
        # From the worker's own position on: what it has is its watchdog's concern.
        number = position.partition(":")[0]
        age_s = lag_s(replace(lease, checkpoint=number) if number else lease)
        return age_s if age_s is not None and age_s > self._limit_s else None


class LeaseWatch:
    """Looks again and again, in a thread of its own, while entered between begin and end."""

    def __init__(
        self,
        fleet: Fleet,
        worker_id: str,
        limit_s: float,
        failover_time_ms: int,
        states: Callable[[], Sequence[WorkerState]],
        clock: Clock,
    ) -> None:
        self._fleet = fleet
        self._worker_id = worker_id
        self._limit_s = limit_s
        self._states = states
        self._clock = clock
        # Two looks must be so far apart that a living owner has renewed in between.
        self.pause_s = max(
            renewal_s(failover_time_ms), min(_SHORTEST_PAUSE_S, limit_s / _LOOKS_A_LIMIT)
        )
        self._record = LeaseRecord(worker_id, limit_s)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """Look no more; one look may still end by itself."""
        self._closed.set()

    def begin(self) -> None:
        """Forget what was seen: a new Java has the time that any has."""
        self._record = LeaseRecord(self._worker_id, self._limit_s)

    def complaints(self) -> list[Complaint]:
        """What has lasted longer than the limit, as of the last look."""
        return self._record.complaints(self._clock.monotonic_s())

    def verdict(self) -> Complaint | None:
        """What has lasted so long that Java is to be started again: twice the limit."""
        overdue = [each for each in self.complaints() if each.age_s > 2 * self._limit_s]
        return overdue[0] if overdue else None

    def look(self) -> None:
        """Look once. Where DynamoDB or Kinesis does not answer, what was seen is forgotten."""
        record = self._record
        try:
            leases = self._fleet.leases() or []
            shards = self._fleet.shards()
            record.note(self._clock.monotonic_s(), shards, leases, self._states(), self._lag_s)
        except Unavailable as error:
            # Neither can the KCL get on then, and starting it again would not help.
            get_logger(__name__).warning("the leases could not be read", error=str(error))
            self.begin()

    def _lag_s(self, lease: Lease) -> float | None:
        lag_ms = self._fleet.lag_ms(lease, self._clock.now_ms())
        return None if lag_ms is None else lag_ms / 1000

    def _run(self) -> None:
        while not self._closed.wait(self.pause_s):
            self.look()


def _waiting_text(shards: Sequence[str], age_s: float) -> str:
    return (
        f"no worker runs here, and {', '.join(shards)} waits for an owner for {age_s:.0f} s: "
        "the KCL does not take it up"
    )


def _stuck_text(shard: ShardId, age_s: float) -> str:
    return (
        f"shard {shard}: our lease is stuck: its oldest unread record is {age_s:.0f} s old "
        "and nothing of it is delivered"
    )
