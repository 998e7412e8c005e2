"""What the live page asks the decision documents: how many there are, second by second."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

SCORE_BANDS = 20
"""Equal parts of 0 to 1 in which fraud probabilities are counted; 1 is in the last."""


@dataclass(frozen=True, slots=True)
class Tally:
    """
    The documents of some seconds of event time, in seconds since the epoch.

    ``outcomes`` counts them by (second, outcome), ``bands`` those with a fraud probability
    by (second, band); ``partial`` is true when the server ran out of time.
    """

    outcomes: Mapping[tuple[int, str], int] = field(default_factory=dict)
    bands: Mapping[tuple[int, int], int] = field(default_factory=dict)
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Glimpse:
    """Milliseconds from receipt to decision of one document, and what it was decided without."""

    latency_ms: int
    degraded: tuple[str, ...]


class LiveFigures(Protocol):
    """The index of decision documents, counted. Every method raises Unavailable."""

    def tally(self, since_s: int, until_s: int) -> Tally:
        """Count the documents with an event time from *since_s* to before *until_s*."""
        ...

    def glimpse(self, since_s: int, until_s: int, limit: int) -> list[Glimpse]:
        """At most *limit* of the same documents."""
        ...
