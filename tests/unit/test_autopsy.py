from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consumer.autopsy import Culprit, describe_ending, examine, find_ending, is_suspicious
from consumer.heartbeat import ORPHANED, WorkerState
from consumer.java_log import JavaLine
from consumer.last_words import LastWords
from consumer.model import ShardId
from consumer.stages import Stage, is_computing

LIMIT_S = 30.0


def a_state(folder: Path, number: int = 0, **changes: Any) -> WorkerState:
    state = WorkerState(
        path=folder / f"{number}.state",
        pid=number,
        alive=False,
        shard_id=ShardId(f"shard-{number}"),
        stage="score",
        position="7:0",
        checkpoint="5:0",
        progress_s=100.0,
        unsaved_since_s=None,
        millis_behind=0,
        cause="",
        stage_s=101.0,
        delivery=("8:0", "30:0"),
        under_way=("8:0", "12:0"),
    )
    return replace(state, **changes)


def saying(*codes: int) -> LastWords:
    words = LastWords()
    for code in codes:
        message = f"Child process exited with value: {code}"
        words.hear_java(JavaLine("info", "multilang", "", message, ""))
    return words


def test_while_all_is_well_nothing_has_ended(tmp_path: Path) -> None:
    assert find_ending([a_state(tmp_path, alive=True)], None, 110.0, LIMIT_S) is None


def test_a_worker_that_died_is_named_and_those_beside_it_are_victims(tmp_path: Path) -> None:
    states = [a_state(tmp_path), a_state(tmp_path, 1, alive=True)]
    ending = find_ending(states, None, 110.0, LIMIT_S)
    assert ending is not None
    assert ending.cause == "worker_died"
    assert [each.state.shard_id for each in ending.culprits] == ["shard-0"]
    assert ending.victims == ("shard-1",)


def test_a_worker_that_hangs_is_named_and_one_that_waits_for_java_is_not(tmp_path: Path) -> None:
    busy, idle = a_state(tmp_path, alive=True), a_state(tmp_path, 1, alive=True, stage="idle")
    ending = find_ending([busy, idle], None, 131.0, LIMIT_S)
    assert ending is not None
    assert ending.cause == "watchdog"
    assert [each.state.shard_id for each in ending.culprits] == ["shard-0"]


def test_java_that_calls_no_worker_any_more_is_the_cause_itself(tmp_path: Path) -> None:
    ending = find_ending([a_state(tmp_path, alive=True, stage="idle")], None, 131.0, LIMIT_S)
    assert ending is not None
    assert (ending.cause, ending.culprits, ending.victims) == ("java_silent", (), ("shard-0",))


def test_java_that_was_killed_is_the_cause_and_its_workers_are_not(tmp_path: Path) -> None:
    states = [a_state(tmp_path), a_state(tmp_path, 1, cause=ORPHANED)]
    ending = find_ending(states, -9, 110.0, LIMIT_S)
    assert ending is not None
    assert (ending.cause, ending.culprits) == ("java_killed", ())
    assert ending.victims == ("shard-0", "shard-1")


def test_a_worker_that_left_because_java_is_gone_is_waited_for_java(tmp_path: Path) -> None:
    assert find_ending([a_state(tmp_path, cause=ORPHANED)], None, 110.0, LIMIT_S) is None


@pytest.mark.parametrize("witness", ["cause", "trace"])
def test_a_worker_whose_fault_is_proved_is_to_blame_though_java_has_ended(
    tmp_path: Path, witness: str
) -> None:
    state = a_state(tmp_path, cause="redis: gone" if witness == "cause" else "")
    if witness == "trace":
        (tmp_path / "0.fault").write_text("Fatal Python error: Segmentation fault\n\n")
    ending = find_ending([state], 1, 110.0, LIMIT_S)
    assert ending is not None
    assert ending.cause == ("worker_left" if witness == "cause" else "worker_died")
    assert ending.java_exit == 1


def test_several_workers_that_died_at_once_are_all_named(tmp_path: Path) -> None:
    ending = find_ending([a_state(tmp_path), a_state(tmp_path, 1)], None, 110.0, LIMIT_S)
    assert ending is not None
    found = examine(ending, saying(137, 139), 0)
    assert {each.how for each in found.culprits} == {"SIGKILL or SIGSEGV"}
    fields = describe_ending(found, 110.0)
    assert fields["shard"] == "shard-0"
    others = fields["others"]
    assert isinstance(others, list)
    assert [other["shard"] for other in others] == ["shard-1"]


