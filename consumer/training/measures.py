"""What is measured about a model, on rows that may each stand for several."""

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float32]

_QUANTILES: Final = (0.5, 0.9, 0.95, 0.99, 0.995, 0.999)
# The usual cut-off of a random cut forest: "Interpret the results", SageMaker RCF in the
# Amazon SageMaker AI developer guide.
_DEVIATIONS: Final = 3.0


def ranking(fraud: Mask, scores: Scores, weights: Weights | None = None) -> dict[str, object]:
    """Measure how well *scores* rank; None where not both kinds of rows are there."""
    both = 0 < int(fraud.sum()) < len(fraud)
    if not both:
        return {"roc_auc": None, "average_precision": None}
    return {
        "roc_auc": float(roc_auc_score(fraud, scores, sample_weight=weights)),
        "average_precision": float(average_precision_score(fraud, scores, sample_weight=weights)),
    }


def at_thresholds(
    fraud: Mask, scores: Scores, thresholds: Mapping[str, float], weights: Weights | None = None
) -> dict[str, dict[str, float | None]]:
    """Measure precision, recall and the share of rows at or above each threshold."""
    each = np.ones(len(fraud)) if weights is None else weights.astype(np.float64)
    frauds = float(each[fraud].sum())
    table: dict[str, dict[str, float | None]] = {}
    for name, threshold in thresholds.items():
        above = scores >= threshold
        flagged, caught = float(each[above].sum()), float(each[above & fraud].sum())
        table[name] = {
            "threshold": threshold,
            "precision": caught / flagged if flagged else None,
            "recall": caught / frauds if frauds else None,
            "share": flagged / float(each.sum()) if len(each) else None,
        }
    return table


def quantiles(scores: Scores, weights: Weights | None = None) -> dict[str, float]:
    """Say which score a share of the rows does not exceed."""
    return {f"{share:g}": quantile(scores, share, weights) for share in _QUANTILES}


def quantile(scores: Scores, share: float, weights: Weights | None = None) -> float:
    """Return the score that *share* of the rows do not exceed."""
    if weights is None:
        return float(np.quantile(scores, share))
    return float(
        np.quantile(scores, share, weights=weights.astype(np.float64), method="inverted_cdf")
    )


def choose_fraud_thresholds(
    fraud: Mask, scores: Scores, *, decline_precision: float, weights: Weights | None = None
) -> tuple[float, float]:
    """
    Return the scores from which on to review and to decline, review ≤ decline.

    Decline from the lowest score at and above which at least *decline_precision*
    of the rows are frauds; from 1.0 when there is none. Review from the score
    that gives the best F1, the harmonic mean of precision and recall.
    """
    precision, recall, thresholds = precision_recall_curve(fraud, scores, sample_weight=weights)
    precision, recall = precision[:-1], recall[:-1]
    precise = np.flatnonzero(precision >= decline_precision)
    decline = float(thresholds[precise[0]]) if len(precise) else 1.0
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    review = float(thresholds[int(np.argmax(f1))])
    return min(review, decline), decline


def choose_anomaly_threshold(
    scores: Scores, share: float | None, weights: Weights | None = None
) -> float:
    """
    Return the score from which on to review: that which *share* of the rows exceed.

    Without a share it is the mean plus three standard deviations, which on scores with a
    long tail sends more to review.
    """
    if share is None:
        mean = float(np.average(scores, weights=weights))
        variance = float(np.average((scores - mean) ** 2, weights=weights))
        return mean + _DEVIATIONS * math.sqrt(variance)
    return quantile(scores, 1 - share, weights)
