import numpy as np
import pytest

from consumer.evaluation.by_day import count_days
from consumer.evaluation.calibration import calibrate
from consumer.evaluation.challenge import Resampling, duel
from consumer.evaluation.distribution import spread, time_taken
from consumer.evaluation.rule_figures import measure_rules, measure_shadow
from tests.unit.evaluation.columns import DAY_MS, build_decisions, hits


def test_calibration_is_that_of_bins_counted_by_hand() -> None:
    scores = np.array([0.05, 0.15, 0.12, 1.0, 0.95])
    found = calibrate(scores, np.array([False, True, False, True, True]))
    assert found is not None
    assert [(each.low, each.rows, each.fraud_share) for each in found.bins] == [
        (0.0, 1, 0.0),
        (0.1, 2, 0.5),
        (0.9, 2, 1.0),
    ]
    error = (0.05 * 1 + abs(0.135 - 0.5) * 2 + 0.025 * 2) / 5
    assert found.expected_calibration_error == pytest.approx(error)
    brier = (0.05**2 + 0.85**2 + 0.12**2 + 0 + 0.05**2) / 5
    assert found.brier == pytest.approx(brier)
    assert found.brier_skill == pytest.approx(1 - brier / (0.6 * 0.4))


def test_a_score_beyond_one_is_no_probability() -> None:
    assert calibrate(np.array([0.5, 1.2]), np.array([False, True])) is None
    assert calibrate(np.array([np.nan]), np.array([True])) is None


def test_a_rule_is_measured_by_itself_and_by_what_it_adds() -> None:
    decisions = build_decisions(
        label=[1, 1, 0, 1, -1],
        amount=[10.0, 20.0, 30.0, 40.0, 50.0],
        outcome=[2, 1, 2, 0, 1],
        banded=[False, True, False, False, False],
        live=hits(a=[0, 1, 2, 4], b=[2]),
    )
    first, second = measure_rules(decisions, decisions.live, ~decisions.banded)
    assert (first.name, second.name) == ("a", "b")
    assert (first.all.flagged, first.all.frauds, first.all.legitimate) == (4, 2, 1)
    assert (first.all.precision, first.all.recall) == pytest.approx((2 / 3, 2 / 3))
    # Row 2 is hit by both rules; row 1 is found by the model, too.
    assert (first.alone.flagged, first.alone.frauds) == (3, 2)
    assert (first.added.flagged, first.added.frauds, first.added.money_caught) == (2, 1, 10.0)
    assert first.outcomes == {"approve": 0, "review": 2, "decline": 2}
    assert second.alone.flagged == 0


def test_shadow_rules_are_measured_against_what_was_decided() -> None:
    decisions = build_decisions(label=[1, 1, 0, 0], outcome=[2, 0, 0, 0], shadow=hits(s=[0, 1, 2]))
    found = measure_shadow(decisions)
    assert found is not None
    assert (found.live.recall, found.with_shadow.recall) == (0.5, 1.0)
    assert (found.added.flagged, found.added.frauds, found.added.legitimate) == (2, 1, 1)
    assert measure_shadow(build_decisions(label=[1])) is None


def test_every_day_is_counted_also_those_without_decisions() -> None:
    decisions = build_decisions(
        time_ms=[0, 1, 2 * DAY_MS],
        label=[1, 0, -1],
        outcome=[1, 2, 0],
        amount=[5.0, 7.0, 9.0],
        degraded=[False, False, True],
    )
    first, empty, last = count_days(decisions)
    assert (first.date, empty.date, last.date) == ("1970-01-01", "1970-01-02", "1970-01-03")
    assert first.outcomes == {"approve": 0, "review": 1, "decline": 1}
    assert (first.frauds, first.frauds_caught, first.money_caught) == (1, 1, 5.0)
    assert first.money_declined_wrongly == 7.0
    assert sum(empty.outcomes.values()) == 0
    assert (last.unlabelled, last.degraded) == (1, 1)


