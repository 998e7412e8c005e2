"""
Why the KCL and its workers have to be started again, and whether a record is to blame.

The one that failed is named, not those that went down with it: Java takes its workers
along, and a worker that dies makes Java leave. Who is to blame is judged by what each
left behind: its heartbeat, a trace of a fault, its exit code as Java saw it.
"""

import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from consumer.fault_trace import read_trace, trace_of
from consumer.health import stuck
from consumer.heartbeat import ORPHANED, WorkerState
from consumer.last_words import LastWords
from consumer.stages import Stage, is_computing

WATCHDOG = "watchdog"
OUT_OF_MEMORY = "out_of_memory"
WORKER_DIED = "worker_died"
WORKER_LEFT = "worker_left"
JAVA_KILLED = "java_killed"
JAVA_LEFT = "java_left"
JAVA_SILENT = "java_silent"
JAVA_SKIPPED = "java_skipped"

UNKNOWN = "unknown"
"""How a worker ended that was gone without a word, and of which Java says nothing."""

# For Java to say what it saw; it does so within milliseconds, or not at all.
_EXIT_CODE_LIMIT_S = 1.0
# A shell and Java tell an end by a signal as an exit code above this.
_BY_SIGNAL = 128
# Raised by the process itself: something in it was computing, whatever the main thread did.
_FAULTS = frozenset({"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"})
# Sent by those who stop services, never by a record.
_REQUESTS = frozenset({"SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"})
# Python's errors that tell of the process, as heartbeats name them.
_EXHAUSTED = frozenset({"MemoryError", "RecursionError"})


@dataclass(frozen=True, slots=True)
class Culprit:
    """
    A worker that failed: ``how`` is a signal, ``exit 3``, ``watchdog``, or its own reason.

    ``trace`` is where its threads were, ``error`` the last that it logged.
    """

    state: WorkerState
    how: str
    trace: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """
    One end of the group: ``cause`` is the metric's label; ``victims`` are the shards whose
    workers had done nothing wrong, ``java_exit`` Java's code where it had ended.
    """

    cause: str
    culprits: tuple[Culprit, ...] = ()
    victims: tuple[str, ...] = ()
    java_exit: int | None = None
    detail: str = ""


def find_ending(
    states: Sequence[WorkerState], java_exit: int | None, now_s: float, limit_s: float
) -> Ending | None:
    """
    Judge by *states* and by whether Java ended; None while nothing is wrong.

    *limit_s* is the watchdog's. A worker that left because Java was gone is no
    culprit, and one without a word that is found dead together with Java is not
    either, unless it left a trace of its own fault.
    """
    dead = [state for state in states if not state.alive and state.cause != ORPHANED]
    if java_exit is not None:
        guilty = [state for state in dead if state.cause or read_trace(trace_of(state.path))[0]]
    else:
        guilty = dead
    if guilty:
        left = any(state.cause and state.cause not in _EXHAUSTED for state in guilty)
        return _ending(WORKER_LEFT if left else WORKER_DIED, guilty, states, java_exit)
    if java_exit is not None:
        return _ending(JAVA_KILLED if java_exit < 0 else JAVA_LEFT, (), states, java_exit)
    hung = stuck(states, now_s, limit_s)
    if busy := [state for state in hung if state.stage != Stage.IDLE]:
        return _ending(WATCHDOG, busy, states, None)
    # One that waits for its next call gets one several times a second, records or not.
    return _ending(JAVA_SILENT, (), states, None) if hung else None


def examine(ending: Ending, words: LastWords, oom_kills: int) -> Ending:
    """
    Find out how each culprit of *ending* ended; waits a moment for what Java says.

    *oom_kills* is how many processes of the control group the kernel killed for
    want of memory meanwhile.
    """
    silent = sum(_needs_code(each) for each in ending.culprits)
    codes = words.exit_codes(silent, _EXIT_CODE_LIMIT_S) if silent else []
    culprits = tuple(
        _examined(each, ending.cause, codes, words, oom_kills) for each in ending.culprits
    )
    cause = ending.cause
    if cause == WORKER_DIED and any(each.how == OUT_OF_MEMORY for each in culprits):
        cause = OUT_OF_MEMORY
    return replace(ending, cause=cause, culprits=culprits)


