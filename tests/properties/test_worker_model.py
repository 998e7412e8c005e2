"""
The guarantees under any order of deliveries, accidents and answers.

The first test explores; the others exchange one protection each for something that does
not protect, and the machine has to find out: a check that cannot fail proves nothing.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import orjson
import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from consumer.adapters.redis.connection import connect
from consumer.document import DocumentFormat, build_document
from consumer.local.redis_server import RedisServer
from consumer.model import (
    Applied,
    Assessment,
    DeadLetter,
    Label,
    LabelEffect,
    Labelled,
    Position,
    Record,
    Stored,
    StoredDecision,
)
from consumer.ports import DecisionSink, Observe
from consumer.progress import Progress, Ticket
from consumer.settings import Worker as WorkerSettings
from consumer.worker import Checkpoint, Worker, WorkerParts
from tests.examples import examples
from tests.fakes.dead_letters import FakeDeadLetters
from tests.fakes.documents import FakeDocuments
from tests.fakes.entities import Counters, FakeEntities
from tests.properties.real_stores import RedisEntities, SeenDocuments
from tests.properties.shard_world import FIELDS, Protections, World
from tests.properties.worker_machine import WorkerMachine

STEPS = 40


def explore(protections: Protections, **profile: Any) -> None:
    machine = type("Machine", (WorkerMachine,), {"protections": protections})
    run_state_machine_as_test(
        machine,
        settings=settings(
            stateful_step_count=STEPS,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            **profile,
        ),
    )


def test_no_order_of_events_breaks_a_guarantee() -> None:
    explore(Protections(), max_examples=examples(120))


# So that Hypothesis counts what it ran in its statistics.
test_no_order_of_events_breaks_a_guarantee.is_hypothesis_test = True  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with RedisServer(directory=tmp_path_factory.mktemp("redis")) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=10)
        yield client
        client.close()


def test_no_order_of_events_breaks_a_guarantee_on_a_real_redis(client: redis.Redis) -> None:
    def entities(world: World) -> RedisEntities:
        client.flushall()
        return RedisEntities(client, world)

    def documents(form: DocumentFormat) -> SeenDocuments:
        return SeenDocuments(client, form)

    explore(Protections(entities=entities, documents=documents), max_examples=examples(20))


class Forgetful(FakeEntities):
    """Entity state that knows no ids, as counters by INCR would."""

    def _apply(self, entity: Counters, request: Observe) -> Applied:
        entity.ids.clear()
        return super()._apply(entity, request)


class AddingLabels(FakeEntities):
    """Counts every label it is told of, told before or not."""

    def _label(self, entity: Counters, effect: LabelEffect) -> None:
        entity.labels.pop(effect.transaction_id, None)
        super()._label(entity, effect)


class NewestDecision(FakeDocuments):
    """Writes over what was decided before, as a plain JSON.SET would."""

    def _decide(self, assessment: Assessment) -> StoredDecision:
        self.documents.pop(assessment.transaction.transaction_id, None)
        return super()._decide(assessment)


class OwnDecision(FakeDocuments):
    """Keeps the first decision and answers with the one it was given."""

    def _decide(self, assessment: Assessment) -> StoredDecision:
        return replace(super()._decide(assessment), document=build_document(assessment, self._form))


class BlindToContent(FakeDocuments):
    """Takes an equal id for the same transaction."""

    def _decide(self, assessment: Assessment) -> StoredDecision:
        known = self.documents.get(assessment.transaction.transaction_id)
        digest = None if known is None else orjson.loads(known)["digest"]
        transaction = replace(assessment.transaction, former_digests=(digest,) if digest else ())
        return super()._decide(replace(assessment, transaction=transaction))


class BlindToRedelivery(FakeDocuments):
    """Takes a record that came again for a producer's duplicate."""

    def _decide(self, assessment: Assessment) -> StoredDecision:
        found = super()._decide(assessment)
        again = found.stored is Stored.REDELIVERED
        return replace(found, stored=Stored.EXISTING) if again else found


