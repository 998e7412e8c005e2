"""Chunks of a history go into entity state in order, or not at all."""

from collections.abc import Sequence

import pytest

from consumer.errors import Unavailable
from consumer.model import Kind, Label, Observation, Transaction
from consumer.patience import Patience
from consumer.ports import Observe, Step
from consumer.replay.chunks import Chunk, Phase
from consumer.replay.feature_target import FeatureTarget
from consumer.replay.ordered_features import OrderedFeatures
from consumer.replay.target import effect_of
from tests.builders import NOON, a_label, a_transaction
from tests.fakes.clock import FakeClock
from tests.fakes.entities import FakeEntities

NOON_MS = int(NOON.timestamp()) * 1000


class TellingEntities(FakeEntities):
    """Notes what it was asked to work, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def work(self, steps: Sequence[Step]) -> list[Observation]:
        self.told += ["tx" if isinstance(step, Observe) else "label" for step in steps]
        return super().work(steps)


def chunk_of(events: Sequence[Transaction | Label]) -> Chunk:
    count = len(events)
    transactions = sum(isinstance(each, Transaction) for each in events)
    times = [NOON_MS] * count
    data = [b""] * count
    return Chunk(
        Phase.FULL, count, list(events), list(range(count)), times, data, transactions=transactions
    )


def target_of(store: FakeEntities, limit_s: float = 0) -> FeatureTarget:
    clock = FakeClock()
    patience = Patience(clock, clock.sleep, limit_s, lambda _error, _waited_s: None)
    return FeatureTarget(store, patience, now_ms=NOON_MS + 10_000)


def keyed_label(number: int) -> Label:
    return a_label(number, event_time=NOON, keys={"card_id": "card_1"})


def test_nothing_is_applied_behind_a_chunk_that_was_not() -> None:
    store = FakeEntities()
    store.fail(1)
    target = target_of(store)
    target.work(chunk_of([a_transaction(1)]))
    with pytest.raises(Unavailable, match="told to fail"):
        target.work(chunk_of([a_transaction(2)]))
    assert not store.state
    target.save()
    target.close()
    assert target.counts["applied"] == 1


def test_a_chunk_is_on_its_way_before_the_next_comes() -> None:
    store = FakeEntities()
    target = target_of(store)
    target.work(chunk_of([a_transaction(1)]))
    assert store.state
    assert not target.counts
    target.save()
    assert target.counts["applied"] == 1


def test_an_outage_is_waited_out() -> None:
    store = FakeEntities()
    store.fail(2)
    target = target_of(store, limit_s=60)
    target.work(chunk_of([a_transaction(1)]))
    target.save()
    target.close()
    assert target.counts["applied"] == 1


def test_an_event_from_the_future_counts_when_the_replay_began() -> None:
    store = FakeEntities()
    target = target_of(store)
    target.work(chunk_of([a_transaction(5_000)]))
    target.save()
    target.close()
    assert store.state["card_id", "card_1"].newest_s == NOON_MS // 1000 + 10


def test_transactions_are_counted_by_what_entities_did() -> None:
    target = target_of(FakeEntities())
    refund = a_transaction(3, kind=Kind.REFUND)
    events: list[Transaction | Label] = [a_transaction(1), a_transaction(1), refund]
    events += [keyed_label(1), a_label(9)]
    target.work(chunk_of(events))
    target.save()
    target.close()
    assert target.counts == {
        "transactions": 3,
        "applied": 1,
        "repeated": 1,
        "read": 1,
        "labels": 2,
        "labels_without_keys": 1,
    }


def test_the_engines_features_learn_labels_between_transactions() -> None:
    store = TellingEntities()
    features = OrderedFeatures(store)
    effects = [effect_of(keyed_label(number)) for number in (1, 2)]
    assert effects[0] is not None
    assert effects[1] is not None
    requests = [Observe(a_transaction(number), NOON_MS // 1000 + number) for number in (1, 2, 3)]
    features.begin([(1, effects[0]), (3, effects[1])])
    features.observe(requests[:2])
    features.observe(requests[2:])
    features.end()
    assert store.told == ["tx", "label", "tx", "tx"]
    assert store.state["card_id", "card_1"].frauds == 2
