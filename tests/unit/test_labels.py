"""Labels reach their document and, once for all, the state of their entities."""

from dataclasses import replace
from datetime import timedelta

import pytest

from consumer.document import DocumentFormat
from consumer.labels import Labels
from consumer.model import Label, LabelEffect, LabelOutcome
from consumer.patience import Patience
from tests.builders import NOON, a_label, an_assessment
from tests.fakes.clock import FakeClock
from tests.fakes.documents import FakeDocuments
from tests.fakes.features import FakeFeatures
from tests.fakes.labels import FakeFeatureLabels

LIFETIME_MS = 172_800_000
NOW_MS = int(NOON.timestamp() * 1000)
KEYS = {"card_id": "card_1", "merchant_id": "merchant_1"}


class Bench:
    def __init__(self) -> None:
        clock = FakeClock()
        self.documents = FakeDocuments(DocumentFormat(FakeFeatures.names, "f" * 64, "EUR"))
        self.state = FakeFeatureLabels()
        patience = Patience(clock, clock.sleep, 5.0, lambda _error, _waited: None)
        self.labels = Labels(self.documents, self.state, patience, LIFETIME_MS)
        self.blind = Labels(self.documents, None, patience, LIFETIME_MS)

    def note(self, *labels: Label) -> list[LabelOutcome]:
        return self.labels.note(labels, (), NOW_MS)


def aged(hours: float) -> Label:
    return a_label(1, event_time=NOON - timedelta(hours=hours), keys=KEYS)


def test_a_label_reaches_its_document_and_its_entities() -> None:
    bench = Bench()
    bench.documents.decide([an_assessment(1)])
    assert bench.note(a_label(1)) == [LabelOutcome.APPLIED]
    (effect,) = bench.state.effects
    assert effect.keys == KEYS


def test_a_label_that_was_noted_before_is_told_again() -> None:
    # The worker may have died between the two; telling it again changes nothing.
    bench = Bench()
    bench.documents.decide([an_assessment(1)])
    bench.note(a_label(1))
    assert bench.note(a_label(1)) == [LabelOutcome.REPEATED]
    assert bench.state.effects[0] == bench.state.effects[1]


def test_a_superseded_label_tells_the_one_that_stands() -> None:
    bench = Bench()
    bench.documents.decide([an_assessment(1)])
    newest = a_label(1)
    older = a_label(1, label_id="label_0", label_time=newest.label_time - timedelta(days=1))
    assert bench.note(newest, older) == [LabelOutcome.APPLIED, LabelOutcome.SUPERSEDED]
    assert {effect.label_id for effect in bench.state.effects} == {"label_1"}


def test_a_label_of_a_transaction_to_come_tells_nothing_yet() -> None:
    bench = Bench()
    assert bench.note(a_label(1), aged(48)) == [LabelOutcome.UNMATCHED] * 2
    assert bench.state.effects == []


def test_the_label_of_an_expired_document_speaks_for_itself() -> None:
    bench = Bench()
    label = aged(48.01)
    assert bench.note(label) == [LabelOutcome.EXPIRED]
    assert bench.state.effects == [
        LabelEffect(
            transaction_id=label.transaction_id,
            label_id="label_1",
            fraud=True,
            label_time_ms=int(label.label_time.timestamp() * 1000),
            event_time_s=NOW_MS // 1000 - 172_836,
            keys=KEYS,
        )
    ]


@pytest.mark.parametrize(
    "label", [replace(aged(100), keys={}), replace(aged(100), event_time=None)]
)
def test_without_keys_or_time_an_old_label_can_only_wait(label: Label) -> None:
    bench = Bench()
    assert bench.note(label) == [LabelOutcome.UNMATCHED]
    assert bench.state.effects == []


def test_labels_that_waited_for_their_transaction_are_told() -> None:
    bench = Bench()
    bench.note(a_label(1))
    (stored,) = bench.documents.decide([an_assessment(1)])
    assert stored.effect is not None
    assert bench.labels.note([], [stored.effect], NOW_MS) == []
    assert bench.state.effects == [stored.effect]


def test_an_outage_is_waited_out_in_either_store() -> None:
    bench = Bench()
    bench.documents.decide([an_assessment(1)])
    bench.documents.fail(2)
    bench.state.failures = 2
    assert bench.note(a_label(1)) == [LabelOutcome.APPLIED]
    assert len(bench.state.effects) == 1


def test_where_no_feature_reads_labels_documents_still_do() -> None:
    bench = Bench()
    bench.documents.decide([an_assessment(1)])
    assert bench.blind.note([a_label(1)], (), NOW_MS) == [LabelOutcome.APPLIED]
