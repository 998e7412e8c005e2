"""What the engine sends together, and what one after the other."""

from collections.abc import Sequence

import pytest

from consumer.document import DocumentFormat
from consumer.engine import Engine, Incoming
from consumer.errors import Unavailable
from consumer.model import Assessment, Observation, Origin, Scores, Stored, StoredDecision
from consumer.ports import Observe
from tests.builders import NOON, a_transaction
from tests.fakes.clock import FakeClock
from tests.fakes.documents import FakeDocuments
from tests.fakes.features import FakeFeatures
from tests.rulebook import a_book

FORM = DocumentFormat(FakeFeatures.names, "f" * 64, "EUR")
NOON_MS = int(NOON.timestamp() * 1000) + 60_000


class HealingFeatures(FakeFeatures):
    """Refuses the first item of the first pipeline and takes what follows it."""

    refused = False

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        if not self.refused:
            self.refused = True
            super().observe(requests[1:])
            raise Unavailable("redis", "LOADING")
        return super().observe(requests)


class HealingDocuments(FakeDocuments):
    """As ``HealingFeatures``."""

    refused = False

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]:
        if not self.refused:
            self.refused = True
            super().decide(assessments[1:])
            raise Unavailable("redis", "LOADING")
        return super().decide(assessments)


class Scored:
    """Scores of a chunk that are there at once."""

    def __init__(self, rows: int = 0) -> None:
        self.rows = rows

    def start(self, rows: Sequence[Sequence[float]], inference_id: str) -> "Scored":
        assert inference_id
        return Scored(len(rows))

    def result(self) -> list[Scores]:
        return [Scores(0.01, 0.5)] * self.rows


class Untimed:
    def spent(self, stage: str, seconds: float) -> None:
        assert stage
        assert seconds >= 0


def incoming(number: int, **changes: object) -> Incoming:
    return Incoming(a_transaction(number, **changes), Origin("stream", NOON_MS, NOON_MS))


FIRST, OTHER = incoming(1), incoming(2)
CONFLICT = incoming(1, card_id="card_2", digest="c" * 64)


def an_engine(features: FakeFeatures, documents: FakeDocuments) -> Engine:
    return Engine(
        features=features,
        scoring=Scored(),
        documents=documents,
        judge=a_book(),
        clock=FakeClock(),
        timing=Untimed(),
    )


def test_a_chunk_without_repetitions_is_one_pipeline() -> None:
    features = FakeFeatures()
    an_engine(features, FakeDocuments(FORM)).dispatch([FIRST, OTHER])
    assert features.calls == [["tx_1", "tx_2"]]


def test_an_id_that_comes_again_waits_until_the_first_is_applied() -> None:
    features = HealingFeatures()
    engine = an_engine(features, FakeDocuments(FORM))
    with pytest.raises(Unavailable):
        engine.dispatch([FIRST, OTHER, CONFLICT])
    assert features.calls == [["tx_2"]]
    engine.dispatch([FIRST, OTHER, CONFLICT])
    assert features.calls[1:] == [["tx_1", "tx_2"], ["tx_1"]]


def test_the_first_record_of_an_id_is_decided_though_a_server_heals_half_way() -> None:
    engine = an_engine(FakeFeatures(), HealingDocuments(FORM))
    assessments = engine.assess(engine.dispatch([FIRST, OTHER, CONFLICT]))
    with pytest.raises(Unavailable):
        engine.store(assessments)
    settled = engine.store(assessments)
    assert [each.assessment for each in settled] == assessments
    assert [each.stored.stored for each in settled][::2] == [Stored.CREATED, Stored.CONFLICT]


def test_no_assessments_are_no_decisions() -> None:
    assert an_engine(FakeFeatures(), FakeDocuments(FORM)).store([]) == []


def test_a_rehearsal_assesses_as_a_decision_would_and_leaves_no_trace() -> None:
    features, documents = FakeFeatures(), FakeDocuments(FORM)
    engine = an_engine(features, documents)
    chunk = [FIRST, OTHER]
    rehearsed = engine.rehearse(chunk, features)
    assert features.applied == {}
    assert documents.documents == {}
    decided = engine.assess(engine.dispatch(chunk[:1]))
    assert rehearsed[0] == decided[0]


def test_a_chunk_may_be_scored_again_without_being_counted_again() -> None:
    features = FakeFeatures()
    engine = an_engine(features, FakeDocuments(FORM))
    dispatched = engine.dispatch([FIRST, OTHER])
    again = engine.score_again(dispatched)
    assert again.scores is not dispatched.scores
    assert again.observations == dispatched.observations
    assert features.calls == [["tx_1", "tx_2"]]
    assert [each.scores for each in engine.assess(again)] == [Scores(0.01, 0.5)] * 2
