"""
Both models out of one dataset, with the thresholds to decide by.

The last part of the time is kept for validation: it stops the boosting, and
quality and thresholds are measured on it. Nothing is drawn at random across
time, because a model that saw next week's frauds would look better than it is.
The same dataset, settings and seed give the same archives, byte for byte.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import xgboost
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from consumer.errors import Misconfigured, Problem
from consumer.training.artefacts import write_anomaly, write_fraud
from consumer.training.bins import BINS, count_bins
from consumer.training.dataset import Dataset
from consumer.training.forest import TREE_SIZE, TREES, grow

FRAUD_ARCHIVE: Final = "fraud.tar.gz"
ANOMALY_ARCHIVE: Final = "anomaly.tar.gz"

_FEWEST_FRAUDS: Final = 10
_QUANTILES: Final = (0.5, 0.9, 0.95, 0.99, 0.995, 0.999)
# The usual cut-off of a random cut forest: "Interpret the results", SageMaker RCF in the
# Amazon SageMaker AI developer guide.
_DEVIATIONS: Final = 3.0


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """
    How to train.

    The newest ``validation_share`` of the time validates. ``decline_precision``
    is the share of declines that must have been frauds in validation,
    ``anomaly_share`` the share of transactions that the anomaly score alone may
    send to review, None to begin at three standard deviations above the mean. Above
    ``max_rows`` training rows, legitimate ones are thinned out and weighted up, so that
    probabilities keep their meaning.
    """

    seed: int = 1
    trees: int = 300
    depth: int = 6
    learning_rate: float = 0.1
    patience: int = 30
    threads: int = 2
    validation_share: float = 0.25
    decline_precision: float = 0.9
    anomaly_share: float | None = 0.005
    anomaly_rows: int = 10_000
    max_rows: int = 200_000
    forest_trees: int = TREES
    forest_tree_size: int = TREE_SIZE


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Measured values for the settings of the same names under ``decision``."""

    fraud_review: float
    fraud_decline: float
    anomaly_review: float


@dataclass(frozen=True, slots=True)
class Trained:
    """Two archives, what was measured about each model, and thresholds to decide by."""

    fraud: Path
    anomaly: Path
    fraud_metrics: Mapping[str, object]
    anomaly_metrics: Mapping[str, object]
    thresholds: Thresholds


@dataclass(frozen=True, slots=True)
class _Split:
    rows: npt.NDArray[np.float32]
    fraud: npt.NDArray[np.bool_]


def train(dataset: Dataset, folder: Path, settings: TrainingSettings) -> Trained:
    """
    Train both models and write their archives into *folder*.

    Raises Misconfigured when either part of the time holds too few frauds to
    learn from or to measure by. About 10 seconds for 120,000 rows on two cores.
    """
    learning, validation = _divide(dataset, settings.validation_share)
    names, plan_hash = dataset.names, dataset.feature_hash

    booster = _boost(learning, validation, settings)
    scores = np.asarray(booster.inplace_predict(validation.rows), np.float64)
    review, decline = choose_fraud_thresholds(
        validation.fraud, scores, decline_precision=settings.decline_precision
    )
    fraud_metrics = _measure(validation, scores) | {
        "trees": booster.num_boosted_rounds(),
        "training_rows": len(learning.rows),
        "training_frauds": int(learning.fraud.sum()),
        "seed": settings.seed,
        "thresholds": {"fraud_review": review, "fraud_decline": decline},
        "score_quantiles": _quantiles(scores),
        BINS: count_bins(names, learning.rows) | count_bins(["score_fraud"], scores[:, None]),
    }
    write_fraud(folder / FRAUD_ARCHIVE, booster, names, plan_hash, fraud_metrics)

    forest = grow(
        learning.rows,
        seed=settings.seed,
        trees=settings.forest_trees,
        tree_size=settings.forest_tree_size,
    )
    sample = _sample(validation, settings.anomaly_rows)
    anomalies = forest.score(sample.rows)
    anomaly_review = choose_anomaly_threshold(anomalies, settings.anomaly_share)
    anomaly_metrics = _measure(sample, anomalies) | {
        "mean": float(anomalies.mean()),
        "standard_deviation": float(anomalies.std()),
        "highest": float(anomalies.max()),
        "training_rows": min(len(learning.rows), settings.forest_trees * settings.forest_tree_size),
        "seed": settings.seed,
        "thresholds": {"anomaly_review": anomaly_review},
        "score_quantiles": _quantiles(anomalies),
        BINS: count_bins(["score_anomaly"], anomalies[:, None]),
    }
    write_anomaly(folder / ANOMALY_ARCHIVE, forest, names, plan_hash, anomaly_metrics)
    return Trained(
        folder / FRAUD_ARCHIVE,
        folder / ANOMALY_ARCHIVE,
        fraud_metrics,
        anomaly_metrics,
        Thresholds(review, decline, anomaly_review),
    )


