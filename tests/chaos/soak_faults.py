"""
Chance: what happens to the worker of a soak, when, and how often it did.

A kill when a worker has worked for some seconds, at any instruction or at a step of its
path, now and then while it starts; and at a lower rate one of everything else. A thread acts
on whoever owns the shard now.
"""

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from types import TracebackType
from typing import Self

from tests.chaos.faults import Act, Fault, FaultFolder, Port, When
from tests.chaos.gateway import Fails, HttpFault
from tests.chaos.lab import Lab
from tests.chaos.proxy import BUSY, LOADING, NOREPLICAS, READONLY, Disturbance, How, RedisProxy
from tests.chaos.shard import THROTTLED, Owner, Reply, ShardRun
from tests.firehose_server import answer_some, fail, lose_answer, refuse
from tests.sagemaker_server import reset, status

_POLL_S = 0.02
# With starts, recoveries and the comparison after an epoch, a kill every five to ten seconds.
_KILL_S = (1.0, 5.0)
_EARLY = 0.1
_EARLY_S = (0.0, 2.0)
_OTHER_S = (5.0, 20.0)
_STEPS = (
    *(Port.OBSERVE, Port.DECIDE, Port.NOTE_LABEL, Port.COUNT_LABEL, Port.PUT),
    *(Port.PUBLISH, Port.ACKNOWLEDGE, Port.CHECKPOINT, Port.PROCESS, Port.START),
)
KILL = "kill -9"


@dataclass(slots=True)
class Chance:
    """
    A context manager; *owner* is to be told whenever another worker owns the shard.

    ``overtake`` asks whoever drives the shard to stop its worker, let a second one work, and
    wake the first. ``faults`` counts what was given by kind.
    """

    lab: Lab
    run: ShardRun
    folder: FaultFolder
    proxy: RedisProxy
    choice: random.Random
    owner: Owner | None = None
    overtake: threading.Event = field(default_factory=threading.Event)
    faults: Counter[str] = field(default_factory=Counter)
    _moments: list[tuple[str, float]] = field(default_factory=list)
    _plans: int = 0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._act, name="chance")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Let nothing more happen; what was planned and has not happened never does."""
        self._over.set()
        self._thread.join()
        self.proxy.heal()
        self.folder.plan("none", [])
        self.lab.heal()

    def note(self, kind: str) -> None:
        """Count one that happens now."""
        self.faults[kind] += 1
        self._moments.append((kind, time.monotonic()))

    def finish(self) -> None:
        """Count what the workers themselves did by plan, when all of them are gone."""
        for fired in self.folder.fired():
            kind = f"{KILL} at a step" if fired.act == Act.DIE else f"error at a step ({fired.act})"
            self.faults[kind] += 1
            self._moments.append((kind, fired.at_s))

    def recoveries(self) -> Iterator[tuple[str, float]]:
        """From each fault to the next checkpoint that was stored, if no other fault came first."""
        stored = self.run.lease.stored_s
        moments = sorted(self._moments, key=lambda moment: moment[1])
        follows = [*(at_s for _, at_s in moments), inf]
        for (kind, at_s), next_s in zip(moments, follows[1:], strict=True):
            later = next((stored_s for stored_s in stored if stored_s > at_s), inf)
            if later < next_s:
                yield kind, later - at_s

    def _act(self) -> None:
        choice = self.choice
        others = self._others()
        victim: Owner | None = None
        early, kill_s = False, inf
        other_s = time.monotonic() + choice.uniform(*_OTHER_S)
        while not self._over.wait(_POLL_S):
            now_s = time.monotonic()
            if self.owner is not victim:
                victim, kill_s = self.owner, inf
                early = choice.random() < _EARLY
            if kill_s == inf and victim is not None and (early or victim.taken_up.is_set()):
                kill_s = now_s + choice.uniform(*(_EARLY_S if early else _KILL_S))
            if now_s >= kill_s:
                self._kill(victim)
                early, kill_s = False, inf
            if now_s >= other_s:
                choice.choice(others)()
                other_s = time.monotonic() + choice.uniform(*_OTHER_S)

    def _kill(self, owner: Owner | None) -> None:
        if self.choice.random() < 0.35:
            self._plan(Act.DIE)
        elif owner is not None and owner.driver.process.poll() is None:
            self.note(KILL)
            owner.kill()

    def _plan(self, act: Act) -> None:
        """Have the worker do it at its next calls, somewhere on the path."""
        self._plans += 1
        where = Fault(
            self.choice.choice(_STEPS),
            self.choice.randint(1, 3),
            self.choice.choice(list(When)),
            act,
        )
        self.folder.plan(f"p{self._plans}", [where])

    def _others(self) -> list[Callable[[], object]]:
        return [
            self._cut_redis,
            self._disturb_redis,
            self._disturb_redis,
            self._refuse_redis,
            self._fail_endpoints,
            self._fail_firehose,
            self._fail_s3,
            self._throttle,
            self._throttle,
            self._pause,
            self._pause,
            lambda: self._plan(Act.UNAVAILABLE),
            lambda: self._plan(Act.RAISE),
            self.overtake.set,
        ]

    def _cut_redis(self) -> None:
        self.note("Redis cut")
        self.proxy.cut_all()

    def _disturb_redis(self) -> None:
        how = self.choice.choice(list(How))
        self.note(f"Redis {how}")
        self.proxy.disturb(
            Disturbance(
                how,
                self.choice.choice((b"", b"fraudstream_")),
                nth=self.choice.randint(1, 40),
                times=self.choice.randint(1, 3),
                seconds=self.choice.uniform(0.05, 3.0),
                text=self.choice.choice((LOADING, READONLY, BUSY, NOREPLICAS)),
            )
        )

    def _refuse_redis(self) -> None:
        self.note("Redis down")
        self.proxy.refuse()
        self._over.wait(self.choice.uniform(0.3, 4.0))
        self.proxy.heal()

    def _fail_endpoints(self) -> None:
        self.note("endpoint failures")
        answers = (status(500), status(503), status(429), reset)
        self.lab.endpoints.plan(*self.choice.choices(answers, k=self.choice.randint(1, 4)))

    def _fail_firehose(self) -> None:
        self.note("Firehose failures")
        answers = (
            refuse(0),
            fail(503, "ServiceUnavailableException"),
            fail(400, "LimitExceededException"),
            lose_answer,
            answer_some,
        )
        self.lab.firehose.plan(*self.choice.choices(answers, k=self.choice.randint(1, 3)))

    def _fail_s3(self) -> None:
        self.note("S3 failures")
        how = self.choice.choice((Fails.REFUSED, Fails.ANSWER_LOST))
        self.lab.gateway.fail(HttpFault("PUT /", how, times=self.choice.randint(1, 3)))

    def _throttle(self) -> None:
        self.note("checkpoint throttled")
        stored = self.choice.random() < 0.5
        self.run.replies.append(Reply(self.run.next_checkpoint, THROTTLED, stored=stored))

    def _pause(self) -> None:
        owner = self.owner
        if owner is None or owner.driver.process.poll() is not None:
            return
        owner.signal(signal.SIGSTOP)
        self._over.wait(self.choice.uniform(0.1, 4.0))
        self.note("SIGSTOP, SIGCONT")
        with suppress(ProcessLookupError):
            owner.resume()
