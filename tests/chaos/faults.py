"""
Faults inside a worker: which call of which port, when, and what happens then.

The harness writes a plan into a folder; the worker of ``faulty_worker.py`` reads it and
notes in the same folder what it did. Steps are taken one after the other, each as often
as it says and never again by a later process, so that a worker that died goes on.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec

from consumer.errors import Unavailable
from consumer.ports import Later, Pending
from tests.fakes.eager import refused

T = TypeVar("T")
_PLAN, _FIRED, _CALLS = "plan.json", "fired.jsonl", "calls.jsonl"
CLOCK = "clock"
"""The file in the folder that says by how many milliseconds the wall clock is stepped."""


class Port(StrEnum):
    """What can be called, in the order of the path of a chunk."""

    START = "start"
    PROCESS = "process"
    OBSERVE = "observe"
    FRAUD = "fraud"
    ANOMALY = "anomaly"
    DECIDE = "decide"
    NOTE_LABEL = "note_label"
    COUNT_LABEL = "count_label"
    PUT = "put"
    PUBLISH = "publish"
    ACKNOWLEDGE = "acknowledge"
    CONFIRM = "confirm"
    CHECKPOINT = "checkpoint"
    DRAIN = "drain"


class When(StrEnum):
    """Before the call, when half of its items are worked, or after it returned."""

    BEFORE = "before"
    MIDDLE = "middle"
    AFTER = "after"


class Act(StrEnum):
    """
    What happens: kill -9, an outage, a lost answer, a bug, a call that never ends, SIGSTOP.

    A call may also take ``seconds`` longer than all it was told, or print to standard output.
    """

    DIE = "die"
    UNAVAILABLE = "unavailable"
    RAISE = "raise"
    HANG = "hang"
    STOP = "stop"
    STALL = "stall"
    PRINT = "print"


@dataclass(frozen=True, slots=True)
class Fault:
    """
    Do *act* at the *nth* call of *port* since the step before, and at *times* - 1 further ones.

    Calls are counted a process: a worker that starts anew begins at one. Unavailable after
    the call is a lost answer. A *shard* limits it to the worker of that shard.
    """

    port: Port
    nth: int = 1
    when: When = When.BEFORE
    act: Act = Act.DIE
    times: int = 1
    shard: str = ""
    seconds: float = 0.0


class Fired(msgspec.Struct, frozen=True):
    """One firing: which step of which plan, by whom, when (``time.monotonic()``)."""

    plan: str
    step: int
    port: str
    when: str
    act: str
    pid: int
    at_s: float


class _Plan(msgspec.Struct, frozen=True):
    name: str
    faults: list[Fault]


@dataclass(frozen=True, slots=True)
class FaultFolder:
    """The harness's side of a folder that workers are started with."""

    path: Path

    def plan(self, name: str, faults: Iterable[Fault]) -> None:
        """Give the workers of this folder a new plan; it takes effect with their next delivery."""
        self.path.mkdir(parents=True, exist_ok=True)
        body = msgspec.json.encode(_Plan(name, list(faults)))
        new = self.path / f"{_PLAN}.new"
        new.write_bytes(body)
        new.replace(self.path / _PLAN)

    def step_clock(self, step_ms: int) -> None:
        """From now on the wall clock of the workers is *step_ms* from the true time."""
        new = self.path / f"{CLOCK}.new"
        new.write_text(str(step_ms))
        new.replace(self.path / CLOCK)

    def fired(self, plan: str | None = None) -> list[Fired]:
        """What was done, oldest first; of *plan* alone, if one is named."""
        found = [msgspec.json.decode(line, type=Fired) for line in _lines(self.path / _FIRED)]
        return [each for each in found if plan in (None, each.plan)]

    def calls(self) -> list[str]:
        """Every call of a port, by all processes, oldest first."""
        return [line.decode() for line in _lines(self.path / _CALLS)]


