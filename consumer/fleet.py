"""
What all instances together do with the stream, judged by pure functions.

The lease table holds no times: an owner that lives raises the counter of its lease
every third of the failover time. So two looks, further apart than that, tell a lease
that is held from one that is only still written down, and a checkpoint that moves
from one that stands.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consumer.model import ShardId

TRIM_HORIZON = "TRIM_HORIZON"
SHARD_END = "SHARD_END"


@dataclass(frozen=True, slots=True)
class Lease:
    """One row of the lease table; ``checkpoint`` is a sequence number or a word of the KCL."""

    shard_id: ShardId
    owner: str | None
    counter: int
    checkpoint: str
    sub_checkpoint: int = 0


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard of the stream; ``closed`` takes no more records since a reshard."""

    shard_id: ShardId
    parents: tuple[ShardId, ...] = ()
    closed: bool = False


@dataclass(frozen=True, slots=True)
class ShardReport:
    """
    One shard: who works it, how far it is saved, what is wrong (None when nothing is).

    ``lag_ms`` is the age of the oldest record without a checkpoint, None if unknown.
    """

    shard_id: ShardId
    owner: str | None
    renewed: bool
    checkpoint: str
    moved: bool
    lag_ms: int | None
    problem: str | None


def renewal_s(failover_time_ms: int) -> float:
    """
    Seconds within which a living owner raises its leases' counters for certain.

    KCL 3.1.3 renews every third of the failover time (``LeaseCoordinator``); a second
    is added for the write.
    """
    return failover_time_ms / 3_000 + 1.0


def judge(
    shards: Sequence[Shard],
    first: Sequence[Lease],
    second: Sequence[Lease],
    lags_ms: Mapping[ShardId, int | None],
    limit_ms: int,
) -> list[ShardReport]:
    """
    Judge each shard that is not finished, by two looks at the leases.

    A shard is stuck when its checkpoint stood still between them although its oldest
    unsaved record is older than *limit_ms*. The child of a parent that still has records
    waits, which is no problem.
    """
    before = {lease.shard_id: lease for lease in first}
    now = {lease.shard_id: lease for lease in second}
    unfinished = {lease.shard_id for lease in second if lease.checkpoint != SHARD_END}
    reports = []
    for shard in shards:
        lease = now.get(shard.shard_id)
        if lease is None:
            # A closed shard's lease is removed when it is finished.
            if not shard.closed and not unfinished.intersection(shard.parents):
                reports.append(
                    ShardReport(shard.shard_id, None, False, "", False, None, "has no lease yet")
                )
        elif lease.checkpoint != SHARD_END and not unfinished.intersection(shard.parents):
            lag_ms = lags_ms.get(shard.shard_id)
            reports.append(_judge(before.get(shard.shard_id), lease, lag_ms, limit_ms))
    return reports


def _judge(before: Lease | None, lease: Lease, lag_ms: int | None, limit_ms: int) -> ShardReport:
    renewed = before is None or (before.owner, before.counter) != (lease.owner, lease.counter)
    moved = before is None or (before.checkpoint, before.sub_checkpoint) != (
        lease.checkpoint,
        lease.sub_checkpoint,
    )
    problem = None
    if lease.owner is None:
        problem = "nobody works it"
    elif not renewed:
        problem = f"{lease.owner} does not renew its lease"
    elif not moved and lag_ms is not None and lag_ms > limit_ms:
        problem = f"stuck: its checkpoint stands still, {lag_ms / 1000:,.0f} s behind"
    return ShardReport(
        lease.shard_id, lease.owner, renewed, lease.checkpoint, moved, lag_ms, problem
    )
