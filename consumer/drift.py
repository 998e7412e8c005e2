"""
How far live features and scores have moved from those of training.

The measure is the population stability index over bins that each held about a
tenth of the training values: PSI = Σ (aᵢ - eᵢ) · ln(aᵢ / eᵢ), with eᵢ the share of
training values in bin i and aᵢ the live one (N. Siddiqi, Credit Risk Scorecards,
2006, which calls less than 0.1 stable and more than 0.25 a shift). With n live
values chance alone gives about (bins - 1) / n (B. Yurdakul, Statistical Properties
of Population Stability Index, 2018): 0.036 for ten bins and 250 values, and 0.11 in one
of a thousand cases (chi-squared with 9 degrees of freedom, over n).
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
_QUIET_SLICES = 24
_EXPORT_PAUSE_S = 5.0
# Half a value a bin, so that an empty one has a logarithm.
_SMOOTHING = 0.5

Counts = list[int]
Slice = dict[str, Counts]


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
    either side are left out. Where the window has fewer values than ``minimum``, the
    newest ``quiet_window_s`` are taken instead. ``export(name, psi)`` is called every
    5 seconds once there are enough values, and with None when there no longer are.
    About 0.3 µs a transaction with one in ten sampled.
    """

    def __init__(
        self,
        bins: Mapping[str, Bins],
        names: Sequence[str],
        settings: DriftSettings,
        export: Callable[[str, float | None], None],
    ) -> None:
        self._bins = dict(bins)
        self._features = [
            (column, list(bins[name].edges), name)
            for column, name in enumerate(names)
            if name in bins
        ]
        self._settings = settings
        self._export = export
        # The newest slice is only in the first; it joins the other when it is full.
        self._newest = _Window(self._empty, settings.window_s, _SLICES)
        self._quiet = _Window(self._empty, settings.quiet_window_s, _QUIET_SLICES)
        # So many of a slice are all counted, so that a full window has the minimum.
        self._all = math.ceil(settings.minimum / _SLICES)
        self._counted = 0
        self._skip = 0
        self._told: set[str] = set()
        self._exported_s: float | None = None

    def observe(self, assessments: Sequence[Assessment], now_s: float) -> None:
        """
        Count what was decided by *now_s* on the monotonic clock.

        Also to be called with nothing now and then: what was told grows old.
        """
        self._turn(now_s)
        counts = self._newest.slices[-1]
        for assessment in self._sample(assessments):
            values = assessment.observation.values
            for column, edges, name in self._features:
                counts[name][bisect_left(edges, values[column])] += 1
            scores = assessment.scores
            for name, score in zip(SCORES, (scores.fraud, scores.anomaly), strict=True):
                if score is not None and name in self._bins:
                    counts[name][bisect_left(self._bins[name].edges, score)] += 1
        if self._exported_s is None:
            self._exported_s = now_s
        elif now_s - self._exported_s >= _EXPORT_PAUSE_S:
            self._exported_s = now_s
            self._tell()

    def _sample(self, assessments: Sequence[Assessment]) -> Sequence[Assessment]:
        """The first ones of a slice all, then one in ``sample_every``, whatever the chunks."""
        first = assessments[: max(0, self._all - self._counted)]
        rest = assessments[len(first) :]
        every = self._settings.sample_every
        sampled = rest[self._skip :: every]
        self._skip = (self._skip - len(rest)) % every
        self._counted += len(first)
        return [*first, *sampled]

    def _turn(self, now_s: float) -> None:
        """Begin new slices where the present ones are full; the oldest drop out."""
        full = self._newest.slices[-1]
        if self._newest.turn(now_s):
            _add(self._quiet.slices[-1], full)
            self._counted = 0
        self._quiet.turn(now_s)

    def _tell(self) -> None:
        newest = self._newest.slices[-1]
        for name, bins in self._bins.items():
            total = self._newest.total(name)
            if sum(total) < self._settings.minimum:
                total = _sum([self._quiet.total(name), newest[name]])
            if sum(total) >= self._settings.minimum:
                self._told.add(name)
                self._export(name, stability_index(bins.counts, total))
            elif name in self._told:
                self._told.discard(name)
                self._export(name, None)

    def _empty(self) -> Slice:
        return {name: [0] * len(bins.counts) for name, bins in self._bins.items()}


class _Window:
    """Counts of the newest *length_s* seconds in *number* slices, of which the oldest drop out."""

    def __init__(self, empty: Callable[[], Slice], length_s: float, number: int) -> None:
        self.slices = deque([empty()], maxlen=number)
        self._empty = empty
        self._number = number
        self._slice_s = length_s / number
        self._begun_s: float | None = None

    def turn(self, now_s: float) -> bool:
        """Begin as many slices as *now_s* asks for; tell whether that is any."""
        if self._begun_s is None:
            self._begun_s = now_s
        passed = int((now_s - self._begun_s) / self._slice_s)
        for _ in range(min(passed, self._number)):
            self.slices.append(self._empty())
        self._begun_s += passed * self._slice_s
        return passed > 0

    def total(self, name: str) -> Counts:
        """The counts of *name* over all slices."""
        return _sum([part[name] for part in self.slices])


def _add(counts: Slice, more: Slice) -> None:
    for name, each in more.items():
        counts[name] = _sum([counts[name], each])


def _sum(parts: Sequence[Counts]) -> Counts:
    """Add counts over the same bins up."""
    return [sum(each) for each in zip(*parts, strict=True)]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts) + _SMOOTHING * len(counts)
    return [(count + _SMOOTHING) / total for count in counts]
