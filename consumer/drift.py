"""
How far live features and scores have moved from those of training.

The measure is the population stability index over bins that each held about a
tenth of the training values: PSI = Σ (aᵢ - eᵢ) · ln(aᵢ / eᵢ), with eᵢ the share of
training values in bin i and aᵢ the live one (N. Siddiqi, Credit Risk Scorecards,
2006, which calls less than 0.1 stable and more than 0.25 a shift). With n live
values chance alone gives about (bins - 1) / n (B. Yurdakul, Statistical Properties
of Population Stability Index, 2018): 0.009 for ten bins and 1,000 values.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from consumer.model import Assessment
from consumer.settings import DriftSettings

SCORES = ("score_fraud", "score_anomaly")
"""What the scores are called beside the features, in the order of ``Scores``."""

_SLICES = 12
_EXPORT_PAUSE_S = 5.0
# Half a value a bin, so that an empty one has a logarithm.
_SMOOTHING = 0.5

Counts = list[int]


@dataclass(frozen=True, slots=True)
class Bins:
    """
    The values of training, cut into parts.

    Bin i holds the values above ``edges[i - 1]`` up to ``edges[i]``; ``counts``,
    one more than edges, are those of training.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


def stability_index(expected: Sequence[int], actual: Sequence[int]) -> float:
    """The PSI of two counts over the same bins; 0 where they have equal shares."""
    return sum(
        (a - e) * math.log(a / e) for a, e in zip(_shares(actual), _shares(expected), strict=True)
    )


class Drift:
    """
    Counts a sample of what is decided, and tells the PSI of the newest hour or so.

    *bins* are by name, those of features and ``SCORES``; names that are missing on
    either side are left out. ``export(name, psi)`` is called every 5 seconds once
    there are enough values. About 0.3 µs a transaction with one in ten sampled.
    """

    def __init__(
        self,
        bins: Mapping[str, Bins],
        names: Sequence[str],
        settings: DriftSettings,
        export: Callable[[str, float], None],
    ) -> None:
        self._bins = dict(bins)
        self._features = [
            (column, list(bins[name].edges), name)
            for column, name in enumerate(names)
            if name in bins
        ]
        self._settings = settings
        self._export = export
        self._slices: deque[dict[str, Counts]] = deque([self._empty()], maxlen=_SLICES)
        self._skip = 0
        self._slice_s: float | None = None
        self._exported_s = 0.0

    def observe(self, assessments: Sequence[Assessment], now_s: float) -> None:
        """Count what was decided by *now_s* on the monotonic clock."""
        self._turn(now_s)
        counts = self._slices[-1]
        every = self._settings.sample_every
        for assessment in assessments[self._skip :: every]:
            values = assessment.observation.values
            for column, edges, name in self._features:
                counts[name][bisect_left(edges, values[column])] += 1
            scores = assessment.scores
            for name, score in zip(SCORES, (scores.fraud, scores.anomaly), strict=True):
                if score is not None and name in self._bins:
                    counts[name][bisect_left(self._bins[name].edges, score)] += 1
        self._skip = (self._skip - len(assessments)) % every
        if now_s - self._exported_s >= _EXPORT_PAUSE_S:
            self._exported_s = now_s
            self._tell()

    def _turn(self, now_s: float) -> None:
        """Begin a new slice of the window when the present one is full; the oldest drops out."""
        if self._slice_s is None:
            self._slice_s = self._exported_s = now_s
        length_s = self._settings.window_s / _SLICES
        passed = int((now_s - self._slice_s) / length_s)
        for _ in range(min(passed, _SLICES)):
            self._slices.append(self._empty())
        self._slice_s += passed * length_s

    def _tell(self) -> None:
        for name, bins in self._bins.items():
            total = [sum(each) for each in zip(*(part[name] for part in self._slices), strict=True)]
            if sum(total) >= self._settings.minimum:
                self._export(name, stability_index(bins.counts, total))

    def _empty(self) -> dict[str, Counts]:
        return {name: [0] * len(bins.counts) for name, bins in self._bins.items()}


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + _SMOOTHING * len(counts)
    return [(count + _SMOOTHING) / total for count in counts]
