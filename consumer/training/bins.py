"""The distribution of what was trained on, as counts in bins of about a tenth each."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

BINS: Final = "bins"
"""The key of ``metrics.json`` under which an archive keeps them."""

_DECILES: Final = np.arange(1, 10) / 10
_MARGIN: Final = 1e-6


def count_bins(
    names: Sequence[str], columns: npt.NDArray[np.floating]
) -> dict[str, dict[str, list[float]]]:
    """
    Cut every column of *columns*, shape (n, d), at its deciles.

    An edge lies half way between two values that occurred: on a value it would
    put what single precision rounds up on its other side. Values that fill more
    than a tenth leave fewer bins; a constant has one below and one above it. There
    are two at least, or a shift could not show.
    """
    return {name: _bins(columns[:, number]) for number, name in enumerate(names)}


def _bins(values: npt.NDArray[np.floating]) -> dict[str, list[float]]:
    distinct, counts = np.unique(values.astype(np.float64), return_counts=True)
    if len(distinct) == 1:
        margin = max(abs(distinct[0]), 1.0) * _MARGIN
        edges = np.array([distinct[0] - margin, distinct[0] + margin])
    else:
        # The value at which each decile is reached; nothing lies above the last one.
        reached = np.searchsorted(np.cumsum(counts) / len(values), _DECILES)
        below = np.unique(reached[reached < len(distinct) - 1])
        if len(below) == 0:
            # Nine tenths and more have the highest value: what can move is the rest.
            below = np.array([len(distinct) - 2])
        edges = (distinct[below] + distinct[below + 1]) / 2
    filled = np.bincount(np.searchsorted(edges, distinct), counts, len(edges) + 1)
    return {"edges": edges.tolist(), "counts": [int(count) for count in filled]}
