import math

import pytest

from consumer.drift import Bins, Drift, stability_index
from consumer.model import Assessment, Observation, Scores
from consumer.settings import DriftSettings
from tests.builders import an_assessment

TENTHS = Bins(tuple(number / 10 for number in range(1, 10)), (100,) * 10)


def with_amount(amount: float, fraud: float | None = None) -> Assessment:
    return an_assessment(
        observation=Observation(values=(amount, 7.0), applied=()), scores=Scores(fraud, None)
    )


def test_equal_shares_have_no_distance() -> None:
    assert stability_index((50, 50), (500, 500)) == pytest.approx(0, abs=1e-6)


def test_the_index_is_that_of_the_formula() -> None:
    expected = (0.7 - 0.5) * math.log(0.7 / 0.5) + (0.3 - 0.5) * math.log(0.3 / 0.5)
    found = stability_index((500_000, 500_000), (700_000, 300_000))
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_bin_without_values_is_far_but_finite() -> None:
    assert 1 < stability_index((500, 500), (1000, 0)) < 10


@pytest.fixture
def told() -> dict[str, float]:
    return {}


def drift(told: dict[str, float], **settings: float) -> Drift:
    bins = {"amount": TENTHS, "score_fraud": TENTHS, "of_another_plan": TENTHS}
    values = {"sample_every": 1, "minimum": 100, "window_s": 120, **settings}
    form = DriftSettings.model_validate({"quiet_window_s": values["window_s"], **values})

    def export(name: str, psi: float | None) -> None:
        if psi is None:
            del told[name]
        else:
            told[name] = psi

    return Drift(bins, ("amount", "count"), form, export)


def test_what_looks_like_training_is_stable_and_what_does_not_is_not(
    told: dict[str, float],
) -> None:
    follower = drift(told)
    follower.observe([with_amount(n / 1000, fraud=0.05) for n in range(1000)], 0.0)
    follower.observe([], 15.0)
    assert told["amount"] < 0.02
    assert told["score_fraud"] > 2
    assert "of_another_plan" not in told


def test_nothing_is_said_about_few_values(told: dict[str, float]) -> None:
    follower = drift(told)
    follower.observe([with_amount(0.5) for _ in range(99)], 0.0)
    follower.observe([], 15.0)
    assert told == {}


def test_values_older_than_the_window_are_forgotten(told: dict[str, float]) -> None:
    follower = drift(told)
    follower.observe([with_amount(0.05)] * 1000, 0.0)
    follower.observe([with_amount(n / 1000) for n in range(1000)], 100.0)
    mixed = told["amount"]
    follower.observe([], 125.0)
    assert told["amount"] < 0.02 < mixed
    follower.observe([with_amount(0.05)] * 1000, 10_000.0)
    follower.observe([], 10_020.0)
    assert told["amount"] > 2


def test_one_in_so_many_is_counted_whatever_the_chunks(told: dict[str, float]) -> None:
    # 3 of each slice are all counted, then one in ten: 27 of 267.
    follower = drift(told, sample_every=10, minimum=31)
    for start in range(0, 270, 27):
        follower.observe([with_amount(n / 300) for n in range(start, start + 27)], 0.0)
    follower.observe([], 8.0)
    assert told == {}
    follower.observe([with_amount(0.999) for _ in range(4)], 15.0)
    assert set(told) == {"amount"}


def test_a_thousand_transactions_a_day_are_compared_by_the_end_of_it(
    told: dict[str, float],
) -> None:
    shipped = DriftSettings()
    follower = drift(told, **shipped.model_dump())
    for n in range(1000):
        follower.observe([with_amount(0.95 if n % 2 else 0.05)], n * 86.4)
    assert told["amount"] > 1
    assert shipped.sample_every > 1


def test_a_busy_hour_is_told_alone(told: dict[str, float]) -> None:
    follower = drift(told, quiet_window_s=2_400)
    follower.observe([with_amount(0.05)] * 5_000, 0.0)
    follower.observe([], 130.0)
    assert told["amount"] > 2, "nothing newer is there"
    follower.observe([with_amount(n / 1000) for n in range(1000)], 140.0)
    follower.observe([], 146.0)
    assert told["amount"] < 0.02


def test_what_was_told_is_taken_back_when_too_few_values_are_left(told: dict[str, float]) -> None:
    follower = drift(told, quiet_window_s=1_200)
    follower.observe([with_amount(0.05)] * 100, 0.0)
    follower.observe([], 1_100.0)
    assert set(told) == {"amount"}
    follower.observe([], 1_300.0)
    assert told == {}
    follower.observe([with_amount(0.05)] * 100, 1_301.0)
    follower.observe([], 1_310.0)
    assert set(told) == {"amount"}
