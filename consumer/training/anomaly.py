"""
The anomaly model: a random cut forest whose inputs are shaped by measurement.

A forest learns nothing from labels, so validation may choose what the features go through
without the forest having seen a label.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from consumer.errors import Misconfigured, Problem
from consumer.training.classifier import Say, quiet
from consumer.training.examples import Part
from consumer.training.forest import Forest, grow
from consumer.training.scaling import SHAPES, Scaling, Shape, fit
from consumer.training.settings import AnomalySettings, TrainingSettings
from consumer.yaml_document import expect_key

_MOST_FRAUDS = 2_000


@dataclass(frozen=True, slots=True)
class Sample:
    """
    Rows to score, which stand for more: all frauds, and legitimate rows evenly over the time.

    ``rows`` has shape (k, d), ``fraud`` and ``weights`` (k,).
    """

    rows: npt.NDArray[np.float32]
    fraud: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Grown:
    """The forest to serve, the sample's scores, and what each shape reached."""

    forest: Forest
    scores: npt.NDArray[np.float64]
    facts: Mapping[str, object]


def fit_forest(
    learning: Part,
    sample: Sample,
    names: tuple[str, ...],
    settings: TrainingSettings,
    say: Say = quiet,
) -> Grown:
    """
    Grow a forest a shape that is asked for, and keep the one that ranks *sample* best.

    About 5 seconds a forest of the usual size and 10,000 rows. Raises Misconfigured for a
    feature in the settings that there is none of.
    """
    wanted = settings.anomaly
    check_names(wanted, names)
    rows = _as_common(learning, settings.seed)
    shapes = SHAPES if wanted.shape == "measure" else (wanted.shape,)
    best: Grown | None = None
    reached: dict[str, float] = {}
    for shape in shapes:
        forest = grow(
            rows,
            seed=settings.seed,
            trees=wanted.trees,
            tree_size=wanted.tree_size,
            scaling=front_of(rows, names, wanted, shape),
        )
        scores = forest.score(sample.rows)
        reached[shape] = _precision(sample, scores)
        say(f"forest on shape {shape}: average precision {reached[shape]:.4f}")
        if best is None or reached[shape] > reached[str(best.facts["shape"])]:
            best = Grown(forest, scores, {"shape": shape})
    assert best is not None
    used = [names[column.at] for column in best.forest.scaling.columns]
    facts = {**best.facts, "shapes": reached, "inputs": used}
    return Grown(best.forest, best.scores, facts)


def front_of(
    rows: npt.NDArray[np.float32], names: tuple[str, ...], wanted: AnomalySettings, shape: Shape
) -> Scaling:
    """Fit what stands in front of the trees: *shape*, where the settings name no other."""
    place = {name: at for at, name in enumerate(names)}
    return fit(
        rows,
        {at: wanted.shapes.get(name, shape) for name, at in place.items()},
        columns=[place[name] for name in wanted.columns] or None,
        weights={place[name]: weight for name, weight in wanted.weights.items()},
    )


def take_sample(part: Part, rows: int) -> Sample:
    """Take the frauds of *part* and at most *rows* of the legitimate: 100 µs each to score."""
    frauds = _evenly(np.flatnonzero(part.fraud), _MOST_FRAUDS)
    legitimate = _evenly(np.flatnonzero(~part.fraud), rows)
    stand_for = (
        (part.frauds, len(frauds)),
        (part.total - part.frauds, len(legitimate)),
    )
    weights = np.concatenate(
        [np.full(kept, total / max(kept, 1), np.float32) for total, kept in stand_for]
    )
    chosen = np.concatenate([frauds, legitimate])
    return Sample(part.rows[chosen], part.fraud[chosen], weights)


def check_names(wanted: AnomalySettings, names: tuple[str, ...]) -> None:
    """Raise Misconfigured for every feature that the settings name and *names* do not."""
    keys = {"columns": wanted.columns, "shapes": wanted.shapes, "weights": wanted.weights}
    problems = [
        Problem("training", f"anomaly.{key}", name, expect_key(name, names))
        for key, asked in keys.items()
        for name in asked
        if name not in names
    ]
    if problems:
        raise Misconfigured(problems)


def _as_common(learning: Part, seed: int) -> npt.NDArray[np.float32]:
    """Rows in which frauds are as rare as they were before legitimate rows were thinned out."""
    highest = float(learning.weights.max(initial=1.0))
    kept = np.random.default_rng(seed).random(len(learning.rows)) * highest < learning.weights
    return learning.rows[kept]


def _evenly(places: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    if len(places) <= most:
        return places
    return places[np.linspace(0, len(places) - 1, most).astype(np.int64)]


def _precision(sample: Sample, scores: npt.NDArray[np.float64]) -> float:
    return float(average_precision_score(sample.fraud, scores, sample_weight=sample.weights))
