"""
Plays the KCL to the workers of one shard: stream, checkpoint store, leases, restarts.

Deliveries have varying sizes. A worker that dies is started again and gets what follows
the last checkpoint. Only the owner of the lease can checkpoint; an earlier one is told
that its lease is lost. Each checkpoint that arrives is checked, before it is stored,
against everything that it covers (see ``Watch``).
"""

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from consumer.model import Position
from tests.chaos.faults import Count
from tests.chaos.traffic import Placed, deliver
from tests.multilang import MultilangDriver

LEASE_LOST = "ShutdownException"
THROTTLED = "ThrottlingException"
_RESTARTS = 25
_REST_S = 0.2


class Watch(Protocol):
    """Looks whether everything up to a checkpoint is done."""

    def missing(self, upto: Position | None) -> list[str]:
        """What a checkpoint at *upto* (None: the end of the shard) would lose, in words."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """
    What becomes of the *nth* checkpoint that the shard is sent.

    *error* is answered instead of a success; *stored* says whether it is kept all the
    same; *kill* ends the worker before the answer.
    """

    nth: int
    error: str | None = None
    stored: bool = True
    kill: bool = False


@dataclass(slots=True)
class Lease:
    """Owner and checkpoint, as DynamoDB holds them."""

    owner: int = 0
    checkpoint: Position | None = None
    ended: bool = False
    stored_s: list[float] = field(default_factory=list)
    stored: list[Position | None] = field(default_factory=list)


@dataclass(slots=True)
class _Driver(MultilangDriver):
    """A driver whose checkpoints the shard judges."""

    judge: Callable[[Position | None], Reply] = lambda _position: Reply(0)
    refused: bool = False

    def _checkpoint(self, answer: Mapping[str, object]) -> None:
        assert answer["action"] == "checkpoint", answer
        number, sub = answer["sequenceNumber"], answer["subSequenceNumber"]
        position = None if number is None else Position(int(str(number)), int(str(sub or 0)))
        reply = self.judge(position)
        if reply.kill:
            self.process.kill()
            raise EOFError(f"killed at its checkpoint {position}")
        self.refused = self.refused or reply.error == LEASE_LOST
        if reply.error is None:
            self.checkpoints.append(position)
        self._send(
            {
                "action": "checkpoint",
                "sequenceNumber": number,
                "subSequenceNumber": sub,
                "error": reply.error,
            }
        )


@dataclass(slots=True)
class ShardRun:
    """
    One shard and the processes that work it.

    *command* with *environment* (name → value, per start more on top) is a worker; its
    log goes to *log*. A delivery that takes longer than *child_timeout_s* ends its worker,
    as the KCL does. *before_delivery* is told by whom each delivery is worked and the
    index of its first record.
    """

    shard_id: str
    placed: Sequence[Placed]
    command: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    watch: Watch
    choice: random.Random
    smallest: int = 1
    largest: int = 120
    child_timeout_s: float = 60.0
    first_position: str = "TRIM_HORIZON"
    """What the KCL says where there is no checkpoint."""
    before_delivery: Callable[["Owner", int], object] = lambda _owner, _index: None
    replies: list[Reply] = field(default_factory=list)
    lease: Lease = field(default_factory=Lease)
    violations: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    count: Count = field(default_factory=Count)
    _checkpoints: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def last(self) -> Position:
        """The newest position of the stream."""
        return self.placed[-1].position

    def configure(self, variables: Mapping[str, str]) -> None:
        """Start workers from now on with these settings too."""
        more = {f"FRAUDSTREAM_{name}": value for name, value in variables.items()}
        self.environment = {**self.environment, **more}

    @property
    def next_checkpoint(self) -> int:
        """The number of the next checkpoint, as ``Reply`` counts them."""
        return self._checkpoints + 1

    def work(self, *, end: bool = False, restarts: int = _RESTARTS, **variables: str) -> None:
        """
        Work the shard to its newest record, restarting workers that die, and drain.

        *end* ends the shard instead. *variables* are settings (``REDIS__URL``). Raises
        AssertionError when *restarts* do not suffice.
        """
        for _ in range(restarts + 1):
            with self.owner(**variables) as owner:
                if owner.run(end=end):
                    return
        raise AssertionError(f"{restarts} restarts did not bring {self.shard_id} to its end")

    @contextmanager
    def owner(self, **variables: str) -> Iterator["Owner"]:
        """A worker that takes the lease; it is ended with the block, its exit code noted."""
        self.lease.owner += 1
        number = self.lease.owner
        environment = {
            **self.environment,
            **{f"FRAUDSTREAM_{name}": value for name, value in variables.items()},
        }
        driver = _Driver.start(self.command, environment, self.log)
        assert isinstance(driver, _Driver)
        driver.judge = lambda position: self._judge(number, position)
        owner = Owner(self, number, driver)
        try:
            yield owner
        finally:
            owner.finish()
            self.exits.append(owner.exit_code)

    def _judge(self, owner: int, position: Position | None) -> Reply:
        with self._lock:
            if owner != self.lease.owner:
                return Reply(0, LEASE_LOST, stored=False)
            self._checkpoints += 1
            number = self._checkpoints
            reply = next((each for each in self.replies if each.nth == number), Reply(number))
            if reply.kill or reply.error is not None:
                self.count.note()
            self.violations += [
                f"the checkpoint {position} covers more than was done: {what}"
                for what in self.watch.missing(position)
            ]
            if reply.stored:
                self._store(position)
            return reply

    def _store(self, position: Position | None) -> None:
        lease = self.lease
        lease.stored_s.append(time.monotonic())
        lease.stored.append(position)
        if position is None:
            lease.ended = True
            return
        if lease.checkpoint is not None and position < lease.checkpoint:
            self.violations.append(f"the checkpoint went back to {position}")
        lease.checkpoint = position


@dataclass(slots=True)
class Owner:
    """One worker process, from its start to its end."""

    shard: ShardRun
    number: int
    driver: _Driver
    exit_code: int = 0
    died: bool = False
    sizes: tuple[int, int] | None = None
    """Smallest and largest delivery, where they are not the shard's."""
    taken_up: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _done: threading.Event = field(default_factory=threading.Event)

    @property
    def pid(self) -> int:
        return self.driver.process.pid

    def run(self, *, end: bool = False, drain: bool = True) -> bool:
        """
        Deliver all that follows the checkpoint, then drain; False when the worker died.

        Returns True too when the lease was lost meanwhile, after saying so.
        """
        shard = self.shard
        try:
            self._take_up()
            self.taken_up.set()
            index = self._next_index()
            while index < len(shard.placed) and not self.driver.refused:
                shard.before_delivery(self, index)
                size = shard.choice.randint(*(self.sizes or (shard.smallest, shard.largest)))
                self._deliver(shard.placed[index : index + size])
                index += size
            if self.driver.refused and index < len(shard.placed):
                # Java has read on already, and hands that over before it says what it knows.
                self._deliver(shard.placed[index + size : index + 2 * size])
                time.sleep(_REST_S)
                self._deliver(())
            if drain or self.driver.refused:
                self._leave(end=end)
        except EOFError:
            self.died = True
        finally:
            self.taken_up.set()
            self._done.set()
        return not self.died

    def rest(self) -> None:
        """Deliver nothing, as the KCL does several times a second where nothing comes."""
        try:
            self._deliver(())
        except EOFError:
            self.died = True
        time.sleep(_REST_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, counted as an injection where the process was there to get it."""
        process = self.driver.process
        if process.poll() is None:
            process.send_signal(number)
            self.shard.count.note()

    def begin(self, **how: bool) -> None:
        """``run`` in a thread of its own."""
        self._thread = threading.Thread(target=self.run, kwargs=how)
        self._thread.start()

    def await_stopped(self, limit_s: float = 60.0) -> None:
        """Wait until the process is stopped by SIGSTOP."""
        _await(lambda: _state(self.pid) == "T", "the worker stops", limit_s)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, counted as an injection."""
        self.signal(signal.SIGKILL)

    def join(self, limit_s: float = 60.0) -> None:
        """Wait until what ``begin`` began is over."""
        assert self._done.wait(limit_s), f"the worker {self.pid} is not done in {limit_s:.0f} s"

    def finish(self) -> None:
        """End the process: its input closed if it lives, killed if that does not help."""
        process = self.driver.process
        if self._thread is not None and not self._done.is_set():
            process.kill()
        if self._thread is not None:
            self._thread.join()
        if process.poll() is None and _state(self.pid) == "T":
            process.kill()
        timer = threading.Timer(25, process.kill)
        timer.start()
        try:
            with suppress(BrokenPipeError):
                self.driver.stop()
        finally:
            timer.cancel()
        self.exit_code = process.wait()

    def _take_up(self) -> None:
        checkpoint = self.shard.lease.checkpoint
        number, sub = self.shard.first_position, 0
        if checkpoint is not None:
            number, sub = str(checkpoint.sequence_number), checkpoint.sub_sequence_number
        with self._limited():
            self.driver.initialize(self.shard.shard_id, number, sub)

    def _next_index(self) -> int:
        checkpoint = self.shard.lease.checkpoint
        return sum(
            checkpoint is not None and each.position <= checkpoint for each in self.shard.placed
        )

    def _deliver(self, placed: Sequence[Placed]) -> None:
        with self._limited():
            self.driver.deliver(deliver(placed))

    def _leave(self, *, end: bool) -> None:
        with self._limited():
            if not self.driver.refused and end:
                self.driver.end_shard()
            elif not self.driver.refused:
                self.driver.request_shutdown()
            if self.driver.refused:
                self.driver.lose_lease()

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """What the KCL does with a child that does not answer: end it."""
        timer = threading.Timer(self.shard.child_timeout_s, self.kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _await(look: Callable[[], bool], what: str, limit_s: float) -> None:
    deadline_s = time.monotonic() + limit_s
    while not look():
        assert time.monotonic() < deadline_s, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.02)


def _state(pid: int) -> str:
    """The state letter of a process as in proc(5); Z when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"
