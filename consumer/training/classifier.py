"""
The classifier: boosted trees, stopped by validation, whose scores are probabilities.

Average precision stops it by default, which is what a fraud team sees of it: the precision
of what it flags, over all cut-offs. The scores are brought back to probabilities afterwards.
``base_score`` is given because XGBoost 3 otherwise starts from the share of frauds and ends at
a lower average precision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xgboost
from sklearn.metrics import average_precision_score, log_loss

from consumer.training.examples import Part
from consumer.training.recalibration import Line, apply_line, fit_line
from consumer.training.settings import ClassifierSettings, TrainingSettings

Say = Callable[[str], None]

BALANCES: Final = ("none", "roots", "weights")

_METRICS: Final = {"average_precision": "aucpr", "log_loss": "logloss"}
_TOLD_ROUNDS: Final = 50


@dataclass(frozen=True, slots=True)
class Fitted:
    """A booster cut to the rounds that helped, and the average precision there."""

    booster: xgboost.Booster
    rounds: int
    average_precision: float


@dataclass(frozen=True, slots=True)
class Classifier:
    """The booster to serve, and how it came about, for the metrics."""

    booster: xgboost.Booster
    rounds: int
    facts: Mapping[str, object]


def quiet(_: str) -> None:
    """Say nothing."""


def fit_classifier(
    learning: Part, validation: Part, settings: TrainingSettings, say: Say = quiet
) -> Classifier:
    """Fit, choosing the balance where that is asked for, and calibrate."""
    wanted = settings.classifier
    balances = BALANCES if wanted.balance == "measure" else (wanted.balance,)
    tried = {}
    for balance in balances:
        chosen = wanted.model_copy(update={"balance": balance})
        tried[balance] = fit_rounds(
            learning, [validation], settings.model_copy(update={"classifier": chosen}), say
        )
        say(f"balance {balance}: {_told(tried[balance])}")
    best = max(tried, key=lambda balance: tried[balance].average_precision)
    fitted = tried[best]
    facts: dict[str, object] = {
        "balance": best,
        "balances": {name: each.average_precision for name, each in tried.items()},
        "stopped_on": wanted.stop_on,
    }
    line, calibration = calibrate(fitted.booster, validation, wanted)
    booster = apply_line(fitted.booster, line or Line())
    return Classifier(booster, fitted.rounds, {**facts, "calibration": calibration})


def refit(
    known: Part, fitted: Classifier, settings: TrainingSettings, say: Say = quiet
) -> Classifier:
    """
    Fit again on *known*, with the rounds, the balance and the calibration that were found.

    What was measured is of the model before, which knew less.
    """
    chosen = settings.classifier.model_copy(update={"balance": fitted.facts["balance"]})
    booster = fit_all(known, settings, chosen, fitted.rounds, say)
    calibration: Any = fitted.facts["calibration"]
    line = Line(calibration.get("slope", 1.0), calibration.get("intercept", 0.0))
    return Classifier(
        apply_line(booster, line), fitted.rounds, {**fitted.facts, "refit_rows": known.total}
    )


def fit_all(
    known: Part,
    settings: TrainingSettings,
    chosen: ClassifierSettings,
    rounds: int,
    say: Say = quiet,
) -> xgboost.Booster:
    """Fit so many rounds on all of *known*, for when earlier data have said how many."""
    say(f"{rounds} rounds on {len(known.rows):,} rows")
    return xgboost.train(
        parameters_of(settings, chosen),
        matrix_of(known, settings, chosen),
        num_boost_round=rounds,
        verbose_eval=False,
    )


def fit_rounds(
    learning: Part, validations: Sequence[Part], settings: TrainingSettings, say: Say = quiet
) -> Fitted:
    """Fit on *learning* until the last of *validations* improves no more."""
    wanted = settings.classifier
    training = matrix_of(learning, settings, wanted)
    watched = [
        (matrix_of(part, settings, None, training), f"validation_{number}")
        for number, part in enumerate(validations)
    ]
    return boost(training, watched, settings, say)


def boost(
    training: xgboost.DMatrix,
    watched: Sequence[tuple[xgboost.DMatrix, str]],
    settings: TrainingSettings,
    say: Say,
) -> Fitted:
    """Boost on matrices that were built, until the last of the *watched* improves no more."""
    wanted = settings.classifier
    booster = xgboost.train(
        parameters_of(settings, wanted),
        training,
        num_boost_round=wanted.rounds,
        evals=list(watched),
        early_stopping_rounds=wanted.patience,
        verbose_eval=False,
        callbacks=[_Told(say)],
    )
    # Cut here, because a container that loads the booster knows nothing of its best round.
    cut = booster[: booster.best_iteration + 1]
    matrix = watched[-1][0]
    scores = cut.predict(matrix)
    weights = matrix.get_weight()
    precision = average_precision_score(
        matrix.get_label(), scores, sample_weight=weights if len(weights) else None
    )
    return Fitted(cut, cut.num_boosted_rounds(), float(precision))


def parameters_of(settings: TrainingSettings, chosen: ClassifierSettings) -> dict[str, Any]:
    """Return what XGBoost is given."""
    return {
        "objective": "binary:logistic",
        "eval_metric": _METRICS[chosen.stop_on],
        "tree_method": "hist",
        "base_score": 0.5,
        "max_depth": chosen.depth,
        "eta": chosen.learning_rate,
        "min_child_weight": chosen.min_child_weight,
        "subsample": chosen.subsample,
        "colsample_bytree": chosen.column_share,
        "lambda": chosen.penalty,
        "seed": settings.seed,
        "nthread": settings.threads,
        **chosen.parameters,
    }


def matrix_of(
    part: Part,
    settings: TrainingSettings,
    balanced: ClassifierSettings | None,
    like: xgboost.DMatrix | None = None,
) -> xgboost.DMatrix:
    """
    Build the matrix of *part*, of a byte a value for histograms.

    Frauds are weighted where *balanced*; *like* is the matrix whose bins it shares.
    """
    parameters = settings.classifier.parameters
    weights = part.weights if balanced is None else part.weights * _balance(part, balanced)
    if parameters.get("tree_method", "hist") not in {"hist", "auto"}:
        return xgboost.DMatrix(part.rows, part.fraud, weight=weights, nthread=settings.threads)
    return xgboost.QuantileDMatrix(
        part.rows,
        part.fraud,
        weight=weights,
        nthread=settings.threads,
        max_bin=int(parameters.get("max_bin", 256)),
        ref=like,
    )


def calibrate(
    booster: xgboost.Booster, validation: Part, wanted: ClassifierSettings
) -> tuple[Line | None, dict[str, object]]:
    """Return the line to put into *booster*, and what it does to the log loss in validation."""
    margins = margins_of(booster, validation.rows)
    before = _log_loss(margins, validation)
    line = fit_line(margins, validation.fraud, validation.weights) if wanted.calibrate else None
    if line is None:
        return None, {"method": "none", "log_loss": before}
    after = _log_loss(line.slope * margins + line.intercept, validation)
    return line, {
        "method": "platt",
        "slope": line.slope,
        "intercept": line.intercept,
        "log_loss_before": before,
        "log_loss": after,
    }


def margins_of(booster: xgboost.Booster, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the log-odds of *rows*."""
    return np.asarray(booster.inplace_predict(rows, predict_type="margin"), np.float64)


def _balance(part: Part, chosen: ClassifierSettings) -> npt.NDArray[np.float32]:
    frauds = max(part.frauds, 1)
    times = {"weights": 1.0, "roots": 0.5}.get(chosen.balance, 0.0)
    factor = ((part.total - frauds) / frauds) ** times
    return np.where(part.fraud, max(factor, 1.0), 1.0).astype(np.float32)


def _log_loss(margins: npt.NDArray[np.float64], part: Part) -> float:
    scores = 1 / (1 + np.exp(-margins))
    return float(log_loss(part.fraud, scores, sample_weight=part.weights, labels=[False, True]))


def _told(fitted: Fitted) -> str:
    return f"average precision {fitted.average_precision:.4f} after {fitted.rounds} rounds"


class _Told(xgboost.callback.TrainingCallback):
    """Tells of the measure now and then."""

    def __init__(self, say: Say) -> None:
        super().__init__()
        self._say = say

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """Tell, and go on."""
        del model
        if (epoch + 1) % _TOLD_ROUNDS == 0 and evals_log:
            metric, values = list(list(evals_log.values())[-1].items())[-1]
            self._say(f"round {epoch + 1}: validation {metric} {values[-1]:.4f}")
        return False
