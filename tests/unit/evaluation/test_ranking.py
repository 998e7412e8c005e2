import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from consumer.evaluation.challenge import Ordered
from consumer.evaluation.ranking import rank

SCORES = np.array([0.9, 0.8, 0.7, 0.6])
FRAUD = np.array([True, False, True, False])
MONEY = np.array([10.0, 10.0, 30.0, 10.0])


def test_areas_are_those_counted_by_hand() -> None:
    found = rank(SCORES, FRAUD, MONEY)
    # Of four pairs of fraud and other, three are in order.
    assert found.roc_auc == pytest.approx(3 / 4)
    # The first fraud stands at precision 1, the second at 2/3.
    assert found.average_precision == pytest.approx((1 + 2 / 3) / 2)


def test_by_value_a_transaction_counts_as_much_as_its_money() -> None:
    found = rank(SCORES, FRAUD, MONEY)
    assert found.average_precision_by_value == pytest.approx(1 / 4 * 1 + 3 / 4 * 40 / 50)
    assert found.roc_auc_by_value == pytest.approx(1 / 4 * 1 + 3 / 4 * 1 / 2)


def test_curves_begin_and_end_where_nothing_and_all_is_flagged() -> None:
    found = rank(SCORES, FRAUD, MONEY)
    assert found.roc == ((0.0, 0.0), (0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (1.0, 1.0))
    assert found.precision_recall[0] == (0.0, 1.0)
    assert found.precision_recall[-1] == (1.0, 0.5)


def test_a_long_curve_is_thinned_but_keeps_its_ends() -> None:
    chance = np.random.default_rng(1)
    fraud = chance.random(50_000) < 0.1
    found = rank(chance.random(50_000) + fraud * 0.3, fraud, np.ones(50_000))
    assert len(found.roc) < 1000
    assert (found.roc[0], found.roc[-1]) == ((0.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize("fraud", [True, False])
def test_of_one_class_alone_there_are_no_areas(fraud: bool) -> None:  # noqa: FBT001
    found = rank(SCORES, np.full(4, fraud), MONEY)
    assert (found.roc_auc, found.average_precision, found.roc) == (None, None, ())
    assert (found.rows, found.frauds) == (4, 4 * fraud)


def test_absent_scores_are_left_out() -> None:
    scores = np.r_[SCORES, np.nan]
    found = rank(scores, np.r_[FRAUD, True], np.r_[MONEY, 1.0])
    assert (found.rows, found.frauds, found.roc_auc) == (4, 2, 0.75)


def test_frauds_without_money_have_no_figures_by_value() -> None:
    found = rank(SCORES, FRAUD, np.array([0.0, 5.0, 0.0, 5.0]))
    assert found.average_precision_by_value is None
    assert found.average_precision is not None


@given(
    rows=st.lists(
        st.tuples(st.sampled_from((0.1, 0.3, 0.5, 0.9)), st.booleans(), st.integers(0, 3)),
        min_size=2,
        max_size=40,
    )
)
def test_areas_of_a_resample_are_those_of_scikit_learn(
    rows: list[tuple[float, bool, int]],
) -> None:
    scores, fraud, weights = (np.array(column) for column in zip(*rows, strict=True))
    found = Ordered.of(scores, fraud).areas(weights.astype(np.float64))
    if not (weights[fraud].sum() and weights[~fraud].sum()):
        assert np.isnan(found).all()
        return
    kept = weights > 0
    told = {"y_true": fraud[kept], "y_score": scores[kept], "sample_weight": weights[kept]}
    assert found == pytest.approx((roc_auc_score(**told), average_precision_score(**told)))
