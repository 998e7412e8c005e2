import numpy as np
import pytest

from consumer.evaluation.thresholds import catch, money_by_reviews, points_of
from tests.unit.evaluation.columns import DAY_MS, build_decisions

DECISIONS = build_decisions(
    fraud=[0.95, 0.6, 0.6, 0.2, 0.1, np.nan],
    label=[1, 0, 1, 1, 0, 1],
    amount=[100.0, 20.0, 50.0, 30.0, 40.0, 20.0],
    time_ms=[0, 1, 2, 3, 4, DAY_MS],
)


def test_what_is_flagged_is_told_in_counts_and_money() -> None:
    found = catch(DECISIONS, DECISIONS.scores["fraud"] >= 0.5)
    assert (found.flagged, found.flagged_a_day) == (3, 1.5)
    assert (found.frauds, found.legitimate) == (2, 1)
    assert (found.precision, found.recall) == pytest.approx((2 / 3, 2 / 4))
    assert found.false_positive_rate == 1 / 2
    assert (found.money_caught, found.money_wrong) == (150.0, 20.0)
    assert (found.value_recall, found.value_precision) == pytest.approx((150 / 200, 150 / 170))


def test_what_has_no_label_counts_as_flagged_and_as_nothing_else() -> None:
    found = catch(build_decisions(label=[-1, -1]), np.array([True, False]))
    assert (found.flagged, found.frauds, found.legitimate) == (1, 0, 0)
    assert (found.precision, found.recall, found.value_recall) == (None, None, None)


def test_thresholds_in_force_stand_among_the_grid_with_their_names() -> None:
    points = points_of(DECISIONS, "fraud", [("fraud_review", 0.55), ("fraud_decline", 0.9)])
    thresholds = [point.threshold for point in points]
    assert thresholds == sorted(thresholds)
    assert [point.name for point in points if point.name] == ["fraud_review", "fraud_decline"]
    assert thresholds.count(0.9) == 1
    (review,) = (point for point in points if point.name == "fraud_review")
    assert (review.caught.frauds, review.caught.legitimate) == (2, 1)


def test_a_threshold_is_inclusive() -> None:
    (point,) = (p for p in points_of(DECISIONS, "fraud", []) if p.threshold == 0.6)
    assert point.caught.flagged == 3


def test_the_grid_of_an_anomaly_score_is_of_shares_flagged() -> None:
    scores = list(np.linspace(1, 3, 1000))
    points = points_of(build_decisions(anomaly=scores), "anomaly", [])
    assert {point.caught.flagged for point in points} >= {1, 2, 5, 10, 20, 50, 100}


def test_a_score_that_is_always_absent_has_no_points() -> None:
    assert points_of(DECISIONS, "anomaly", []) == ()
    assert money_by_reviews(DECISIONS, "anomaly") == ()


def test_money_caught_grows_with_reviews_and_equal_scores_are_taken_together() -> None:
    # Two days; the two at .6 come together: never one review more than the first alone.
    points = money_by_reviews(DECISIONS, "fraud")
    assert points == ((0.5, 0.5, 0.25), (1.5, 0.75, 0.5), (2.0, 0.9, 0.75), (2.5, 0.9, 0.75))


def test_without_frauds_no_money_is_caught() -> None:
    assert money_by_reviews(build_decisions(fraud=[0.1, 0.2]), "fraud") == ()
