from dataclasses import replace

import numpy as np
import pytest

from consumer.training.proposal import Bands, Costs, Scored, compare, measure, propose

DAYS = 4


def scored(rows: int = 400, seed: int = 1) -> Scored:
    random = np.random.default_rng(seed)
    fraud = random.random(rows) < 0.1
    return Scored(
        day=np.sort(random.integers(20_000, 20_000 + DAYS, rows)),
        amount=np.round(random.lognormal(3, 1, rows), 2),
        fraud=fraud,
        fraud_score=np.asarray(
            np.round(np.clip(random.normal(0.3 + 0.3 * fraud, 0.2, rows), 0, 1), 3), np.float64
        ),
        anomaly_score=np.round(random.lognormal(0.2 * fraud, 0.4, rows), 3),
        anyway=np.zeros(rows, bool),
        days=DAYS,
    )


def price(data: Scored, costs: Costs, bands: Bands) -> tuple[float, float]:
    """Cost and reviews a day, one transaction after the other."""
    total = reviews = 0.0
    for fraud, anomaly, is_fraud, amount, anyway in zip(
        data.fraud_score.tolist(),
        data.anomaly_score.tolist(),
        data.fraud.tolist(),
        data.amount.tolist(),
        data.anyway.tolist(),
        strict=True,
    ):
        if fraud >= bands.fraud_decline:
            total += 0 if is_fraud else costs.friction
        elif fraud >= bands.fraud_review or anomaly >= bands.anomaly_review or anyway:
            total, reviews = total + costs.review, reviews + 1
        elif is_fraud:
            total += costs.fraud_share * amount + costs.fraud_each
    return total / data.days, reviews / data.days


@pytest.mark.parametrize("friction", [0.0, 5.0, 500.0])
@pytest.mark.parametrize("capacity", [0.5, 10.0, 1_000.0])
def test_no_other_thresholds_are_cheaper_within_the_capacity(
    friction: float, capacity: float
) -> None:
    data = scored(120)
    data = replace(data, anomaly_score=np.full(120, np.nan))
    costs = Costs(friction, review=1.0, fraud_each=2.0)
    found = propose(data, costs, capacity)
    cost, reviews = price(data, costs, found)
    assert reviews <= capacity
    grid = [*np.unique(data.fraud_score).tolist(), 1.0001]
    for decline in grid:
        for review in (each for each in grid if each <= decline):
            other, needed = price(data, costs, Bands(review, decline, 99.0))
            assert needed > capacity or other >= cost - 1e-9


def test_what_is_told_of_thresholds_is_what_a_plain_count_gives() -> None:
    data = replace(scored(), anyway=np.random.default_rng(8).random(400) < 0.05)
    costs = Costs(4.0, review=0.5, fraud_share=1.2, fraud_each=3.0)
    bands = Bands(0.5, 0.8, 1.9)
    told = measure(data, costs, bands, "x")
    cost, reviews = price(data, costs, bands)
    assert [told.cost, told.reviews] == pytest.approx([cost, reviews])
    assert told.money_caught + told.money_missed == pytest.approx(
        data.amount[data.fraud].sum() / DAYS
    )
    assert told.busiest_day >= told.reviews


def test_the_capacity_holds_with_an_anomaly_score_and_rules_beside() -> None:
    data = scored(2_000)
    data = replace(data, anyway=np.random.default_rng(8).random(2_000) < 0.004)
    for capacity in (5.0, 20.0, 100.0):
        found = propose(data, Costs(5.0), capacity)
        assert price(data, Costs(5.0), found)[1] <= capacity


def test_an_anomaly_score_is_used_where_it_finds_what_the_other_does_not() -> None:
    data = scored(2_000)
    blind = replace(
        data, fraud_score=np.full(2_000, 0.5), anomaly_score=np.where(data.fraud, 4.0, 1.0)
    )
    found = propose(blind, Costs(1_000.0), 60.0)
    assert found.anomaly_review == 4.0
    useless = replace(data, anomaly_score=np.where(data.fraud, 0.0, 1.0))
    assert propose(useless, Costs(5.0), 20.0).anomaly_review > 1.0


def test_where_rules_alone_are_too_many_the_scores_add_no_review() -> None:
    data = replace(scored(), anyway=np.ones(400, bool))
    found = propose(data, Costs(5.0), 1.0)
    alone = measure(data, Costs(5.0), Bands(1.1, found.fraud_decline, 99.0), "rules alone")
    assert measure(data, Costs(5.0), found, "found").reviews <= alone.reviews


def test_absent_scores_flag_nothing() -> None:
    data = scored()
    data = replace(data, fraud_score=np.where(data.fraud, np.nan, data.fraud_score))
    told = measure(data, Costs(5.0), Bands(0.0, 1.0, 99.0), "x")
    assert told.caught == 0


def test_more_people_never_cost_more_and_the_table_ends_with_the_proposal() -> None:
    data = scored(3_000)
    bands, table = compare(data, Costs(5.0), 40.0, {"in force": Bands(0.5, 0.9, 3.0)})
    names = [row.name for row in table]
    assert names[:2] == ["no scores", "in force"]
    assert names[-1] == "proposed: 40 a day"
    assert table[-1].bands == bands
    by_capacity = [table[at].cost for at in (2, 3, 6, 4, 5)]
    assert by_capacity == sorted(by_capacity, reverse=True)
    assert table[0].cost > table[-1].cost


def test_thresholds_are_short_numbers_in_their_range() -> None:
    found = propose(scored(3_000), Costs(5.0), 40.0)
    assert 0 <= found.fraud_review <= found.fraud_decline <= 1
    assert all(len(repr(value)) <= 8 for value in (found.fraud_review, found.fraud_decline))
