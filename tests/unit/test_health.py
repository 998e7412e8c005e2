from dataclasses import replace
from pathlib import Path

import pytest

from consumer.health import (
    Situation,
    checkpoint_age_s,
    lease_problems,
    liveness_problems,
    stuck,
)
from consumer.heartbeat import WorkerState
from consumer.model import ShardId

STATE = WorkerState(
    path=Path("1.state"),
    pid=1,
    alive=True,
    shard_id=ShardId("shard-0"),
    stage="waiting:redis",
    position="7:0",
    checkpoint="5:0",
    progress_s=100.0,
    unsaved_since_s=None,
    millis_behind=0,
    cause="",
    stage_s=119.0,
)
RUNNING = Situation(
    110.0, kcl_running=True, stopping=False, held="", initialized_s=50.0, states=(STATE,)
)


def test_a_daemon_whose_shards_move_is_alive() -> None:
    assert liveness_problems(RUNNING, limit_s=10.0) == []


def test_a_daemon_without_its_kcl_is_not_alive() -> None:
    situation = replace(RUNNING, kcl_running=False)
    assert liveness_problems(situation, limit_s=10.0) == ["the KCL is not running"]


def test_a_shard_without_progress_is_named_with_its_stage() -> None:
    assert liveness_problems(replace(RUNNING, now_s=131.0), limit_s=30.0) == [
        "shard shard-0: no progress for 31 s (limit 30 s), for 12 s in stage waiting:redis"
    ]


def test_an_idle_shard_without_a_call_is_told_of_the_kcl() -> None:
    situation = replace(RUNNING, now_s=131.0, states=[replace(STATE, stage="idle")])
    assert liveness_problems(situation, limit_s=30.0) == [
        "shard shard-0: no call from the KCL for 31 s (limit 30 s)"
    ]


def test_a_worker_that_waits_and_tells_so_is_not_stuck() -> None:
    waits = replace(STATE, waited_s=125.0)
    assert stuck([waits], now_s=131.0, limit_s=30.0) == []
    assert stuck([waits], now_s=156.0, limit_s=30.0) == [waits]


def test_shards_that_nobody_reads_are_no_good_health() -> None:
    situation = replace(RUNNING, unread=["shard-1 waits"])
    assert liveness_problems(situation, limit_s=30.0) == ["shard-1 waits"]


def test_a_dead_worker_is_named() -> None:
    situation = replace(RUNNING, states=[replace(STATE, alive=False)])
    assert liveness_problems(situation, limit_s=30.0) == [
        "shard shard-0: its worker died in stage waiting:redis"
    ]


def test_a_dead_worker_is_not_also_stuck() -> None:
    assert stuck([replace(STATE, alive=False)], now_s=1e6, limit_s=1.0) == []


def test_a_daemon_with_a_lease_is_ready() -> None:
    assert lease_problems(RUNNING, spare_after_s=120.0) == []


def test_a_stopping_daemon_is_not_ready() -> None:
    assert lease_problems(replace(RUNNING, stopping=True), spare_after_s=120.0) == ["stopping"]


@pytest.mark.parametrize(
    ("initialized_s", "problems"),
    [(None, ["the KCL is starting"]), (50.0, ["no lease yet"]), (-50.0, [])],
)
def test_a_daemon_without_a_lease_is_ready_once_it_is_a_spare(
    initialized_s: float | None, problems: list[str]
) -> None:
    situation = replace(RUNNING, states=(), initialized_s=initialized_s)
    assert lease_problems(situation, spare_after_s=120.0) == problems


def test_the_checkpoint_age_is_that_of_the_oldest_unsaved_record() -> None:
    assert checkpoint_age_s(STATE, 110.0) == 0.0
    assert checkpoint_age_s(replace(STATE, unsaved_since_s=104.0), 110.0) == 6.0


def test_a_held_daemon_is_alive_and_not_ready_and_says_why() -> None:
    held = replace(RUNNING, kcl_running=False, held="held: 60 of the last 100 records", states=())
    assert liveness_problems(held, limit_s=10.0) == []
    assert lease_problems(held, spare_after_s=10.0) == ["held: 60 of the last 100 records"]
