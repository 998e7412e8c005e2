import json

import numpy as np
import pytest
import xgboost

from consumer.training.recalibration import Line, apply_line, fit_line

RANDOM = np.random.default_rng(9)
ROWS = RANDOM.normal(size=(6_000, 3)).astype(np.float32)
FRAUD = ROWS[:, 0] + RANDOM.normal(0, 1, 6_000) > 2
WEIGHTS = np.ones(6_000, np.float32)


def booster() -> xgboost.Booster:
    parameters = {"objective": "binary:logistic", "base_score": 0.5, "nthread": 1, "seed": 1}
    weight = np.where(FRAUD, 10.0, 1.0)
    return xgboost.train(parameters, xgboost.DMatrix(ROWS, FRAUD, weight=weight), 10)


def margins(model: xgboost.Booster) -> np.ndarray:
    return np.asarray(model.inplace_predict(ROWS, predict_type="margin"), np.float64)


def test_the_line_goes_into_the_booster() -> None:
    model = booster()
    corrected = apply_line(model, Line(0.7, -1.3))
    assert margins(corrected) == pytest.approx(0.7 * margins(model) - 1.3, abs=1e-5)
    again = xgboost.Booster(model_file=bytearray(corrected.save_raw("ubj")))
    assert np.array_equal(margins(again), margins(corrected))


def test_the_base_score_moves_into_the_trees_for_versions_that_cannot_read_it() -> None:
    parameters = {"objective": "binary:logistic", "base_score": 0.03, "nthread": 1}
    model = xgboost.train(parameters, xgboost.DMatrix(ROWS, FRAUD), 5)
    corrected = apply_line(model, Line())
    assert margins(corrected) == pytest.approx(margins(model), abs=1e-5)
    config = json.loads(corrected.save_config())
    base = config["learner"]["learner_model_param"]["base_score"]
    assert float(base.strip("[]")) == 0.5


def test_explanations_still_add_up_to_the_margin() -> None:
    corrected = apply_line(booster(), Line(0.7, -1.3))
    parts = corrected.predict(xgboost.DMatrix(ROWS[:50]), pred_contribs=True)
    assert parts.sum(axis=1) == pytest.approx(margins(corrected)[:50], abs=1e-4)


def test_scores_of_weighted_frauds_become_probabilities_again() -> None:
    model = booster()
    line = fit_line(margins(model), FRAUD, WEIGHTS)
    assert line is not None
    before = 1 / (1 + np.exp(-margins(model)))
    after = 1 / (1 + np.exp(-margins(apply_line(model, line))))
    assert before.mean() > FRAUD.mean() * 1.5
    assert after.mean() == pytest.approx(FRAUD.mean(), rel=0.01)
    for low in (0.02, 0.1, 0.3):
        near = (after > low) & (after < low * 3)
        assert FRAUD[near].mean() == pytest.approx(after[near].mean(), rel=0.35)


def test_weights_count_rows_that_stand_for_several() -> None:
    model = booster()
    line = fit_line(margins(model), FRAUD, np.where(FRAUD, 1.0, 9.0).astype(np.float32))
    assert line is not None
    after = 1 / (1 + np.exp(-margins(apply_line(model, line))))
    weights = np.where(FRAUD, 1.0, 9.0)
    assert np.average(after, weights=weights) == pytest.approx(
        np.average(FRAUD, weights=weights), rel=0.02
    )


def test_scores_that_rank_the_wrong_way_round_are_left_alone() -> None:
    assert fit_line(-margins(booster()), FRAUD, WEIGHTS) is None
