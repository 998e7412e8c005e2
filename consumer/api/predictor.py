"""
The engine in a thread of its own, behind a queue: requests that come together are one chunk.

The first one that finds the thread idle waits a moment for others. While a chunk waits for its
scores the next one forms and reads its features, so that under load nobody waits for company.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from consumer.api.answers import Answer, Prediction
from consumer.api.decider import Begun
from consumer.api.limits import Admission, Shed
from consumer.api.problems import Kind, Problem, Refused
from consumer.clock import Clock
from consumer.errors import Unavailable
from consumer.logs import get_logger
from consumer.model import Transaction, TransactionId
from consumer.patience import pauses_s

_log = get_logger(__name__)
_Result = TypeVar("_Result")

_IDLE_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class Deciding(Protocol):
    """What decides a chunk; see ``Decider``."""

    def turn(self) -> None:
        """Nothing is to be decided at present."""
        ...

    def begin(self, transactions: Sequence[Transaction]) -> Begun:
        """Send *transactions*, of different ids, for their scores."""
        ...

    def finish(self, begun: Begun) -> list[Answer]:
        """Decide and store."""
        ...

    def rehearse(self, transactions: Sequence[Transaction]) -> list[Answer]:
        """Decide and leave no trace."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How chunks form: their size, and the longest wait of the first for others."""

    chunk_size: int
    wait_s: float
    timeout_s: float


@dataclass(eq=False, slots=True)
class _Job:
    """What one request asks for; *given_up* once nobody waits for its answer."""

    future: "asyncio.Future[Any]"
    transactions: Sequence[Transaction] = ()
    dry_run: bool = False
    call: Callable[[], object] | None = None
    answers: list[Answer | Problem | None] = field(default_factory=list)
    left: int = 0
    given_up: bool = False

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)

    def succeed(self, result: object) -> None:
        if not self.future.done():
            self.future.set_result(result)


@dataclass(frozen=True, slots=True)
class _Item:
    """One transaction of a job."""

    job: _Job
    place: int

    @property
    def transaction(self) -> Transaction:
        return self.job.transactions[self.place]


