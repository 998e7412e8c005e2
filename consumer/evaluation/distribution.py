"""How scores and latencies are spread: histograms and percentiles."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from consumer.evaluation.decisions import Bools, Floats

OF_CHUNKS: Final = "from dispatch to decision of its chunk"
"""What the latency of a replay is measured of: no customer waits for a chunk."""

_BINS: Final = 40
_PERCENTILES: Final = (50, 90, 95, 99, 99.9)


@dataclass(frozen=True, slots=True)
class Spread:
    """Rows by bin of a score: bin ``i`` is from ``edges[i]`` to ``edges[i + 1]``."""

    edges: tuple[float, ...]
    frauds: tuple[int, ...]
    legitimate: tuple[int, ...]
    unlabelled: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Latency:
    """
    Milliseconds a decision took: ``of`` says from where to where.

    ``percentiles`` holds ``p50`` to ``p99.9`` and ``max``; ``edges`` and ``rows`` a histogram
    whose edges grow by a constant factor.
    """

    of: str
    rows: int
    mean: float
    percentiles: dict[str, float]
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def spread(scores: Floats, fraud: Bools, legitimate: Bools) -> Spread | None:
    """Count *scores* by class in 40 bins of equal width; None without any."""
    there = ~np.isnan(scores)
    if not there.any():
        return None
    low, high = float(scores[there].min()), float(scores[there].max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    classes = (fraud, legitimate, ~fraud & ~legitimate)
    counts = [np.histogram(scores[there & each], edges)[0].tolist() for each in classes]
    return Spread(tuple(edges.tolist()), *(tuple(each) for each in counts))


def time_taken(latency_ms: Floats, rows: Floats, of: str | None) -> Latency | None:
    """Measure how long decisions took, *rows* of them each *latency_ms*; None without any."""
    if not rows.sum() or of is None:
        return None
    # Clocks of two hosts may differ by a little.
    taken = np.maximum(latency_ms, 0.0)
    shares = np.array(_PERCENTILES) / 100
    values = np.quantile(taken, shares, weights=rows, method="inverted_cdf").tolist()
    named = {f"p{number:g}": value for number, value in zip(_PERCENTILES, values, strict=True)}
    low, high = max(float(taken.min()), 0.1), max(float(taken.max()), 0.2)
    edges = np.geomspace(low, high * 1.0001, _BINS + 1)
    # What is below the first edge was clipped to it.
    counts = np.histogram(np.maximum(taken, low), edges, weights=rows)[0].astype(np.int64)
    return Latency(
        of=of,
        rows=int(rows.sum()),
        mean=float(np.average(taken, weights=rows)),
        percentiles={**named, "max": float(taken.max())},
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
    )
