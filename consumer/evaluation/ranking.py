"""
How well a score puts frauds before the rest: curves, areas under them, and points on them.

``roc_auc`` is the probability that a fraud scores higher than a legitimate transaction, ties
counted half. ``average_precision`` is sum over thresholds of (recall gained) x precision, as
scikit-learn defines it, without interpolation. Weighted by amount, a transaction counts by its
money: of two frauds the larger one matters more, and so does the larger false alarm.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from consumer.evaluation.decisions import Bools, Floats

Curve = tuple[tuple[float, float], ...]

_STEPS: Final = 400
"""A curve is thinned to steps of 1/400 of either axis, less than a pixel of its picture."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """
    Figures of a score over labelled transactions; None where a class is missing.

    ``roc`` holds points (false positive rate, recall), ``precision_recall`` points (recall,
    precision), both in falling order of threshold.
    """

    rows: int
    frauds: int
    roc_auc: float | None
    average_precision: float | None
    roc_auc_by_value: float | None
    average_precision_by_value: float | None
    roc: Curve
    precision_recall: Curve


def rank(scores: Floats, fraud: Bools, amount: Floats) -> Ranking:
    """Measure *scores* of labelled transactions; rows whose score is NaN are left out."""
    here = ~np.isnan(scores)
    scores, fraud, amount = scores[here], fraud[here], np.maximum(amount[here], 0.0)
    rows, frauds = len(scores), int(fraud.sum())
    if not 0 < frauds < rows:
        return Ranking(rows, frauds, None, None, None, None, (), ())
    valued = amount[fraud].sum() > 0 and amount[~fraud].sum() > 0
    caught, alarms = cumulate(scores, fraud)
    recall, precision = caught / frauds, caught / (caught + alarms)
    return Ranking(
        rows,
        frauds,
        float(roc_auc_score(fraud, scores)),
        float(average_precision_score(fraud, scores)),
        float(roc_auc_score(fraud, scores, sample_weight=amount)) if valued else None,
        float(average_precision_score(fraud, scores, sample_weight=amount)) if valued else None,
        _thin(np.r_[0.0, alarms / (rows - frauds)], np.r_[0.0, recall]),
        _thin(np.r_[0.0, recall], np.r_[precision[0], precision]),
    )


def cumulate(scores: Floats, fraud: Bools) -> tuple[Floats, Floats]:
    """Frauds and others at or above each distinct score, from the highest score down."""
    order = np.argsort(-scores, kind="stable")
    ends = last_of_equals(scores[order])
    caught = np.cumsum(fraud[order])[ends]
    return caught.astype(np.float64), (ends + 1 - caught).astype(np.float64)


def last_of_equals(ordered: Floats) -> npt.NDArray[np.int64]:
    """Where in *ordered* values the last one of each run of equal values stands."""
    return np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True])


def _thin(across: Floats, up: Floats) -> Curve:
    """Leave out points that would be drawn where the one before them is; keep the last."""
    grid = np.stack([np.round(across * _STEPS), np.round(up * _STEPS)])
    kept = np.r_[True, (np.diff(grid, axis=1) != 0).any(axis=0)]
    kept[-1] = True
    return tuple(zip(across[kept].round(6).tolist(), up[kept].round(6).tolist(), strict=True))
