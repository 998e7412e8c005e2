"""
Scores that mean what they say: Platt's scaling, kept inside the booster.

Trees that were stopped when they ranked best, or learnt with frauds weighted up, rank well and
lie about probabilities. A logistic regression of the outcome on the margin (Platt,
Probabilistic Outputs for Support Vector Machines, 1999) corrects that by a slope and an
intercept. Both go into the booster, the slope into every leaf and the intercept into those of
the first tree, so that one booster says it all wherever it is loaded, and explanations still
add up. The base score stays at one half: XGBoost 3.0, which the built-in container has, does
not understand how 3.1 and later write another one, and takes one half without a word.
"""

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import orjson
import xgboost
from sklearn.linear_model import LogisticRegression

_LEAF: Final = -1


class Line(msgspec.Struct, frozen=True):
    """The corrected margin is ``slope`` times the margin, plus ``intercept``."""

    slope: float = 1.0
    intercept: float = 0.0


def fit_line(
    margins: npt.NDArray[np.float64],
    fraud: npt.NDArray[np.bool_],
    weights: npt.NDArray[np.float32],
) -> Line | None:
    """
    Fit the line to what came of rows with these *margins*; all of shape (n,).

    None where a higher margin would come to mean less fraud: then nothing was learnt that
    a line could correct.
    """
    regression = LogisticRegression(C=np.inf, max_iter=1_000)
    regression.fit(margins[:, np.newaxis], fraud, weights)
    slope, intercept = float(regression.coef_[0, 0]), float(regression.intercept_[0])
    return Line(slope, intercept) if slope > 0 else None


def apply_line(booster: xgboost.Booster, line: Line) -> xgboost.Booster:
    """Return *booster*, of ``binary:logistic`` trees, with *line* and its base score inside."""
    model = orjson.loads(bytes(booster.save_raw("json")))
    learner = model["learner"]
    base = _base_margin(learner["learner_model_param"]["base_score"])
    offset = line.slope * base + line.intercept
    for number, tree in enumerate(learner["gradient_booster"]["model"]["trees"]):
        _correct(tree, line.slope, 0.0 if number else offset)
    learner["learner_model_param"]["base_score"] = "5E-1"
    corrected = xgboost.Booster()
    corrected.load_model(bytearray(orjson.dumps(model)))
    return corrected


def _correct(tree: Any, slope: float, offset: float) -> None:
    """Correct every leaf; ``split_conditions`` hold a leaf's value and a split's threshold."""
    tree["split_conditions"] = [
        value * slope + offset if child == _LEAF else value
        for value, child in zip(tree["split_conditions"], tree["left_children"], strict=True)
    ]
    tree["base_weights"] = [value * slope + offset for value in tree["base_weights"]]


def _base_margin(text: str) -> float:
    score = float(text.strip("[]"))
    return float(np.log(score / (1 - score)))
