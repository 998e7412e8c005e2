"""
A small search over the hyperparameters of the classifier, by folds in order of time.

Every fold trains on what lies before a gap and measures on what lies after it, all of it
inside the training part, so that validation stays unseen. Tries are drawn at random (Bergstra
and Bengio, Random Search for Hyper-Parameter Optimization, 2012) after the settings' own.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xgboost

from consumer.errors import Misconfigured, Problem
from consumer.training.classifier import Say, boost, matrix_of
from consumer.training.examples import Part
from consumer.training.settings import ClassifierSettings, TrainingSettings
from consumer.training.split import Period

_FEWEST_FRAUDS = 10
# Pieces of the training time that no fold measures on, so that the first has enough to learn.
_HEAD = 2


@dataclass(frozen=True, slots=True)
class Fold:
    """What to learn from, and the later piece to measure by."""

    learning: Part
    validation: Part


@dataclass(frozen=True, slots=True)
class Found:
    """The settings that won, and all tries for the metrics."""

    classifier: ClassifierSettings
    table: list[dict[str, object]]
    folds: list[dict[str, object]]


def search(
    learning: Part,
    settings: TrainingSettings,
    say: Say,
    now_s: Callable[[], float] = time.monotonic,
) -> Found:
    """
    Try hyperparameters on folds of *learning*.

    Says its budget before it begins and what is left after each try. Raises Misconfigured
    where a fold holds too few frauds.
    """
    folds = build_folds(learning, settings)
    matrices = [_matrices(fold, settings) for fold in folds]
    tries = draw(settings)
    most = settings.classifier.rounds
    say(f"search: {len(tries)} tries on {len(folds)} folds, at most {most} rounds each")
    table: list[dict[str, object]] = []
    begun = now_s()
    best, best_score = tries[0], -1.0
    for number, chosen in enumerate(tries, start=1):
        changed = settings.model_copy(update={"classifier": chosen})
        fits = [boost(train, [(later, "later")], changed, _unsaid) for train, later in matrices]
        score = float(np.mean([fit.average_precision for fit in fits]))
        rounds = [fit.rounds for fit in fits]
        table.append(
            {
                **_searched(chosen),
                "average_precision": score,
                "by_fold": [fit.average_precision for fit in fits],
                "rounds": rounds,
            }
        )
        if score > best_score:
            best, best_score = chosen, score
        left_s = (now_s() - begun) / number * (len(tries) - number)
        say(
            f"search: try {number} of {len(tries)}: average precision {score:.4f}, "
            f"best {best_score:.4f}; about {left_s:.0f} s left"
        )
    return Found(best, table, [_told(fold) for fold in folds])


def draw(settings: TrainingSettings) -> list[ClassifierSettings]:
    """Return the settings' own values first, then what the seed draws."""
    random = np.random.default_rng(settings.seed)
    own = settings.classifier
    if own.balance == "measure":
        own = own.model_copy(update={"balance": "none"})
    return [own, *(_draw_one(random, own) for _ in range(settings.search.tries - 1))]


def _draw_one(random: np.random.Generator, own: ClassifierSettings) -> ClassifierSettings:
    def between(low: float, high: float) -> float:
        """Draw so that every doubling is as likely as the next."""
        return float(np.exp(random.uniform(np.log(low), np.log(high))))

    return own.model_copy(
        update={
            "depth": int(random.integers(3, 10)),
            "learning_rate": round(between(0.02, 0.3), 4),
            "min_child_weight": round(between(0.5, 30), 2),
            "subsample": round(float(random.uniform(0.5, 1)), 2),
            "column_share": round(float(random.uniform(0.3, 1)), 2),
            "penalty": round(between(0.1, 30), 2),
        }
    )


def build_folds(learning: Part, settings: TrainingSettings) -> list[Fold]:
    """
    Cut the time of *learning*: each fold measures on one more piece from its end.

    Raises Misconfigured where a piece holds too few frauds to measure by.
    """
    period, gap_ms = learning.period, settings.split.gap * 1000
    count = settings.search.folds
    piece_ms = (period.end_ms - period.first_ms - gap_ms) // (count + _HEAD)
    folds = []
    for number in range(count, 0, -1):
        first = period.end_ms - number * piece_ms
        earlier, later = Period(period.first_ms, first - gap_ms), Period(first, first + piece_ms)
        known_ms = later.end_ms + gap_ms
        fold = Fold(learning.cut(earlier, first), learning.cut(later, known_ms))
        _check(fold, settings)
        folds.append(fold)
    return folds


def _check(fold: Fold, settings: TrainingSettings) -> None:
    for part, purpose in ((fold.learning, "training"), (fold.validation, "measuring")):
        if part.frauds < _FEWEST_FRAUDS:
            found = f"{part.frauds} known frauds for {purpose} in a fold from {part.period}"
            expected = f"at least {_FEWEST_FRAUDS}: fewer folds than {settings.search.folds}, or "
            expected += "a longer history"
            raise Misconfigured([Problem("training", "search.folds", found, expected)])


def _matrices(fold: Fold, settings: TrainingSettings) -> tuple[xgboost.DMatrix, xgboost.DMatrix]:
    own = settings.classifier
    balance = "none" if own.balance == "measure" else own.balance
    training = matrix_of(fold.learning, settings, own.model_copy(update={"balance": balance}))
    return training, matrix_of(fold.validation, settings, None, training)


def _searched(chosen: ClassifierSettings) -> dict[str, object]:
    names = ("depth", "learning_rate", "min_child_weight", "subsample", "column_share", "penalty")
    return {name: getattr(chosen, name) for name in names}


def _told(fold: Fold) -> dict[str, object]:
    return {
        "train": str(fold.learning.period),
        "train_rows": fold.learning.total,
        "train_frauds": fold.learning.frauds,
        "measured": str(fold.validation.period),
        "measured_rows": fold.validation.total,
        "measured_frauds": fold.validation.frauds,
    }


def _unsaid(_: str) -> None:
    """A fold is told of as a whole."""