def is_suspicious(culprit: Culprit) -> bool:
    """
    Whether a record that was under way may be to blame.

    Never for a worker that left by its own decision or was asked to stop. A fault
    counts in whichever stage, since threads build rows and requests beside it;
    anything else only where the worker itself was computing.
    """
    state = culprit.state
    if not all(state.under_way) or culprit.how in _REQUESTS:
        return False
    if culprit.how in _FAULTS:
        return True
    return is_computing(state.stage) and (not state.cause or state.cause in _EXHAUSTED)


def describe_ending(ending: Ending, now_s: float) -> dict[str, object]:
    """The fields of the one log event about *ending*: the first culprit's, then what else."""
    fields: dict[str, object] = {"cause": ending.cause}
    if ending.detail:
        fields["detail"] = ending.detail
    if ending.culprits:
        fields |= _describe(ending.culprits[0], now_s)
    if len(ending.culprits) > 1:
        fields["others"] = [_describe(each, now_s) for each in ending.culprits[1:]]
    if ending.victims:
        fields["victims"] = list(ending.victims)
    if ending.java_exit is not None:
        fields["java"] = _name_exit(ending.java_exit)
    return fields


def _describe(culprit: Culprit, now_s: float) -> dict[str, object]:
    state = culprit.state
    fields = {
        "shard": state.shard_id,
        "pid": state.pid,
        "how": culprit.how,
        "stage": state.stage,
        "stage_age_s": round(now_s - state.stage_s, 1),
        "under_way": _range(state.under_way),
        "delivery": _range(state.delivery),
        "position": state.position,
        "checkpoint": state.checkpoint,
        "error": culprit.error,
        "trace": culprit.trace,
    }
    return {key: value for key, value in fields.items() if value != ""}


def _range(positions: tuple[str, str]) -> str:
    first, last = positions
    return first if first == last else f"{first}-{last}"


def _ending(
    cause: str, guilty: Iterable[WorkerState], states: Iterable[WorkerState], java_exit: int | None
) -> Ending:
    culprits = tuple(Culprit(state, state.cause or UNKNOWN) for state in guilty)
    named = {each.state.path for each in culprits}
    victims = tuple(str(each.shard_id) for each in states if each.path not in named)
    return Ending(cause, culprits, tuple(filter(None, victims)), java_exit)


def _needs_code(culprit: Culprit) -> bool:
    """Whether only Java can tell how it ended."""
    state = culprit.state
    return not state.alive and not state.cause and not read_trace(trace_of(state.path))[0]


def _examined(
    culprit: Culprit, cause: str, codes: Sequence[int], words: LastWords, oom_kills: int
) -> Culprit:
    state = culprit.state
    fault, trace = read_trace(trace_of(state.path))
    if cause == WATCHDOG and state.alive:
        how = WATCHDOG
    elif state.cause:
        how = OUT_OF_MEMORY if state.cause == "MemoryError" else state.cause
    else:
        how = fault or _from_codes(codes)
        # The kernel's killer sends SIGKILL and nothing else.
        if oom_kills and how in ("SIGKILL", UNKNOWN):
            how = OUT_OF_MEMORY
    return Culprit(state, how, trace, words.worker(state.shard_id))


def _from_codes(codes: Sequence[int]) -> str:
    """What *codes* say of one worker; Java does not say which code is whose."""
    names = sorted({_name_exit(code) for code in codes})
    return " or ".join(names) if names else UNKNOWN


def _name_exit(code: int) -> str:
    number = -code if code < 0 else code - _BY_SIGNAL
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"exit {code}"