_Groups = Mapping[TransactionId, Sequence[_Item]]
"""The items of a chunk by id; those of one id ask for the very same transaction."""


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Groups whose first items wait for their scores."""

    groups: _Groups
    begun: Begun


class Predictor:
    """
    Decides what ``predict`` is asked for.

    *ping* raises Unavailable while Redis does not answer: until it does nothing is let in, nor
    while decisions are *blocked* because their rows cannot be passed on.
    ``observe_chunk`` hears of the size of each chunk.
    """

    def __init__(  # noqa: PLR0913 - the engine, its bounds, the clock and three hooks
        self,
        decider: Deciding,
        admission: Admission,
        pace: Pace,
        *,
        clock: Clock,
        ping: Callable[[], None],
        observe_chunk: Callable[[int], None],
        blocked: Callable[[], bool] = lambda: False,
    ) -> None:
        self._decider = decider
        self._admission = admission
        self._pace = pace
        self._clock = clock
        self._ping = ping
        self._observe_chunk = observe_chunk
        self._blocked = blocked
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._backlog: deque[_Item] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outage: str | None = None
        self._ending = False
        self._beat_s = clock.monotonic_s()
        self._thread = Thread(target=self._run, name="engine", daemon=True)

    @property
    def outage(self) -> str | None:
        """Why nothing can be decided now; None where it can."""
        return self._outage

    @property
    def idle_s(self) -> float:
        """Seconds since the thread last moved; it does once a second at least."""
        return self._clock.monotonic_s() - self._beat_s

    @property
    def alive(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to decide for the event loop of the caller."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Decide what was let in, then end the thread."""
        self._ending = True
        self._queue.put(None)
        self._thread.join()

    async def predict(
        self, transactions: Sequence[Transaction], *, dry_run: bool = False
    ) -> list[Answer | Problem]:
        """
        One answer a transaction, in order; a problem for one that cannot be decided.

        Raises Refused: overloaded, unavailable, timed out. A transaction that timed out may
        have been decided all the same; asking again returns that decision.
        """
        count = len(transactions)
        if not dry_run and self._blocked():
            raise self._admission.refuse_for_now(Shed.ROWS, count, "firehose takes no rows")
        job = _Job(self._future(), transactions, dry_run, answers=[None] * count, left=count)
        answers: list[Answer | Problem] = await self._answered(job, count)
        return answers

    async def run(self, call: Callable[[], _Result]) -> _Result:
        """The result of *call*, on the thread that decides. Raises as it does, and Refused."""
        result: _Result = await self._answered(_Job(self._future(), call=call), 1)
        return result

    def _future(self) -> "asyncio.Future[Any]":
        assert self._loop is not None
        return self._loop.create_future()

    async def _answered(self, job: _Job, count: int) -> Any:
        if self._outage is not None:
            raise self._admission.refuse_for_now(Shed.OUTAGE, count, self._outage)
        self._admission.enter(count)
        try:
            self._admission.enqueue(count)
            self._queue.put(job)
            async with asyncio.timeout(self._pace.timeout_s):
                return await job.future
        except TimeoutError as error:
            detail = "it may have been decided: ask again with the same transaction_id"
            raise Refused(Problem(Kind.TIMED_OUT, detail)) from error
        except Unavailable as error:
            raise self._admission.refuse_for_now(Shed.OUTAGE, count, words_of(error)) from error
        finally:
            job.given_up = True
            self._admission.leave(count)

    # What follows runs on the thread of the engine.

    def _run(self) -> None:
        waiting: _Chunk | None = None
        while True:
            self._beat_s = self._clock.monotonic_s()
            items = self._take(waiting)
            if items is None:
                break
            started_s = self._clock.monotonic_s()
            begun = self._begin(items) if items else None
            if waiting is not None:
                self._finish(waiting)
            if items or waiting is not None:
                self._admission.paced(self._clock.monotonic_s() - started_s)
            waiting = begun
            if self._outage is not None:
                if waiting is not None:
                    self._finish(waiting)
                    waiting = None
                self._wait_out()
        if waiting is not None:
            self._finish(waiting)

    def _take(self, waiting: _Chunk | None) -> list[_Item] | None:
        """The items of the next chunk, none where nothing came; None at the end."""
        if not self._backlog:
            idle = waiting is None and not self._ending
            job = self._next(_IDLE_S if idle else 0.0)
            if job is None:
                if self._ending and waiting is None:
                    return None
                return self._nothing(waiting)
            self._accept(job)
            if idle and self._backlog and self._pace.wait_s > 0:
                time.sleep(self._pace.wait_s)
        while len(self._backlog) < self._pace.chunk_size and (job := self._next(0.0)) is not None:
            self._accept(job)
        items = self._choose({} if waiting is None else waiting.groups)
        self._admission.take(len(items))
        return [each for each in items if not each.job.given_up]

    def _nothing(self, waiting: _Chunk | None) -> list[_Item]:
        if waiting is None:
            try:
                self._decider.turn()
            except Exception:  # noqa: BLE001 - the thread must live, and the next turn may do
                _log.exception("new rules were not taken over")
        return []

    def _next(self, wait_s: float) -> _Job | None:
        try:
            return self._queue.get(timeout=wait_s) if wait_s else self._queue.get_nowait()
        except Empty:
            return None

    def _accept(self, job: _Job) -> None:
        """Make a call at once, and let the transactions of a job wait for their turn."""
        if job.call is None:
            self._backlog.extend(_Item(job, place) for place in range(len(job.transactions)))
            return
        self._admission.take(1)
        if job.given_up:
            return
        try:
            result = job.call()
        except Exception as error:  # noqa: BLE001 - it is raised where the call was asked for
            if isinstance(error, Unavailable):
                self._outage = words_of(error)
            self._soon(partial(job.fail, error))
        else:
            self._soon(partial(job.succeed, result))

    def _choose(self, busy: _Groups) -> list[_Item]:
        """
        Take items out of the backlog that make one chunk, all of them dry runs or none.

        Put off are those whose id is *busy*, being stored, and those whose id the chunk has with
        other content: they must find what is stored then.
        """
        chosen: list[_Item] = []
        put_off: list[_Item] = []
        digests: dict[TransactionId, str] = {}
        while self._backlog and len(chosen) < self._pace.chunk_size:
            item = self._backlog.popleft()
            if chosen and item.job.dry_run is not chosen[0].job.dry_run:
                put_off.append(item)
                break
            name, digest = item.transaction.transaction_id, item.transaction.digest
            held = name in busy or digests.setdefault(name, digest) != digest
            (put_off if held and not item.job.dry_run else chosen).append(item)
        self._backlog.extendleft(reversed(put_off))
        return chosen

    def _begin(self, items: Sequence[_Item]) -> _Chunk | None:
        """Begin a chunk; a dry run is answered at once."""
        self._observe_chunk(len(items))
        if items[0].job.dry_run:
            self._rehearse(items)
            return None
        groups: dict[TransactionId, list[_Item]] = {}
        for item in items:
            groups.setdefault(item.transaction.transaction_id, []).append(item)
        try:
            begun = self._decider.begin([same[0].transaction for same in groups.values()])
        except Unavailable as error:
            self._fall(items, error)
        except Exception:  # noqa: BLE001 - logged there, and each may succeed alone
            self._decide_each(groups)
        else:
            return _Chunk(groups, begun)
        return None

    def _finish(self, chunk: _Chunk) -> None:
        try:
            answers = self._decider.finish(chunk.begun)
        except Unavailable as error:
            self._fall([item for same in chunk.groups.values() for item in same], error)
        except Exception:  # noqa: BLE001 - as above
            self._decide_each(chunk.groups)
        else:
            self._answer(chunk.groups, answers)

    def _decide_each(self, groups: _Groups) -> None:
        """Decide one id at a time after a failure, so that what caused it fails alone."""
        _log.exception("a chunk failed: its transactions are tried one by one")
        for name, same in groups.items():
            answer: Answer | Problem
            try:
                (answer,) = self._decider.finish(self._decider.begin([same[0].transaction]))
            except Unavailable as error:
                self._fall(same, error)
                continue
            except Exception:  # noqa: BLE001 - the others are to be decided all the same
                _log.exception("a transaction cannot be decided")
                answer = Problem(Kind.FAILED)
            self._answer({name: same}, [answer])

    def _rehearse(self, items: Sequence[_Item]) -> None:
        answers: list[Answer | Problem]
        try:
            answers = list(self._decider.rehearse([item.transaction for item in items]))
        except Unavailable as error:
            self._fall(items, error)
            return
        except Exception:  # noqa: BLE001 - the thread must live
            _log.exception("a dry run failed")
            answers = [Problem(Kind.FAILED)] * len(items)
        self._resolve(zip(items, answers, strict=True))

    def _answer(self, groups: _Groups, answers: Sequence[Answer | Problem]) -> None:
        """Hand out one answer an id; whoever asked for it second hears that it is repeated."""
        self._resolve(
            (item, answer if number == 0 else _repeated(answer))
            for same, answer in zip(groups.values(), answers, strict=True)
            for number, item in enumerate(same)
        )

    def _resolve(self, answered: Iterable[tuple[_Item, Answer | Problem]]) -> None:
        done: list[_Job] = []
        for item, answer in answered:
            job = item.job
            job.answers[item.place] = answer
            job.left -= 1
            if job.left == 0:
                done.append(job)

        def succeed() -> None:
            for job in done:
                job.succeed(job.answers)

        # One call for all: each wakes the other thread up.
        self._soon(succeed)

    def _fall(self, items: Iterable[_Item], error: Unavailable) -> None:
        """Fail *items*, and let nothing in until the dependency answers again."""
        self._outage = words_of(error)
        jobs = {id(item.job): item.job for item in items}

        def fail() -> None:
            for job in jobs.values():
                job.fail(error)

        self._soon(fail)

    def _wait_out(self) -> None:
        """Wait until Redis answers again; whoever came in meanwhile is told at once."""
        _log.error("nothing is decided until redis answers again", cause=self._outage)
        for pause_s in pauses_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S):
            self._beat_s = self._clock.monotonic_s()
            self._refuse_waiting()
            try:
                self._ping()
            except Unavailable as error:
                self._outage = words_of(error)
            else:
                break
            if self._ending:
                return
            time.sleep(pause_s)
        _log.warning("redis answers again")
        self._outage = None

    def _refuse_waiting(self) -> None:
        error = Unavailable("redis", self._outage or "")
        while (job := self._next(0.0)) is not None:
            self._admission.take(max(1, len(job.transactions)))
            self._soon(partial(job.fail, error))
        left, self._backlog = self._backlog, deque()
        if left:
            self._admission.take(len(left))
            self._fall(left, error)

    def _soon(self, call: Callable[[], None]) -> None:
        assert self._loop is not None
        # Closed, it has nobody who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


def words_of(error: Unavailable) -> str:
    """What a client is told of *error*."""
    return f"{error.dependency} does not answer: {error.message}"


def _repeated(answer: Answer | Problem) -> Answer | Problem:
    return replace(answer, repeated=True) if isinstance(answer, Prediction) else answer