@pytest.mark.parametrize(
    ("codes", "oom_kills", "how", "cause"),
    [
        ((139,), 0, "SIGSEGV", "worker_died"),
        ((137,), 0, "SIGKILL", "worker_died"),
        ((137,), 1, "out_of_memory", "out_of_memory"),
        ((139,), 1, "SIGSEGV", "worker_died"),
        ((3,), 0, "exit 3", "worker_died"),
        ((), 0, "unknown", "worker_died"),
    ],
)
def test_how_a_worker_ended_is_what_java_saw(
    tmp_path: Path, codes: tuple[int, ...], oom_kills: int, how: str, cause: str
) -> None:
    ending = find_ending([a_state(tmp_path)], None, 110.0, LIMIT_S)
    assert ending is not None
    found = examine(ending, saying(*codes), oom_kills)
    assert (found.culprits[0].how, found.cause) == (how, cause)


def test_a_trace_names_the_signal_and_the_place(tmp_path: Path) -> None:
    (tmp_path / "0.fault").write_text(
        "Fatal Python error: Floating-point exception\n\n"
        'Thread 0x1 (most recent call first):\n  File "y.py", line 9 in wait\n\n'
        'Current thread 0x2 (most recent call first):\n  File "x.py", line 3 in f\n\n'
        "Extension modules: a, b (total: 2)\n"
    )
    ending = find_ending([a_state(tmp_path)], None, 110.0, LIMIT_S)
    assert ending is not None
    (culprit,) = examine(ending, saying(), 0).culprits
    assert culprit.how == "SIGFPE"
    first, _, others = culprit.trace.partition("\nThread")
    assert first.startswith("Current thread")
    assert "line 3 in f" in first
    assert others.endswith("line 9 in wait")


def test_the_event_says_where_it_was_and_for_how_long(tmp_path: Path) -> None:
    ending = find_ending([a_state(tmp_path)], None, 110.0, LIMIT_S)
    assert ending is not None
    words = saying(139)
    words.hear_worker(
        {"level": "error", "event": "failed", "shard": "shard-0", "error": "ValueError"}, ""
    )
    fields = describe_ending(examine(ending, words, 0), 110.0)
    assert fields == {
        "cause": "worker_died",
        "shard": "shard-0",
        "pid": 0,
        "how": "SIGSEGV",
        "stage": "score",
        "stage_age_s": 9.0,
        "under_way": "8:0-12:0",
        "delivery": "8:0-30:0",
        "position": "7:0",
        "checkpoint": "5:0",
        "error": "failed: ValueError",
    }


@pytest.mark.parametrize(
    ("how", "changes", "suspicious"),
    [
        ("SIGSEGV", {}, True),
        ("SIGSEGV", {"stage": "idle"}, True),
        ("SIGSEGV", {"stage": "idle", "under_way": ("", "")}, False),
        ("SIGKILL", {}, True),
        ("SIGKILL", {"stage": "idle"}, False),
        ("SIGKILL", {"stage": "publish"}, False),
        ("SIGKILL", {"stage": "checkpoint"}, False),
        ("SIGKILL", {"stage": "waiting:redis"}, False),
        ("SIGTERM", {}, False),
        ("unknown", {}, True),
        ("exit 3", {}, True),
        ("watchdog", {"alive": True}, True),
        ("watchdog", {"alive": True, "stage": "waiting:redis"}, False),
        ("out_of_memory", {"cause": "MemoryError"}, True),
        ("RecursionError", {"cause": "RecursionError"}, True),
        ("ValueError", {"cause": "ValueError"}, False),
        ("redis: gone", {"cause": "redis: gone"}, False),
        ("held: 9 of 10", {"cause": "held: 9 of 10"}, False),
    ],
)
def test_which_deaths_a_record_may_be_to_blame_for(
    tmp_path: Path, how: str, changes: dict[str, Any], *, suspicious: bool
) -> None:
    assert is_suspicious(Culprit(a_state(tmp_path, **changes), how)) is suspicious


def test_every_stage_is_computing_or_not() -> None:
    assert {stage for stage in Stage if not is_computing(stage)} == {
        Stage.START,
        Stage.IDLE,
        Stage.PUBLISH,
        Stage.CHECKPOINT,
    }
    assert not is_computing("waiting:redis")
