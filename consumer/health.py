"""
Is the daemon alive, is it ready: judged from what is known, by pure functions.

Alive: the KCL runs and every shard made progress within its limit; red means a
restart would help. Ready: it does its part of the stream now, or has none to do,
and what it depends on answers.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from consumer.heartbeat import WorkerState
from consumer.stages import Stage

# What is wrong with a dependency in one line, None when it answers.
Probe = Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class Situation:
    """
    What the supervisor knows.

    ``initialized_s`` is since when the KCL assigns leases, ``held`` why the
    daemon waits for somebody to look (empty when it does not), ``unread`` which
    shards nobody reads and why that is ours to mend.
    """

    now_s: float
    kcl_running: bool
    stopping: bool
    held: str
    initialized_s: float | None
    states: Sequence[WorkerState]
    unread: Sequence[str] = ()


def stuck(states: Iterable[WorkerState], now_s: float, limit_s: float) -> list[WorkerState]:
    """
    The living workers that have not moved for longer than *limit_s*.

    Finishing a chunk is moving, and so is each attempt while a dependency is waited for.
    """
    return [state for state in states if state.alive and now_s - state.moved_s > limit_s]


def liveness_problems(situation: Situation, limit_s: float) -> list[str]:
    """
    Why the daemon should be restarted from outside; empty when it is alive.

    One that is held is alive: a restart would run into the same records again.
    """
    if situation.held:
        return []
    problems = [] if situation.kcl_running else ["the KCL is not running"]
    problems += [
        _stuck_text(state, situation.now_s, limit_s)
        for state in stuck(situation.states, situation.now_s, limit_s)
    ]
    problems += [
        f"shard {state.shard_id}: its worker died in stage {state.stage}"
        for state in situation.states
        if not state.alive
    ]
    return [*problems, *situation.unread]


def _stuck_text(state: WorkerState, now_s: float, limit_s: float) -> str:
    age = f"for {now_s - state.moved_s:.0f} s (limit {limit_s:.0f} s)"
    if state.stage == Stage.IDLE:
        return f"shard {state.shard_id}: no call from the KCL {age}"
    return (
        f"shard {state.shard_id}: no progress {age}, for {now_s - state.stage_s:.0f} s in stage "
        f"{state.stage}"
    )


def lease_problems(situation: Situation, spare_after_s: float) -> list[str]:
    """
    Why this instance does not do its part yet; empty when it does.

    Without a lease it is taken for a spare, of an application with fewer shards
    than instances, once the KCL has had *spare_after_s* to assign one.
    """
    if situation.stopping:
        return ["stopping"]
    if situation.held:
        return [situation.held]
    if any(state.alive for state in situation.states):
        return []
    if situation.initialized_s is None:
        return ["the KCL is starting"]
    if situation.now_s - situation.initialized_s < spare_after_s:
        return ["no lease yet"]
    return []


def describe(state: WorkerState, now_s: float) -> dict[str, object]:
    """One worker, for a health answer or a log line."""
    return {
        "shard": state.shard_id,
        "pid": state.pid,
        "stage": state.stage,
        "stage_age_s": round(now_s - state.stage_s, 1),
        "position": state.position,
        "checkpoint": state.checkpoint,
        "progress_age_s": round(now_s - state.progress_s, 1),
        "checkpoint_age_s": checkpoint_age_s(state, now_s),
        "millis_behind_latest": state.millis_behind,
        "rules": state.rules,
    }


def checkpoint_age_s(state: WorkerState, now_s: float) -> float:
    """Seconds since the oldest finished record that no checkpoint covers; 0 when none waits."""
    return 0.0 if state.unsaved_since_s is None else round(now_s - state.unsaved_since_s, 1)
