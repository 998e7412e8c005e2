"""
What stands between a feature vector and the random cut forest.

A cut falls on a feature with a probability proportional to its range (Guha et al.,
Robust Random Cut Forest Based Anomaly Detection on Streams, ICML 2016): unscaled
seconds or sums of money would take every cut and hide the counts, and one extreme value
stretches the range of its feature until nearly all cuts only part it from the rest. So the
forest sees chosen features, each in a shape that was fitted on the training rows, then
brought to mean 0 and standard deviation 1 and multiplied by a weight, which is its share
of the cuts. On SageMaker the same stands in front of the built-in algorithm, as the first
container of an inference pipeline, which is given the source of this module: it imports
numpy and nothing else that has to be installed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Shape = Literal["none", "standard", "log", "rank"]
"""
``none`` leaves a feature as it is, ``standard`` scales it, ``log`` takes the logarithm of
one more than its size, keeping the sign, and scales that, ``rank`` gives each value the
standard normal quantile of its rank and scales that.
"""

SHAPES: Final[tuple[Shape, ...]] = ("none", "standard", "log", "rank")

_KNOTS: Final = 201


@dataclass(frozen=True)
class Column:
    """
    One input of the forest: the feature at place ``at`` of the vector, and its shape.

    The value is shaped, reduced by ``centre`` and multiplied by ``factor``. The ``knots`` of
    a rank are values in rising order and the ``normals`` their normal quantiles; between them
    it is interpolated, and beyond them it goes on by the logarithm of one more than the
    distance in ``tail``, the standard deviation of the feature: what is far outside still
    shows, and does not stretch the range.
    """

    at: int
    shape: Shape
    centre: float = 0.0
    factor: float = 1.0
    knots: tuple[float, ...] = ()
    normals: tuple[float, ...] = ()
    tail: float = 1.0

    def apply(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Transform *values*, shape (n,)."""
        return (self._shaped(values) - self.centre) * self.factor

    def _shaped(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self.shape == "log":
            return np.sign(values) * np.log1p(np.abs(values))
        if self.shape == "rank":
            below = np.log1p(np.maximum(self.knots[0] - values, 0.0) / self.tail)
            above = np.log1p(np.maximum(values - self.knots[-1], 0.0) / self.tail)
            return np.interp(values, self.knots, self.normals) + above - below
        return values


@dataclass(frozen=True)
class Scaling:
    """
    From vectors of ``width`` features to the inputs of a forest, one a column.

    The columns stand in any order and may leave features out.
    """

    width: int
    columns: tuple[Column, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scaling:
        """
        Build what ``to_dict`` wrote, once JSON has been through it.

        Raises ValueError, saying what is wrong with it.
        """
        try:
            columns = tuple(_column(each) for each in values["columns"])
            scaling = cls(int(values["width"]), columns)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        wrong = scaling.problem()
        if wrong is not None:
            raise ValueError(wrong)
        return scaling

    def to_dict(self) -> dict[str, Any]:
        """Write it as values of JSON."""
        return asdict(self)

    def apply(self, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Transform *rows*, shape (n, width), into shape (n, number of columns)."""
        inputs = np.empty((len(rows), len(self.columns)), np.float32)
        for number, column in enumerate(self.columns):
            inputs[:, number] = column.apply(np.asarray(rows[:, column.at], np.float64))
        return inputs

    def problem(self) -> str | None:
        """Say what is wrong with it; None where it can be applied to every finite row."""
        if not self.columns:
            return "no columns"
        for column in self.columns:
            if not 0 <= column.at < self.width:
                return f"a column at {column.at} of {self.width} features"
            numbers = (column.centre, column.factor, column.tail, *column.knots, *column.normals)
            if not np.isfinite(numbers).all() or column.tail <= 0:
                return f"numbers that are not finite in the column at {column.at}"
            rising = all(a < b for a, b in zip(column.knots, column.knots[1:], strict=False))
            ranked = 0 < len(column.knots) == len(column.normals)
            if column.shape == "rank" and not (ranked and rising):
                return f"knots that do not rise in the column at {column.at}"
        return None


def _column(values: Mapping[str, Any]) -> Column:
    if values["shape"] not in SHAPES:
        raise ValueError(f"shape {values['shape']!r}")
    return Column(
        at=int(values["at"]),
        shape=values["shape"],
        centre=float(values["centre"]),
        factor=float(values["factor"]),
        knots=tuple(float(each) for each in values["knots"]),
        normals=tuple(float(each) for each in values["normals"]),
        tail=float(values["tail"]),
    )


def fit(
    rows: npt.NDArray[np.floating],
    shapes: Mapping[int, Shape] | Shape = "standard",
    *,
    columns: Sequence[int] | None = None,
    weights: Mapping[int, float] | None = None,
) -> Scaling:
    """
    Fit a scaling to *rows*, shape (n, d).

    *shapes* is one for all, or one for each place in the vector; *columns* the places that
    the forest sees, None for all; *weights* what places are multiplied by, 1 by default. A
    constant feature is centred and otherwise left alone.
    """
    chosen = range(rows.shape[1]) if columns is None else columns
    fitted = [
        _fit_column(
            at,
            np.asarray(rows[:, at], np.float64),
            shapes if isinstance(shapes, str) else shapes[at],
            1.0 if weights is None else weights.get(at, 1.0),
        )
        for at in chosen
    ]
    return Scaling(rows.shape[1], tuple(fitted))


def _fit_column(at: int, values: npt.NDArray[np.float64], shape: Shape, weight: float) -> Column:
    if shape == "none":
        return Column(at=at, shape=shape, factor=weight)
    bare = Column(at=at, shape=shape)
    if shape == "rank":
        bare = _rank(at, values)
    shaped = bare.apply(values)
    spread = float(shaped.std())
    return replace(
        bare, centre=float(shaped.mean()), factor=weight / (spread if spread > 0 else 1.0)
    )


def _rank(at: int, values: npt.NDArray[np.float64]) -> Column:
    """Take knots at even shares; equal values get the mean of their normal quantiles."""
    shares = (np.arange(_KNOTS) + 0.5) / _KNOTS
    normals = np.array([NormalDist().inv_cdf(share) for share in shares])
    knots, place = np.unique(np.quantile(values, shares), return_inverse=True)
    means = np.bincount(place, normals) / np.bincount(place)
    spread = float(values.std())
    return Column(
        at=at,
        shape="rank",
        knots=tuple(knots.tolist()),
        normals=tuple(means.tolist()),
        tail=spread if spread > 0 else 1.0,
    )
