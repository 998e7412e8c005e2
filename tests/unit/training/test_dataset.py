from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from consumer.model import LabelValue, Transaction, TransactionId
from consumer.ports import Observe
from consumer.training.dataset import Dataset, Vectors, collect, label
from tests.builders import NOON, a_label, a_transaction
from tests.fakes.features import FakeFeatures

HASH = "ab" * 32
DAY_S = 86_400
CUTOFF = NOON + timedelta(days=60)


def quiet(done: int) -> None:
    """Progress that nobody reads."""


def run(transactions: Sequence[Transaction], store: FakeFeatures) -> Vectors:
    return collect(transactions, store, store.names, HASH, quiet)


def vectors_by_day(*days: int) -> Vectors:
    """One transaction a day, named after it, with the day as its only feature."""
    return Vectors(
        names=("day",),
        feature_hash=HASH,
        transaction_ids=[TransactionId(f"tx_{day}") for day in days],
        times_s=np.array([int(NOON.timestamp()) + day * DAY_S for day in days], np.int64),
        rows=np.array(days, np.float32).reshape(-1, 1),
    )


def days_of(dataset: Dataset) -> list[int]:
    return [int(day) for day in dataset.rows[:, 0]]


def test_rows_are_what_the_store_answers_in_its_order() -> None:
    store = FakeFeatures()
    transactions = [a_transaction(n, base_amount_minor=n * 100) for n in range(1, 4)]
    vectors = run(transactions, store)
    assert vectors.rows.tolist() == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    assert vectors.rows.dtype == np.float32
    assert vectors.times_s.tolist() == [int(NOON.timestamp()) + n for n in range(1, 4)]
    assert (vectors.names, vectors.feature_hash) == (store.names, HASH)


def test_history_travels_in_chunks_and_progress_is_told() -> None:
    store = FakeFeatures()
    told: list[int] = []
    transactions = (a_transaction(n) for n in range(1_200))
    vectors = collect(transactions, store, store.names, HASH, told.append)
    assert [len(call) for call in store.calls] == [500, 500, 200]
    assert told == [500, 1_000, 1_200]
    assert len(vectors.rows) == 1_200


def test_the_store_is_warm_afterwards() -> None:
    store = FakeFeatures()
    run([a_transaction(1), a_transaction(2)], store)
    (observation,) = store.observe([Observe(a_transaction(3), 0)])
    assert observation.values[1] == 3.0


def test_a_repeated_transaction_makes_no_second_row() -> None:
    vectors = run([a_transaction(1), a_transaction(2), a_transaction(1)], FakeFeatures())
    assert vectors.transaction_ids == ["tx_1", "tx_2"]
    assert len(vectors.rows) == len(vectors.times_s) == 2


def test_an_empty_history_makes_an_empty_dataset() -> None:
    vectors = run([], FakeFeatures())
    dataset = label(vectors, [], cutoff=CUTOFF, delay_s=0, warmup_s=0)
    assert vectors.rows.shape == dataset.rows.shape == (0, 2)


def test_rows_whose_label_is_still_to_come_and_rows_of_the_warm_up_are_left_out() -> None:
    dataset = label(
        vectors_by_day(*range(60)),
        [],
        cutoff=CUTOFF,
        delay_s=10 * DAY_S,
        warmup_s=30 * DAY_S,
    )
    assert days_of(dataset) == list(range(30, 51))


def test_only_the_newest_label_known_at_the_cut_off_counts() -> None:
    early, late = CUTOFF - timedelta(days=2), CUTOFF - timedelta(days=1)
    labels = [
        a_label(1, label_time=late, label=LabelValue.LEGITIMATE),
        a_label(1, label_time=early),
        a_label(2, label_time=early, label=LabelValue.LEGITIMATE),
        a_label(2, label_time=late),
        a_label(3, label_time=CUTOFF + timedelta(seconds=1)),
        a_label(4, label_time=CUTOFF),
        a_label(99, label_time=early),
    ]
    vectors = vectors_by_day(0, 1, 2, 3, 4)
    dataset = label(vectors, labels, cutoff=CUTOFF, delay_s=0, warmup_s=0)
    assert dataset.fraud.tolist() == [False, False, True, False, True]


def test_rows_come_in_order_of_time_with_their_own_labels() -> None:
    labels = [a_label(7, label_time=CUTOFF)]
    dataset = label(vectors_by_day(9, 7, 8), labels, cutoff=CUTOFF, delay_s=0, warmup_s=0)
    assert days_of(dataset) == [7, 8, 9]
    assert dataset.fraud.tolist() == [True, False, False]
    assert (np.diff(dataset.times_s) > 0).all()