def choose_fraud_thresholds(
    fraud: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64], *, decline_precision: float
) -> tuple[float, float]:
    """
    Return the scores from which on to review and to decline, review ≤ decline.

    Decline from the lowest score at and above which at least *decline_precision*
    of the rows are frauds; from 1.0 when there is none. Review from the score
    that gives the best F1, the harmonic mean of precision and recall.
    """
    precision, recall, thresholds = precision_recall_curve(fraud, scores)
    precision, recall = precision[:-1], recall[:-1]
    precise = np.flatnonzero(precision >= decline_precision)
    decline = float(thresholds[precise[0]]) if len(precise) else 1.0
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    review = float(thresholds[int(np.argmax(f1))])
    return min(review, decline), decline


def choose_anomaly_threshold(scores: npt.NDArray[np.float64], share: float | None) -> float:
    """
    Return the score from which on to review: that which *share* of the rows exceed.

    Without a share it is the mean plus three standard deviations, which on scores with a
    long tail sends more to review.
    """
    if share is None:
        return float(scores.mean() + _DEVIATIONS * scores.std())
    return float(np.quantile(scores, 1 - share))


def _quantiles(scores: npt.NDArray[np.float64]) -> dict[str, float]:
    return {f"{share:g}": float(np.quantile(scores, share)) for share in _QUANTILES}


def _divide(dataset: Dataset, validation_share: float) -> tuple[_Split, _Split]:
    """Cut *dataset* at a moment in time, so that equal times stay together."""
    times = dataset.times_s
    if not len(times):
        raise _too_little("no rows old enough to have their label")
    border_s = times[0] + (times[-1] - times[0]) * (1 - validation_share)
    border = int(np.searchsorted(times, border_s, side="right"))
    parts = [
        _Split(dataset.rows[chosen], dataset.fraud[chosen])
        for chosen in (slice(None, border), slice(border, None))
    ]
    for part, purpose in zip(parts, ("training", "validation"), strict=True):
        frauds = int(part.fraud.sum())
        if frauds < _FEWEST_FRAUDS:
            raise _too_little(f"{len(part.fraud)} {purpose} rows with {frauds} known frauds")
    return parts[0], parts[1]


def _boost(learning: _Split, validation: _Split, settings: TrainingSettings) -> xgboost.Booster:
    """
    Fit the classifier, cut to the trees that helped in validation.

    Log loss stops it, not a ranking measure: ranking can be at its best while
    the scores still lie far above the true probabilities, which thresholds and
    people take them for. ``base_score`` is given because XGBoost 3 otherwise
    starts from the share of frauds and ends at a lower average precision.
    """
    rows, fraud, weights = _thin_out(learning, settings)
    parameters = {
        "objective": "binary:logistic",
        "eval_metric": "logloss",
        "tree_method": "hist",
        "base_score": 0.5,
        "max_depth": settings.depth,
        "eta": settings.learning_rate,
        "min_child_weight": 2,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "seed": settings.seed,
        "nthread": settings.threads,
    }
    booster = xgboost.train(
        parameters,
        xgboost.DMatrix(rows, fraud, weight=weights, nthread=settings.threads),
        num_boost_round=settings.trees,
        evals=[(xgboost.DMatrix(validation.rows, validation.fraud), "validation")],
        early_stopping_rounds=settings.patience,
        verbose_eval=False,
    )
    # Cut here, because a container that loads the booster knows nothing of its best round.
    return booster[: booster.best_iteration + 1]


def _thin_out(
    learning: _Split, settings: TrainingSettings
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    """All frauds and a seeded sample of the legitimate rows, weighted to stand for all."""
    legitimate = np.flatnonzero(~learning.fraud)
    kept = min(len(legitimate), max(settings.max_rows - int(learning.fraud.sum()), 1))
    chosen = learning.fraud.copy()
    chosen[np.random.default_rng(settings.seed).choice(legitimate, kept, replace=False)] = True
    weights = np.where(learning.fraud, 1.0, len(legitimate) / kept).astype(np.float32)
    return learning.rows[chosen], learning.fraud[chosen], weights[chosen]


def _sample(split: _Split, rows: int) -> _Split:
    """At most *rows* of *split*, evenly over its time: the forest takes 100 µs for each."""
    chosen = np.linspace(0, len(split.rows) - 1, min(rows, len(split.rows))).astype(np.int64)
    return _Split(split.rows[chosen], split.fraud[chosen])


def _measure(split: _Split, scores: npt.NDArray[np.float64]) -> dict[str, object]:
    """Ranking quality on *split*; None without both kinds of rows."""
    frauds = int(split.fraud.sum())
    both = 0 < frauds < len(split.fraud)
    return {
        "roc_auc": float(roc_auc_score(split.fraud, scores)) if both else None,
        "average_precision": float(average_precision_score(split.fraud, scores)) if both else None,
        "validation_rows": len(split.fraud),
        "validation_frauds": frauds,
    }


def _too_little(found: str) -> Misconfigured:
    expected = f"at least {_FEWEST_FRAUDS} known frauds in each part; a longer history has more"
    return Misconfigured([Problem("training", "history", found, expected)])
