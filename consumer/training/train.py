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
from consumer.errors import Misconfigured, Problem
from consumer.training.anomaly import Sample, check_names, fit_forest, take_sample
from consumer.training.archive import Kind
from consumer.training.artefacts import write_anomaly, write_fraud
from consumer.training.bins import BINS, count_bins
from consumer.training.classifier import Say, fit_classifier, quiet, refit
from consumer.training.doubts import find_doubts
from consumer.training.examples import Examples, Limit, Part, load
from consumer.training.measures import (
    at_thresholds,
    choose_anomaly_threshold,
    choose_fraud_thresholds,
    quantiles,
    ranking,
)
from consumer.training.search import search
from consumer.training.settings import TrainingSettings
from consumer.training.split import Period, Split, divide, usable

FRAUD_ARCHIVE: Final = "fraud.tar.gz"
ANOMALY_ARCHIVE: Final = "anomaly.tar.gz"

_FEWEST_FRAUDS: Final = 10
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
    """What both models are made from."""

    examples: Examples
    split: Split
    learning: Part
    validation: Part
    settings: TrainingSettings
    say: Say

    def load(self, period: Period, known_ms: int, rows: int) -> Part:
        chosen = usable(self.examples.index, self.settings.split)
        return load(self.examples, chosen, period, known_ms, Limit(rows, self.settings.seed))


def train(
    examples: Examples, folder: Path, settings: TrainingSettings, say: Say = quiet
) -> Trained:
    """
    Train the models that *settings* ask for and write their archives into *folder*.

    Raises Misconfigured when a part of the time holds too few frauds to learn from or to
    measure by, for rows that are no numbers, and for features in the settings that are not
    there. About 40 seconds for 120,000 rows on two cores.
    """
    check_names(settings.anomaly, examples.names)
    work = _prepare(examples, settings, say)
    warnings = (*_late_labels(work), *find_doubts(work.learning, examples.names))
    for warning in warnings:
        say(f"warning: {warning}")
    split = _describe_split(work)
    origin = {
        "settings": settings.model_dump(mode="json"),
        "split": split,
        "data_sets": examples.describe(),
        "versions": {"fraudstream": consumer.__version__} | {n: version(n) for n in _LIBRARIES},
    }
    common: dict[str, object] = {"seed": settings.seed, "warnings": list(warnings)}
    archives: dict[Kind, Path] = {}
    metrics: dict[Kind, Metrics] = {}
    for kind in settings.models:
        name, make = _MODELS[kind]
        archives[kind] = folder / name
        metrics[kind] = make(work, archives[kind], common, origin)
        say(f"wrote {archives[kind]}")
    return Trained(archives, metrics, split, warnings)


def _prepare(examples: Examples, settings: TrainingSettings, say: Say) -> _Work:
    split = divide(examples.index, settings.split)
    chosen = usable(examples.index, settings.split)
    limit = Limit(settings.classifier.max_rows, settings.seed)
    learning = load(examples, chosen, split.train, split.trained_ms, limit)
    validation = load(examples, chosen, split.validation, split.validated_ms, limit)
    for part, purpose in ((learning, "training"), (validation, "validation")):
        say(f"{purpose}: {part.total:,} rows with {part.frauds:,} frauds, {part.period}")
        if part.frauds < _FEWEST_FRAUDS:
            found = f"{part.total} {purpose} rows with {part.frauds} known frauds, {part.period}"
            expected = f"at least {_FEWEST_FRAUDS} known frauds in each part; a longer history "
            expected += "has more"
            raise Misconfigured([Problem("training", purpose, found, expected)])
    return _Work(examples, split, learning, validation, settings, say)


def _late_labels(work: _Work) -> Iterator[str]:
    """Warn where many frauds were not known yet, and so were learnt as legitimate."""
    for part, purpose in ((work.learning, "training"), (work.validation, "validation")):
        frauds = part.frauds + part.late
        if part.late > _LATE * frauds:
            yield (
                f"{purpose}: {part.late:,} of {frauds:,} frauds were not known yet when it was "
                "used, and count as legitimate; split.gap should be what labels take to arrive"
            )


