from dataclasses import replace

import pytest

from consumer.fleet import SHARD_END, TRIM_HORIZON, Lease, Shard, ShardReport, judge, renewal_s
from consumer.model import ShardId

ONE, TWO, PARENT = ShardId("shardId-1"), ShardId("shardId-2"), ShardId("shardId-0")
LEASE = Lease(ONE, "host-a", counter=7, checkpoint="4957")
RENEWED = replace(LEASE, counter=8)
LIMIT_MS = 60_000


def judged(
    first: Lease | None, second: Lease | None, lag_ms: int | None = 0, *shards: Shard
) -> list[ShardReport]:
    return judge(
        shards or (Shard(ONE),),
        [] if first is None else [first],
        [] if second is None else [second],
        {ONE: lag_ms},
        LIMIT_MS,
    )


def problem_of(first: Lease | None, second: Lease | None, lag_ms: int | None = 0) -> str | None:
    (report,) = judged(first, second, lag_ms)
    return report.problem


def test_a_renewed_lease_without_a_lag_is_well() -> None:
    assert problem_of(LEASE, RENEWED) is None


def test_an_idle_shard_may_stand_still_for_ever() -> None:
    assert problem_of(LEASE, RENEWED, lag_ms=LIMIT_MS) is None


def test_a_checkpoint_that_stands_while_records_wait_is_stuck() -> None:
    problem = problem_of(LEASE, RENEWED, lag_ms=125_000)
    assert problem == "stuck: its checkpoint stands still, 125 s behind"


def test_one_that_catches_up_is_not_stuck() -> None:
    assert problem_of(LEASE, replace(RENEWED, checkpoint="4958"), lag_ms=9_000_000) is None
    assert problem_of(LEASE, replace(RENEWED, sub_checkpoint=1), lag_ms=9_000_000) is None


def test_an_unknown_lag_is_no_accusation() -> None:
    assert problem_of(replace(LEASE, checkpoint="LATEST"), RENEWED, lag_ms=None) is None


def test_a_lease_that_is_only_written_down_is_a_problem() -> None:
    assert problem_of(LEASE, LEASE) == "host-a does not renew its lease"


def test_a_lease_that_was_taken_over_is_held() -> None:
    assert problem_of(LEASE, replace(LEASE, owner="host-b")) is None
    assert problem_of(None, LEASE) is None


def test_a_lease_without_an_owner_is_worked_by_nobody() -> None:
    free = replace(LEASE, owner=None)
    assert problem_of(free, free) == "nobody works it"


def test_a_shard_without_a_lease_is_told() -> None:
    assert problem_of(None, None) == "has no lease yet"


def test_a_finished_shard_and_one_gone_with_its_lease_are_left_out() -> None:
    assert judged(LEASE, replace(RENEWED, checkpoint=SHARD_END)) == []
    assert judged(None, None, 0, Shard(ONE, closed=True)) == []


@pytest.mark.parametrize("lease", [None, Lease(TWO, None, 0, TRIM_HORIZON)])
def test_a_child_waits_for_its_parent_without_a_problem(lease: Lease | None) -> None:
    parent = Lease(PARENT, "host-a", 1, "17")
    leases = [parent, *([lease] if lease else [])]
    shards = [Shard(PARENT, closed=True), Shard(TWO, parents=(PARENT,))]
    reports = judge(shards, leases, [replace(parent, counter=2), *leases[1:]], {}, LIMIT_MS)
    assert [report.shard_id for report in reports] == [PARENT]


def test_a_living_owner_has_renewed_within_a_third_of_the_failover_time_and_a_second() -> None:
    assert renewal_s(9_000) == 4.0
