"""Values with how often they were measured and how far they lie apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Measured:
    """
    One figure. ``n`` counts what stands behind it: runs, calls, keys or records.

    ``spread`` is the distance of the highest from the lowest of several runs, in
    the figure's own unit; None where the value was taken once.
    """

    value: float
    n: int
    spread: float | None = None


def median_of(runs: Sequence[float]) -> Measured:
    """The median of *runs*, and how far they lie apart."""
    return Measured(median(runs), len(runs), max(runs) - min(runs))


def quantile(ascending: Sequence[float], share: float) -> float:
    """The smallest of *ascending* that *share* of them do not exceed; no interpolation."""
    place = -(-share * len(ascending) // 1)
    return ascending[max(int(place) - 1, 0)]
