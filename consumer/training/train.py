"""
Both models out of labelled rows, with the thresholds to decide by.

Validation lies after training and a gap: it stops the boosting, and thresholds are measured
on it. Nothing is drawn at random across time, because a model that saw next week's frauds
would look better than it is. The same rows, settings and seed give the same archives, byte
for byte.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

import consumer
from consumer.training.anomaly import Sample, fit_forest, take_sample
from consumer.training.archive import Kind
from consumer.training.artefacts import write_anomaly, write_fraud
from consumer.training.bins import BINS, count_bins
from consumer.training.classifier import Say, fit_classifier, quiet, refit
from consumer.training.doubts import find_doubts
from consumer.training.examples import Examples
from consumer.training.lesson import Lesson, prepare
from consumer.training.measures import (
    at_thresholds,
    choose_anomaly_threshold,
    choose_fraud_thresholds,
    quantiles,
    ranking,
)
from consumer.training.search import search
from consumer.training.settings import TrainingSettings
from consumer.training.split import usable

FRAUD_ARCHIVE: Final = "fraud.tar.gz"
ANOMALY_ARCHIVE: Final = "anomaly.tar.gz"

# Labels that come late are no error; so many of them are a gap that is too short.
_LATE: Final = 0.1
_LIBRARIES: Final = ("xgboost-cpu", "krcf", "numpy", "scikit-learn")

Metrics = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Measured values for the settings of the same names under ``decision``."""

    fraud_review: float
    fraud_decline: float
    anomaly_review: float


