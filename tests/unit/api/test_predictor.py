"""The queue before the engine: chunks, repetitions, early refusal, outages and the end."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from consumer.api.answers import Answer, Conflict, Prediction, read_found
from consumer.api.decider import Begun
from consumer.api.limits import Admission, Shed
from consumer.api.predictor import Pace, Predictor
from consumer.api.problems import Kind, Problem, Refused
from consumer.clock import SystemClock
from consumer.document import DocumentFormat, build_document
from consumer.errors import Unavailable
from consumer.model import Transaction, TransactionId
from tests.builders import a_transaction, an_assessment

FORM = DocumentFormat(("amount", "card_count"), "f" * 64, "EUR")


class FakeDecider:
    """Remembers chunks and documents; ``hold`` keeps scores away, ``fail`` what is to be raised."""

    def __init__(self) -> None:
        self.chunks: list[list[str]] = []
        self.rehearsed: list[str] = []
        self.digests: dict[str, str] = {}
        self.fail: Callable[[Sequence[Transaction]], None] = lambda _: None
        self.scores = threading.Event()
        self.scores.set()
        self.begun = threading.Semaphore(0)

    def turn(self) -> None:
        """Take nothing over."""

    def begin(self, transactions: Sequence[Transaction]) -> Begun:
        self.fail(transactions)
        self.chunks.append([each.transaction_id for each in transactions])
        self.begun.release()
        return Begun(tuple(transactions), {}, None)

    def finish(self, begun: Begun) -> list[Answer]:
        self.scores.wait()
        return [self._answer(each) for each in begun.transactions]

    def rehearse(self, transactions: Sequence[Transaction]) -> list[Answer]:
        self.rehearsed += [each.transaction_id for each in transactions]
        return [predicted(each, dry_run=True) for each in transactions]

    def _answer(self, transaction: Transaction) -> Answer:
        known = self.digests.get(transaction.transaction_id)
        self.digests.setdefault(transaction.transaction_id, transaction.digest)
        if known is not None and known != transaction.digest:
            return Conflict(("amount",))
        return predicted(transaction, repeated=known is not None)


def predicted(transaction: Transaction, **changes: bool) -> Prediction:
    document = build_document(an_assessment(1, transaction=transaction), FORM)
    return Prediction(read_found(document), **changes)


class World:
    """A predictor with what it works with."""

    def __init__(self, *, chunk_size: int = 100, wait_s: float = 0.0, **bounds: Any) -> None:
        self.decider = FakeDecider()
        self.shed: list[tuple[Shed, int]] = []
        self.outage: Unavailable | None = None
        given = {"in_flight_limit": 1000, "max_wait_s": 60.0} | bounds
        admission = Admission(
            chunk_size=chunk_size,
            clock=SystemClock(),
            tell=lambda shed, count: self.shed.append((shed, count)),
            **given,
        )
        self.predictor = Predictor(
            self.decider,
            admission,
            Pace(chunk_size, wait_s, 30.0),
            clock=SystemClock(),
            ping=self.ping,
            observe_chunk=lambda _: None,
        )

    def ping(self) -> None:
        if self.outage is not None:
            raise self.outage

    def play(self, scene: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            self.predictor.start()
            try:
                await scene()
            finally:
                self.decider.scores.set()
                self.outage = None
                await asyncio.to_thread(self.predictor.close)

        asyncio.run(run())

    async def ask(self, *transactions: Transaction, dry_run: bool = False) -> list[Any]:
        return list(await self.predictor.predict(transactions, dry_run=dry_run))

    async def until_begun(self) -> None:
        assert await asyncio.to_thread(self.decider.begun.acquire, timeout=20)


def test_requests_that_come_together_are_one_chunk() -> None:
    world = World(wait_s=0.2)

    async def scene() -> None:
        answers = await asyncio.gather(*(world.ask(a_transaction(n)) for n in range(5)))
        assert [answer[0].found.transaction_id for answer in answers] == [
            f"tx_{n}" for n in range(5)
        ]

    world.play(scene)
    assert world.decider.chunks == [[f"tx_{n}" for n in range(5)]]


def test_a_batch_larger_than_a_chunk_is_answered_in_its_order() -> None:
    world = World(chunk_size=2)

    async def scene() -> None:
        found = await world.ask(*(a_transaction(n) for n in range(5)))
        assert [each.found.transaction_id for each in found] == [f"tx_{n}" for n in range(5)]

    world.play(scene)
    assert [len(chunk) for chunk in world.decider.chunks] == [2, 2, 1]


def test_the_next_chunk_is_begun_while_one_waits_for_its_scores() -> None:
    world = World()

    async def scene() -> None:
        world.decider.scores.clear()
        first = asyncio.create_task(world.ask(a_transaction(1)))
        await world.until_begun()
        second = asyncio.create_task(world.ask(a_transaction(2)))
        await asyncio.sleep(0)
        world.decider.scores.set()
        await asyncio.gather(first, second)

    world.play(scene)
    assert world.decider.chunks == [["tx_1"], ["tx_2"]]


def test_one_id_asked_for_often_is_decided_once() -> None:
    world = World(wait_s=0.2)

    async def scene() -> None:
        answers = await asyncio.gather(*(world.ask(a_transaction(1)) for _ in range(50)))
        assert sorted(answer[0].repeated for answer in answers) == [False] + [True] * 49

    world.play(scene)
    assert world.decider.chunks == [["tx_1"]]


def test_other_content_of_an_id_waits_until_the_first_is_stored() -> None:
    world = World(wait_s=0.2)
    other = a_transaction(1, digest="e" * 64)

    async def scene() -> None:
        found = await world.ask(a_transaction(1), other, a_transaction(2))
        assert isinstance(found[0], Prediction)
        assert found[1] == Conflict(("amount",))

    world.play(scene)
    assert world.decider.chunks == [["tx_1", "tx_2"], ["tx_1"]]


def test_a_dry_run_is_rehearsed_apart() -> None:
    world = World(wait_s=0.2)

    async def scene() -> None:
        dry, real = await asyncio.gather(
            world.ask(a_transaction(1), dry_run=True), world.ask(a_transaction(1))
        )
        assert dry[0].dry_run
        assert not real[0].dry_run

    world.play(scene)
    assert (world.decider.rehearsed, world.decider.chunks) == (["tx_1"], [["tx_1"]])


def test_more_than_may_be_under_way_is_refused_at_once() -> None:
    world = World(in_flight_limit=2)

    async def scene() -> None:
        world.decider.scores.clear()
        held = asyncio.create_task(world.ask(a_transaction(1), a_transaction(2)))
        await world.until_begun()
        with pytest.raises(Refused) as refused:
            await world.ask(a_transaction(3))
        assert refused.value.problem.kind is Kind.OVERLOADED
        assert refused.value.problem.headers == {"Retry-After": "1"}
        world.decider.scores.set()
        await held

    world.play(scene)
    assert world.shed == [(Shed.IN_FLIGHT, 1)]


def test_an_outage_is_told_at_once_until_redis_answers_again() -> None:
    world = World()

    def fail(_: Sequence[Transaction]) -> None:
        raise Unavailable("redis", "no answer")

    async def scene() -> None:
        world.outage = Unavailable("redis", "no answer")
        world.decider.fail = fail
        for _ in range(3):
            with pytest.raises(Refused) as refused:
                await world.ask(a_transaction(1))
            assert refused.value.problem.kind is Kind.UNAVAILABLE
            assert "Retry-After" in refused.value.problem.headers
        world.decider.fail = lambda _: None
        world.outage = None
        async with asyncio.timeout(20):
            while world.predictor.outage is not None:  # noqa: ASYNC110 - a thread changes it
                await asyncio.sleep(0.01)
        assert len(await world.ask(a_transaction(1))) == 1

    world.play(scene)


def test_what_breaks_a_chunk_fails_alone() -> None:
    world = World(wait_s=0.2)

    def fail(transactions: Sequence[Transaction]) -> None:
        if TransactionId("tx_2") in [each.transaction_id for each in transactions]:
            message = "a defect"
            raise ValueError(message)

    world.decider.fail = fail

    async def scene() -> None:
        found = await world.ask(*(a_transaction(n) for n in (1, 2, 3)))
        assert [type(each) for each in found] == [Prediction, Problem, Prediction]
        assert found[1].kind is Kind.FAILED

    world.play(scene)


def test_a_request_that_takes_too_long_is_told_that_it_may_be_decided() -> None:
    world = World()
    world.predictor._pace = Pace(100, 0.0, 0.05)

    async def scene() -> None:
        world.decider.scores.clear()
        with pytest.raises(Refused) as refused:
            await world.ask(a_transaction(1))
        assert refused.value.problem.kind is Kind.TIMED_OUT
        world.decider.scores.set()

    world.play(scene)


def test_what_was_let_in_is_answered_before_the_thread_ends() -> None:
    world = World(wait_s=0.2)
    answers: list[Any] = []

    async def scene() -> None:
        task = asyncio.create_task(world.ask(a_transaction(1)))
        await asyncio.sleep(0)
        await asyncio.to_thread(world.predictor.close)
        answers.extend(await task)

    world.play(scene)
    assert len(answers) == 1


def test_a_call_is_made_by_the_thread_that_decides_and_raises_where_it_was_asked() -> None:
    world = World()

    async def scene() -> None:
        assert await world.predictor.run(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await world.predictor.run(lambda: 1 // 0)

    world.play(scene)