class LastLabel(FakeDocuments):
    """The label that was told last stands, however old it is."""

    def _label(self, label: Label) -> Labelled:
        known = self.documents.get(label.transaction_id)
        if known is not None:
            document = orjson.loads(known)
            document.pop("label", None)
            self.documents[label.transaction_id] = orjson.dumps(document)
        return super()._label(label)


class NoWaitingLabels(FakeDocuments):
    """Drops a label whose transaction has not come yet."""

    def _label(self, label: Label) -> Labelled:
        found = super()._label(label)
        self.waiting.clear()
        return found


class CountedLetters(FakeDeadLetters):
    """Names letters in the order in which they were put."""

    def put(self, letters: Sequence[DeadLetter]) -> None:
        self.letters.update((str(len(self.letters)), letter) for letter in letters)


class LostLetters(FakeDeadLetters):
    """Says that letters are stored, and stores none."""

    def put(self, letters: Sequence[DeadLetter]) -> None:
        pass


class EagerSink:
    """Acknowledges what is only on its way."""

    def __init__(self, sink: DecisionSink) -> None:
        self._sink = sink

    def publish(self, documents: Sequence[bytes]) -> "Future[None]":
        self._sink.publish(documents)
        future: Future[None] = Future()
        future.set_result(None)
        return future


class HastyProgress(Progress):
    """Takes the newest finished batch for a safe place, whatever is open before it."""

    def finish(self, ticket: Ticket) -> Position | None:
        self._safe = self._open.pop(ticket)
        return self._safe


class HastyWorker(Worker):
    """Works with a progress that does not wait for older batches."""

    def __init__(self, parts: WorkerParts, settings: WorkerSettings) -> None:
        super().__init__(parts, settings)
        self._progress = HastyProgress()


class EagerWorker(Worker):
    """Checkpoints what it was handed, as kclpy's samples do."""

    def process(
        self, records: Sequence[Record], millis_behind_latest: int | None, checkpoint: Checkpoint
    ) -> None:
        super().process(records, millis_behind_latest, lambda _position: None)
        if records:
            checkpoint(records[-1].position)


class EarlyWorker(Worker):
    """Checkpoints before the work is done."""

    def process(
        self, records: Sequence[Record], millis_behind_latest: int | None, checkpoint: Checkpoint
    ) -> None:
        if records:
            checkpoint(records[-1].position)
        super().process(records, millis_behind_latest, lambda _position: None)


@pytest.mark.parametrize(
    ("protections", "found"),
    [
        (
            Protections(entities=lambda world: Forgetful(FIELDS, before=world.before_effect)),
            "card_|merchant_",
        ),
        (
            Protections(entities=lambda world: AddingLabels(FIELDS, before=world.before_effect)),
            "card_|merchant_",
        ),
        (Protections(documents=NewestDecision), "document changed|differs"),
        (Protections(documents=OwnDecision), "another record|conflict was answered|differs"),
        (Protections(documents=BlindToContent), "a conflict was answered"),
        (Protections(documents=BlindToRedelivery), "row"),
        (Protections(documents=LastLabel), "older label|not counted"),
        (Protections(documents=NoWaitingLabels), "label that is nowhere"),
        (Protections(letters=CountedLetters), r"Entry\(|conflict without"),
        (Protections(letters=LostLetters), "without its letter"),
        (Protections(sink=EagerSink), "without acknowledgement"),
        (Protections(worker=HastyWorker), "without acknowledgement|checkpoint"),
        (Protections(worker=EagerWorker), "without acknowledgement"),
        (Protections(worker=EarlyWorker), "checkpoint passed|without acknowledgement"),
    ],
    ids=[
        "forgetful entities",
        "labels added up",
        "documents written over",
        "own decision answered",
        "conflicts not seen",
        "redelivery not seen",
        "last label stands",
        "labels do not wait",
        "letters counted",
        "letters lost",
        "rows acknowledged early",
        "newest batch is safe",
        "deliveries checkpointed",
        "checkpoint first",
    ],
)
def test_a_protection_that_is_missing_is_found(protections: Protections, found: str) -> None:
    # The same search each time, and no shrinking: that something is found is enough.
    with pytest.raises(AssertionError, match=found):
        explore(
            protections,
            max_examples=1_000,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            print_blob=False,
        )