@dataclass(frozen=True, slots=True)
class Trained:
    """The archives that were written, what was measured about each, and what to look at."""

    archives: Mapping[Kind, Path]
    metrics: Mapping[Kind, Metrics]
    split: Mapping[str, Any]
    warnings: tuple[str, ...]

    @property
    def fraud(self) -> Path:
        """The archive of the classifier. Raises KeyError where none was asked for."""
        return self.archives["fraud"]

    @property
    def anomaly(self) -> Path:
        """The archive of the forest. Raises KeyError where none was asked for."""
        return self.archives["anomaly"]

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of both models. Raises KeyError where one was not asked for."""
        found = self.metrics["fraud"]["thresholds"] | self.metrics["anomaly"]["thresholds"]
        return Thresholds(**found)


@dataclass(frozen=True, slots=True)
class _Work:
    """What both models are made from, and who hears of it."""

    lesson: Lesson
    say: Say


def train(
    examples: Examples, folder: Path, settings: TrainingSettings, say: Say = quiet
) -> Trained:
    """
    Train the models that *settings* ask for and write their archives into *folder*.

    Raises Misconfigured when a part of the time holds too few frauds to learn from or to
    measure by, for rows that are no numbers, and for features in the settings that are not
    there. About 40 seconds for 120,000 rows on two cores.
    """
    lesson = prepare(examples, settings)
    for part, purpose in ((lesson.learning, "training"), (lesson.validation, "validation")):
        say(f"{purpose}: {part.total:,} rows with {part.frauds:,} frauds, {part.period}")
    warnings = (*_late_labels(lesson), *find_doubts(lesson.learning, examples.names))
    for warning in warnings:
        say(f"warning: {warning}")
    versions = {"fraudstream": consumer.__version__} | {n: version(n) for n in _LIBRARIES}
    origin = lesson.describe_origin(versions)
    common: dict[str, object] = {"seed": settings.seed, "warnings": list(warnings)}
    archives: dict[Kind, Path] = {}
    metrics: dict[Kind, Metrics] = {}
    for kind in settings.models:
        name, make = _MODELS[kind]
        archives[kind] = folder / name
        metrics[kind] = make(_Work(lesson, say), archives[kind], common, origin)
        say(f"wrote {archives[kind]}")
    return Trained(archives, metrics, lesson.describe_split(), warnings)


def _late_labels(lesson: Lesson) -> Iterator[str]:
    """Warn where many frauds were not known yet, and so were learnt as legitimate."""
    for part, purpose in ((lesson.learning, "training"), (lesson.validation, "validation")):
        frauds = part.frauds + part.late
        if part.late > _LATE * frauds:
            yield (
                f"{purpose}: {part.late:,} of {frauds:,} frauds were not known yet when it was "
                "used, and count as legitimate; split.gap should be what labels take to arrive"
            )


def _make_fraud(
    work: _Work, path: Path, common: Mapping[str, object], origin: Mapping[str, object]
) -> Metrics:
    lesson = work.lesson
    settings, validation = lesson.settings, lesson.validation
    searched: dict[str, object] = {}
    if settings.search.tries:
        found = search(lesson.learning, settings, work.say)
        settings = settings.model_copy(update={"classifier": found.classifier})
        searched = {"search": {"tries": found.table, "folds": found.folds}}
    fitted = fit_classifier(lesson.learning, validation, settings, work.say)
    scores = np.asarray(fitted.booster.inplace_predict(validation.rows), np.float64)
    review, decline = choose_fraud_thresholds(
        validation.fraud,
        scores,
        decline_precision=settings.classifier.decline_precision,
        weights=validation.weights,
    )
    thresholds = {"fraud_review": review, "fraud_decline": decline}
    metrics = {
        **_common(lesson, common, thresholds),
        **ranking(validation.fraud, scores, validation.weights),
        **_test_fraud(lesson, fitted.booster, thresholds),
        **searched,
        "training_rows": lesson.learning.total,
        "training_frauds": lesson.learning.frauds,
        "at_thresholds": at_thresholds(validation.fraud, scores, thresholds, validation.weights),
        "score_quantiles": quantiles(scores, validation.weights),
    }
    if settings.classifier.refit:
        known = lesson.load(
            lesson.split.all_before_test, lesson.split.validated_ms, settings.classifier.max_rows
        )
        fitted = refit(known, fitted, settings, work.say)
    names = lesson.examples.names
    metrics |= {
        "trees": fitted.rounds,
        "parameters": settings.classifier.model_dump(mode="json"),
        **fitted.facts,
        "gain": _gain(fitted.booster, names),
        BINS: count_bins(names, lesson.learning.rows)
        | count_bins(["score_fraud"], scores[:, None]),
    }
    write_fraud(path, fitted.booster, names, lesson.examples.feature_hash, metrics, origin)
    return metrics


def _make_anomaly(
    work: _Work, path: Path, common: Mapping[str, object], origin: Mapping[str, object]
) -> Metrics:
    lesson = work.lesson
    wanted = lesson.settings.anomaly
    sample = take_sample(lesson.validation, wanted.rows)
    names = lesson.examples.names
    grown = fit_forest(lesson.learning, sample, names, lesson.settings, work.say)
    scores, weights = grown.scores, sample.weights
    mean = float(np.average(scores, weights=weights))
    review = choose_anomaly_threshold(scores, wanted.review_share, weights)
    thresholds = {"anomaly_review": review}
    metrics = {
        **_common(lesson, common, thresholds),
        **ranking(sample.fraud, scores, weights),
        **_test_anomaly(lesson, grown.forest.score, thresholds),
        "mean": mean,
        "standard_deviation": float(np.average((scores - mean) ** 2, weights=weights)) ** 0.5,
        "highest": float(scores.max()),
        "scored_rows": len(sample.fraud),
        "training_rows": min(len(lesson.learning.rows), wanted.trees * wanted.tree_size),
        "at_thresholds": at_thresholds(sample.fraud, scores, thresholds, weights),
        "score_quantiles": quantiles(scores, weights),
        **grown.facts,
        BINS: count_bins(["score_anomaly"], scores[~sample.fraud, None]),
    }
    write_anomaly(path, grown.forest, names, lesson.examples.feature_hash, metrics, origin)
    return metrics


_MODELS: Final[Mapping[Kind, Any]] = {
    "fraud": (FRAUD_ARCHIVE, _make_fraud),
    "anomaly": (ANOMALY_ARCHIVE, _make_anomaly),
}


def _common(
    lesson: Lesson, common: Mapping[str, object], thresholds: Mapping[str, float]
) -> dict[str, object]:
    return {
        **common,
        "thresholds": dict(thresholds),
        "validation_rows": lesson.validation.total,
        "validation_frauds": lesson.validation.frauds,
    }


def _test_fraud(lesson: Lesson, booster: Any, thresholds: Mapping[str, float]) -> dict[str, object]:
    """Measure on every row of the test part, with all labels that ever came."""
    if lesson.split.test is None:
        return {}
    index = lesson.examples.index
    chosen = usable(index, lesson.settings.split) & lesson.split.test.holds(index.times_ms)
    scores = np.concatenate(
        [np.asarray(booster.inplace_predict(rows)) for rows in lesson.examples.read(chosen)]
    ).astype(np.float64)
    fraud = index.labels[chosen] == 1
    return {
        "test": {
            "rows": len(fraud),
            "frauds": int(fraud.sum()),
            **ranking(fraud, scores),
            "at_thresholds": at_thresholds(fraud, scores, thresholds),
        }
    }


def _test_anomaly(lesson: Lesson, score: Any, thresholds: Mapping[str, float]) -> dict[str, object]:
    if lesson.split.test is None:
        return {}
    most = lesson.settings.classifier.max_rows
    part = lesson.load(lesson.split.test, np.iinfo(np.int64).max, most)
    sample: Sample = take_sample(part, lesson.settings.anomaly.rows)
    scores = score(sample.rows)
    return {
        "test": {
            "rows": part.total,
            "frauds": part.frauds,
            "scored_rows": len(sample.fraud),
            **ranking(sample.fraud, scores, sample.weights),
            "at_thresholds": at_thresholds(sample.fraud, scores, thresholds, sample.weights),
        }
    }


def _gain(booster: Any, names: tuple[str, ...]) -> dict[str, float]:
    """Return each feature's share of what the splits gained, the largest first."""
    gained = booster.get_score(importance_type="total_gain")
    total = sum(gained.values()) or 1.0
    shares = {names[int(key[1:])]: round(value / total, 6) for key, value in gained.items()}
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))
