"""
Whether a probability means what it says: of transactions scored .2, is every fifth a fraud.

``brier`` is the mean of (score - fraud)² (Brier 1950, 0 is best), ``brier_skill`` 1 - brier /
that of always saying the share of frauds. ``expected_calibration_error`` is the mean distance
of mean score and share of frauds over ten bins of equal width, weighted by their rows (Naeini,
Cooper, Hauskrecht 2015). Frauds are rare, so nearly all rows lie in the first bin and the
error is small by itself: the bins tell more than their mean.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from sklearn.metrics import brier_score_loss

from consumer.evaluation.decisions import Bools, Floats

_BINS: Final = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows with a score from ``low`` to below ``high`` (the last bin includes 1)."""

    low: float
    high: float
    rows: int
    mean_score: float
    fraud_share: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Figures of a probability over labelled transactions; bins without rows are left out."""

    rows: int
    brier: float
    brier_skill: float | None
    expected_calibration_error: float
    mean_score: float
    fraud_share: float
    bins: tuple[Bin, ...]


def calibrate(scores: Floats, fraud: Bools) -> Calibration | None:
    """
    Measure *scores* of labelled transactions.

    None without any, and where one is outside 0 to 1 and so no probability.
    """
    here = ~np.isnan(scores)
    scores, fraud = scores[here], fraud[here]
    if not len(scores) or scores.min() < 0 or scores.max() > 1:
        return None
    share = float(fraud.mean())
    brier = float(brier_score_loss(fraud, scores, pos_label=True))
    constant = share * (1 - share)
    bins = _bins(scores, fraud)
    error = sum(each.rows * abs(each.mean_score - each.fraud_share) for each in bins)
    return Calibration(
        rows=len(scores),
        brier=brier,
        brier_skill=1 - brier / constant if constant else None,
        expected_calibration_error=error / len(scores),
        mean_score=float(scores.mean()),
        fraud_share=share,
        bins=bins,
    )


def _bins(scores: Floats, fraud: Bools) -> tuple[Bin, ...]:
    edges = np.arange(_BINS + 1) / _BINS
    number = np.minimum(np.searchsorted(edges, scores, side="right") - 1, _BINS - 1)
    rows = np.bincount(number, minlength=_BINS)
    means = np.bincount(number, scores, _BINS) / np.maximum(rows, 1)
    shares = np.bincount(number, fraud, _BINS) / np.maximum(rows, 1)
    return tuple(
        Bin(float(edges[i]), float(edges[i + 1]), int(rows[i]), float(means[i]), float(shares[i]))
        for i in range(_BINS)
        if rows[i]
    )