def _make_fraud(
    work: _Work, path: Path, common: Mapping[str, object], origin: Mapping[str, object]
) -> Metrics:
    settings, validation = work.settings, work.validation
    searched: dict[str, object] = {}
    if settings.search.tries:
        found = search(work.learning, settings, work.say)
        settings = settings.model_copy(update={"classifier": found.classifier})
        searched = {"search": {"tries": found.table, "folds": found.folds}}
    fitted = fit_classifier(work.learning, validation, settings, work.say)
    scores = np.asarray(fitted.booster.inplace_predict(validation.rows), np.float64)
    review, decline = choose_fraud_thresholds(
        validation.fraud,
        scores,
        decline_precision=settings.classifier.decline_precision,
        weights=validation.weights,
    )
    thresholds = {"fraud_review": review, "fraud_decline": decline}
    metrics = {
        **_common(work, common, thresholds),
        **ranking(validation.fraud, scores, validation.weights),
        **_test_fraud(work, fitted.booster, thresholds),
        **searched,
        "training_rows": work.learning.total,
        "training_frauds": work.learning.frauds,
        "at_thresholds": at_thresholds(validation.fraud, scores, thresholds, validation.weights),
        "score_quantiles": quantiles(scores, validation.weights),
    }
    if settings.classifier.refit:
        known = work.load(
            work.split.all_before_test, work.split.validated_ms, settings.classifier.max_rows
        )
        fitted = refit(known, fitted, settings, work.say)
    names = work.examples.names
    metrics |= {
        "trees": fitted.rounds,
        "parameters": settings.classifier.model_dump(mode="json"),
        **fitted.facts,
        "gain": _gain(fitted.booster, names),
        BINS: count_bins(names, work.learning.rows) | count_bins(["score_fraud"], scores[:, None]),
    }
    write_fraud(path, fitted.booster, names, work.examples.feature_hash, metrics, origin)
    return metrics


def _make_anomaly(
    work: _Work, path: Path, common: Mapping[str, object], origin: Mapping[str, object]
) -> Metrics:
    wanted = work.settings.anomaly
    sample = take_sample(work.validation, wanted.rows)
    names = work.examples.names
    grown = fit_forest(work.learning, sample, names, work.settings, work.say)
    scores, weights = grown.scores, sample.weights
    mean = float(np.average(scores, weights=weights))
    review = choose_anomaly_threshold(scores, wanted.review_share, weights)
    thresholds = {"anomaly_review": review}
    metrics = {
        **_common(work, common, thresholds),
        **ranking(sample.fraud, scores, weights),
        **_test_anomaly(work, grown.forest.score, thresholds),
        "mean": mean,
        "standard_deviation": float(np.average((scores - mean) ** 2, weights=weights)) ** 0.5,
        "highest": float(scores.max()),
        "scored_rows": len(sample.fraud),
        "training_rows": min(len(work.learning.rows), wanted.trees * wanted.tree_size),
        "at_thresholds": at_thresholds(sample.fraud, scores, thresholds, weights),
        "score_quantiles": quantiles(scores, weights),
        **grown.facts,
        BINS: count_bins(["score_anomaly"], scores[~sample.fraud, None]),
    }
    write_anomaly(path, grown.forest, names, work.examples.feature_hash, metrics, origin)
    return metrics


_MODELS: Final[Mapping[Kind, Any]] = {
    "fraud": (FRAUD_ARCHIVE, _make_fraud),
    "anomaly": (ANOMALY_ARCHIVE, _make_anomaly),
}


def _common(
    work: _Work, common: Mapping[str, object], thresholds: Mapping[str, float]
) -> dict[str, object]:
    return {
        **common,
        "thresholds": dict(thresholds),
        "validation_rows": work.validation.total,
        "validation_frauds": work.validation.frauds,
    }


def _test_fraud(work: _Work, booster: Any, thresholds: Mapping[str, float]) -> dict[str, object]:
    """Measure on every row of the test part, with all labels that ever came."""
    if work.split.test is None:
        return {}
    index = work.examples.index
    chosen = usable(index, work.settings.split) & work.split.test.holds(index.times_ms)
    scores = np.concatenate(
        [np.asarray(booster.inplace_predict(rows)) for rows in work.examples.read(chosen)]
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


def _test_anomaly(work: _Work, score: Any, thresholds: Mapping[str, float]) -> dict[str, object]:
    if work.split.test is None:
        return {}
    most = work.settings.classifier.max_rows
    part = work.load(work.split.test, np.iinfo(np.int64).max, most)
    sample: Sample = take_sample(part, work.settings.anomaly.rows)
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


def _describe_split(work: _Work) -> dict[str, Any]:
    index, split = work.examples.index, work.split
    chosen = usable(index, work.settings.split)
    described: dict[str, Any] = {
        "rows": len(index.times_ms),
        "without_a_label_yet": int((~chosen).sum()),
    }
    for name, part in (("train", work.learning), ("validation", work.validation)):
        described[name] = {
            "period": str(part.period),
            "rows": part.total,
            "rows_read": len(part.rows),
            "frauds": part.frauds,
            "frauds_not_yet_known": part.late,
        }
    if split.test is not None:
        within = chosen & split.test.holds(index.times_ms)
        described["test"] = {
            "period": str(split.test),
            "rows": int(within.sum()),
            "frauds": int((within & (index.labels == 1)).sum()),
        }
    return described