def test_latencies_count_as_many_decisions_as_they_hold_for() -> None:
    found = time_taken(np.array([10.0, 1000.0]), np.array([98.0, 2.0]), "to a decision")
    assert found is not None
    assert (found.rows, found.mean) == pytest.approx((100, 29.8))
    assert (found.percentiles["p50"], found.percentiles["p99"]) == (10.0, 1000.0)
    assert sum(found.counts) == 100
    assert time_taken(np.empty(0), np.empty(0), None) is None


def test_scores_are_spread_by_class() -> None:
    decisions = build_decisions(fraud=[0.0, 0.5, 1.0, np.nan], label=[0, -1, 1, 1])
    found = spread(decisions.scores["fraud"], decisions.fraud, decisions.legitimate)
    assert found is not None
    assert (sum(found.legitimate), sum(found.unlabelled), sum(found.frauds)) == (1, 1, 1)
    assert (found.legitimate[0], found.frauds[-1]) == (1, 1)


def test_equal_scores_have_a_spread_too() -> None:
    equal = np.array([3.0, 3.0])
    found = spread(equal, np.array([True, False]), np.array([False, True]))
    assert found is not None
    assert (sum(found.frauds), sum(found.legitimate)) == (1, 1)


def test_a_challenger_is_compared_on_what_both_decided() -> None:
    champion = build_decisions(
        identity=[1, 2, 3, 4],
        fraud=[0.9, 0.8, 0.7, 0.6],
        label=[1, 0, 1, 0],
        amount=[10.0, 10.0, 30.0, 10.0],
        outcome=[2, 2, 0, 0],
    )
    challenger = build_decisions(
        identity=[9, 4, 3, 2, 1],
        fraud=[0.5, 0.1, 0.8, 0.2, 0.9],
        outcome=[2, 0, 2, 0, 2],
    )
    found = duel(champion, challenger, "new", Resampling(resamples=50, k=1))
    assert (found.pairs, found.only_champion, found.only_challenger) == (4, 0, 1)
    area = found.figures["fraud.roc_auc"]
    assert (area.champion, area.challenger, area.difference) == (0.75, 1.0, 0.25)
    assert area.low is not None
    assert area.high is not None
    assert area.low <= 0.25 <= area.high
    assert found.figures["decisions.money_caught"].difference == 30.0
    assert found.figures["decisions.money_declined_wrongly"].difference == -10.0
    assert found.crossing["decline"] == {"approve": 1, "review": 0, "decline": 1}
    assert (found.newly_flagged.frauds, found.newly_passed.legitimate) == (1, 1)
    assert "anomaly.roc_auc" not in found.figures


def test_decisions_compared_with_themselves_differ_by_nothing_at_all() -> None:
    chance = np.random.default_rng(5)
    label = (chance.random(500) < 0.1).astype(int)
    scores = chance.random(500) + label * 0.3
    decisions = build_decisions(
        fraud=scores,
        label=label,
        card=chance.integers(0, 60, 500),
        time_ms=np.sort(chance.integers(0, 5 * DAY_MS, 500)),
        outcome=(scores > 0.8).astype(int),
    )
    for cluster in ("card", "day"):
        found = duel(decisions, decisions, "same", Resampling(cluster=cluster, resamples=20, k=5))
        for name, each in found.figures.items():
            assert (each.difference, each.low, each.high) == (0.0, 0.0, 0.0), name


def test_an_interval_covers_a_difference_as_often_as_it_says() -> None:
    # Two coins of equal skill: about one interval in twenty may miss 0.
    chance = np.random.default_rng(11)
    missed = 0
    for _ in range(40):
        label = (chance.random(400) < 0.2).astype(int)
        one, two = (chance.random(400) + label * 0.4 for _ in range(2))
        first = build_decisions(fraud=one, label=label)
        second = build_decisions(fraud=two, label=label)
        each = duel(first, second, "two", Resampling(resamples=100)).figures["fraud.roc_auc"]
        assert each.low is not None
        assert each.high is not None
        missed += not each.low <= 0 <= each.high
    assert missed <= 6


def test_a_single_card_gives_no_interval() -> None:
    decisions = build_decisions(fraud=[0.1, 0.9], label=[0, 1], card=[0, 0])
    each = duel(decisions, decisions, "same", Resampling()).figures["fraud.roc_auc"]
    assert (each.difference, each.low, each.high) == (0.0, None, None)
