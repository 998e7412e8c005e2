"""
What a training job is given, and what is made of its model.

Rows are chosen, weighted and split exactly as they are for a model that is trained here, and
a booster that comes back is calibrated and measured here: its archive differs from one that
was trained here in who grew the trees, and in nothing else.
"""

import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import xgboost

import consumer
from consumer.deployment.jobs import check_forest
from consumer.errors import Misconfigured, Problem
from consumer.training.anomaly import front_of
from consumer.training.artefacts import load_anomaly, write_fraud
from consumer.training.bins import BINS, count_bins
from consumer.training.classifier import calibrate, matrix_of, parameters_of
from consumer.training.examples import Part
from consumer.training.lesson import Lesson
from consumer.training.measures import (
    at_thresholds,
    choose_fraud_thresholds,
    quantiles,
    ranking,
)
from consumer.training.recalibration import apply_line
from consumer.training.scaling import Scaling
from consumer.training.settings import TrainingSettings

_MODEL: Final = "xgboost-model"
# The instance decides how many threads there are.
_OURS: Final = frozenset({"nthread"})


def weighted(lesson: Lesson) -> Part:
    """The training rows with the weights that balance gives them. Raises Misconfigured."""
    settings = lesson.settings
    if settings.classifier.balance == "measure":
        expected = "none, roots or weights: a job trains one model (fraudstream train measures)"
        raise Misconfigured([Problem("training", "classifier.balance", "measure", expected)])
    part = lesson.learning
    weights = matrix_of(part, settings, settings.classifier).get_weight().astype(np.float32)
    return Part(
        part.period,
        part.rows,
        part.fraud,
        part.times_ms,
        part.label_times_ms,
        weights,
        part.late,
    )


def hyperparameters_of(settings: TrainingSettings) -> dict[str, str]:
    """What the built-in XGBoost is told, in texts as SageMaker wants them."""
    told = parameters_of(settings, settings.classifier)
    return {
        **{key: str(value) for key, value in told.items() if key not in _OURS},
        "num_round": str(settings.classifier.rounds),
        "early_stopping_rounds": str(settings.classifier.patience),
        "csv_weights": "1",
    }


def forest_hyperparameters(settings: TrainingSettings, inputs: int) -> dict[str, str]:
    """What Random Cut Forest is told. Raises Misconfigured for what it does not take."""
    wanted = settings.anomaly
    check_forest(wanted.trees, wanted.tree_size)
    return {
        "feature_dim": str(inputs),
        "num_trees": str(wanted.trees),
        "num_samples_per_tree": str(wanted.tree_size),
    }


def scaling_of(lesson: Lesson, like: Path | None) -> Scaling:
    """
    What the forest's inputs are: those of the archive *like*, or as the settings say.

    Raises Misconfigured for an archive of other features, and where they are to be measured.
    """
    names, wanted = lesson.examples.names, lesson.settings.anomaly
    if like is not None:
        model = load_anomaly(like)
        if model.feature_names != names:
            expected = "a forest of the features of the data set"
            raise Misconfigured([Problem(str(like), "features", "others", expected)])
        return model.forest.scaling
    if wanted.shape == "measure":
        expected = "standard, log, rank or none, or --like ARCHIVE of a forest trained here"
        raise Misconfigured([Problem("training", "anomaly.shape", "measure", expected)])
    return front_of(lesson.learning.rows, names, wanted, wanted.shape)


def read_booster(archive: Path) -> xgboost.Booster:
    """Load the booster in the model.tar.gz of a training job. Raises Misconfigured."""
    try:
        with tarfile.open(archive, "r:gz") as packed:
            member = packed.extractfile(_MODEL)
            assert member is not None
            booster = xgboost.Booster(model_file=bytearray(member.read()))
    except (OSError, EOFError, KeyError, AssertionError, tarfile.TarError) as error:
        found, expected = f"{type(error).__name__}: {error}", f"a plain file {_MODEL}"
        raise Misconfigured([Problem(str(archive), "model.tar.gz", found, expected)]) from error
    except xgboost.core.XGBoostError as error:
        expected = "a booster that this version of XGBoost reads"
        raise Misconfigured([Problem(str(archive), _MODEL, "no such thing", expected)]) from error
    booster.set_param({"nthread": 1})
    return booster


def write_archive(
    path: Path, booster: xgboost.Booster, lesson: Lesson, job: Mapping[str, object]
) -> dict[str, object]:
    """
    Calibrate and measure *booster* on validation and write it as the archive *path*.

    *job* is what is kept of the training job. Returns the metrics. Raises Misconfigured
    where it has another number of features than the rows.
    """
    names, settings = lesson.examples.names, lesson.settings
    if booster.num_features() != len(names):
        found, expected = f"{booster.num_features()} features", f"{len(names)}, as the rows have"
        raise Misconfigured([Problem("the model of the job", "features", found, expected)])
    validation = lesson.validation
    line, calibration = calibrate(booster, validation, settings.classifier)
    served = booster if line is None else apply_line(booster, line)
    scores = np.asarray(served.inplace_predict(validation.rows), np.float64)
    review, decline = choose_fraud_thresholds(
        validation.fraud,
        scores,
        decline_precision=settings.classifier.decline_precision,
        weights=validation.weights,
    )
    thresholds = {"fraud_review": review, "fraud_decline": decline}
    metrics = {
        "thresholds": thresholds,
        **ranking(validation.fraud, scores, validation.weights),
        "at_thresholds": at_thresholds(validation.fraud, scores, thresholds, validation.weights),
        "validation_rows": validation.total,
        "validation_frauds": validation.frauds,
        "training_rows": lesson.learning.total,
        "training_frauds": lesson.learning.frauds,
        "trees": served.num_boosted_rounds(),
        "seed": settings.seed,
        "calibration": calibration,
        "score_quantiles": quantiles(scores, validation.weights),
        BINS: count_bins(names, lesson.learning.rows)
        | count_bins(["score_fraud"], scores[:, None]),
    }
    versions = {"fraudstream": consumer.__version__, "xgboost": xgboost.__version__}
    origin = {**lesson.describe_origin(versions), "job": dict(job)}
    write_fraud(path, served, names, lesson.examples.feature_hash, metrics, origin)
    return metrics