class Injector:
    """The worker's side: told of every call, it does what the plan says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        # Open from the start, so that a worker without free descriptors can note its calls.
        self._calls = _open(folder / _CALLS)
        self._lock = threading.RLock()
        self._plan = _Plan("", [])
        self._version: tuple[int, int] | None = None
        self._step = 0
        self._seen = 0
        self.shard = ""
        self.refresh()

    def refresh(self) -> None:
        """Take up a new plan, if there is one, where earlier processes left it."""
        try:
            found = (self._folder / _PLAN).stat()
        except FileNotFoundError:
            return
        version = (found.st_ino, found.st_mtime_ns)
        with self._lock:
            if version == self._version:
                return
            self._version = version
            plan = (self._folder / _PLAN).read_bytes()
            self._plan = msgspec.json.decode(plan, type=_Plan)
            self._step = self._seen = 0
            self._skip_done()

    def around(
        self, port: Port, whole: Callable[[], T], half: Callable[[], object] | None = None
    ) -> T:
        """*whole*, with the fault of the plan before, in the middle of (*half*) or after it."""
        fault = self._due(port)
        if fault is None:
            return whole()
        if fault.when is When.AFTER:
            answer = whole()
            self._fire(fault)
            return answer
        if fault.when is When.MIDDLE and half is not None:
            half()
        self._fire(fault)
        return whole()

    def around_pending(
        self, port: Port, start: Callable[[], Pending[T]], half: Callable[[], object]
    ) -> Pending[T]:
        """As ``around``, for a call that is only sent by *start*; after it is after its answer."""
        fault = self._due(port)
        if fault is None:
            return start()
        if fault.when is When.AFTER:
            sent = start()

            def finish() -> T:
                answer = sent.result()
                self._fire(fault)
                return answer

            return Later(finish)
        if fault.when is When.MIDDLE:
            half()
        try:
            self._fire(fault)
        except Unavailable as error:
            return refused(error)
        return start()

    def _due(self, port: Port) -> Fault | None:
        with self._lock:
            os.write(self._calls, port.encode() + b"\n")
            if self._step >= len(self._plan.faults):
                return None
            fault = self._plan.faults[self._step]
            if fault.port != port or fault.shard not in ("", self.shard):
                return None
            self._seen += 1
            return fault if self._seen >= fault.nth else None

    def _fire(self, fault: Fault) -> None:
        with self._lock:
            if not self._claim(fault):
                return
        _act(fault)

    def _claim(self, fault: Fault) -> bool:
        """Note the firing, unless another process was first; go on to the next step."""
        step = self._step
        if step >= len(self._plan.faults) or self._plan.faults[step] is not fault:
            return False
        turn = next(
            (turn for turn in range(fault.times) if self._mark(step, turn)),
            None,
        )
        if turn is not None:
            fired = Fired(
                self._plan.name,
                step,
                fault.port,
                fault.when,
                fault.act,
                os.getpid(),
                time.monotonic(),
            )
            _append(self._folder / _FIRED, msgspec.json.encode(fired))
        self._skip_done()
        return turn is not None

    def _mark(self, step: int, turn: int) -> bool:
        """Create the marker of one firing; whether it did not exist."""
        try:
            self._marker(step, turn).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _skip_done(self) -> None:
        before = self._step
        while self._step < len(self._plan.faults):
            last = self._plan.faults[self._step].times - 1
            if not self._marker(self._step, last).exists():
                break
            self._step += 1
        if self._step != before:
            self._seen = 0

    def _marker(self, step: int, turn: int) -> Path:
        return self._folder / f"done-{self._plan.name.replace('/', '_')}-{step}-{turn}"


_DEPENDENCIES = {
    Port.PUT: "s3",
    Port.PUBLISH: "firehose",
    Port.ACKNOWLEDGE: "firehose",
    Port.FRAUD: "endpoint",
    Port.ANOMALY: "endpoint",
    Port.CHECKPOINT: "dynamodb",
}


def _act(fault: Fault) -> None:
    if fault.act is Act.DIE:
        _die()
    if fault.act is Act.UNAVAILABLE:
        # An endpoint's message is the cause that its documents show.
        raise Unavailable(_DEPENDENCIES.get(fault.port, "redis"), "connection")
    if fault.act is Act.RAISE:
        raise RuntimeError(f"told to fail {fault.when} {fault.port}")
    if fault.act is Act.STOP:
        os.kill(os.getpid(), signal.SIGSTOP)
    if fault.act is Act.HANG:
        threading.Event().wait()
    if fault.act is Act.STALL:
        time.sleep(fault.seconds)
    if fault.act is Act.PRINT:
        _print()


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    while True:
        signal.pause()


def _print() -> None:
    """As a library does that has something to say, in Python and below it."""
    print("printed by a library", flush=True)  # noqa: T201 - that is the fault
    os.write(1, b"printed below Python\n")


def _open(path: Path) -> int:
    # One write each of an append-only file: lines of several processes do not mix.
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _append(path: Path, line: bytes) -> None:
    descriptor = _open(path)
    try:
        os.write(descriptor, line + b"\n")
    finally:
        os.close(descriptor)


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


@dataclass(slots=True)
class Count:
    """Injections that the harness itself made: when (``time.monotonic()``)."""

    at_s: list[float] = field(default_factory=list)

    def note(self) -> None:
        """Count one, now."""
        self.at_s.append(time.monotonic())
