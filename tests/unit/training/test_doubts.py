import numpy as np

from consumer.training.doubts import find_doubts
from consumer.training.examples import Part
from consumer.training.split import Period

RANDOM = np.random.default_rng(2)
FRAUD = RANDOM.random(5_000) < 0.02


def part_of(*columns: np.ndarray) -> Part:
    zeros = np.zeros(5_000, np.int64)
    rows = np.column_stack(columns).astype(np.float32)
    weights = np.ones(5_000, np.float32)
    return Part(Period(0, 1), rows, FRAUD, zeros, zeros, weights, 0)


def test_a_feature_that_knows_the_label_is_named() -> None:
    leak = np.where(FRAUD, 1.0, RANDOM.random(5_000) / 10)
    (said,) = find_doubts(part_of(RANDOM.random(5_000), leak), ("honest", "chargebacks"))
    assert said.startswith("chargebacks: tells fraud all alone (AUC 1.0000)")


def test_it_may_tell_it_by_low_values_too() -> None:
    leak = np.where(FRAUD, -1.0, RANDOM.random(5_000))
    (said,) = find_doubts(part_of(leak), ("rest",))
    assert said.startswith("rest: tells fraud all alone")


def test_a_constant_feature_is_named() -> None:
    (said,) = find_doubts(part_of(RANDOM.random(5_000), np.full(5_000, 3.5)), ("a", "b"))
    assert said == "b: constant, 3.5 in every training row; it tells nothing"


def test_a_good_feature_is_no_leak() -> None:
    good = RANDOM.normal(np.where(FRAUD, 2.5, 0.0), 1.0)
    assert list(find_doubts(part_of(good), ("good",))) == []
