"""Decisions as columns: what the figures need of each, in about 60 bytes a transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from consumer.evaluation.card_precision import DAY_MS

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

OUTCOMES: Final = ("approve", "review", "decline")
"""What was decided, in rising severity; ``Decisions.outcome`` holds their numbers."""
APPROVE, REVIEW, DECLINE = range(3)

SCORES: Final = ("fraud", "anomaly")
"""The scores of a decision; only the first one is a probability."""

LEGITIMATE, FRAUD, UNLABELLED, ASSUMED = 0, 1, -1, 2
"""Labels; ``ASSUMED`` counts as legitimate although nobody said so."""

Unlabelled = Literal["legitimate", "leave_out"]
"""What a transaction is of which nobody said anything, as in the settings of training."""

BANDS: Final[Mapping[str, str]] = {
    "fraud_review": "fraud",
    "fraud_decline": "fraud",
    "anomaly_review": "anomaly",
}
"""The thresholds of a decision, and the score that each looks at."""


@dataclass(frozen=True, slots=True)
class RuleHits:
    """Which rules hit which rows: hit ``i`` is of rule ``names[rules[i]]`` at row ``rows[i]``."""

    names: tuple[str, ...]
    rows: Indices
    rules: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Decisions:
    """
    Decisions in order of event time, each transaction once; arrays are of shape (n,).

    ``identity`` is a 64-bit hash of the transaction id, good within this process only: with
    10 million ids two are equal with a probability of 3 in a million. ``time_ms`` is the event
    time since the epoch, ``card`` a number that rises with the card id, ``amount`` in major
    units of the base currency, ``outcome`` an index into OUTCOMES, ``label`` FRAUD, LEGITIMATE,
    UNLABELLED or ASSUMED. ``scores`` holds an array a name of SCORES, NaN where a score is absent.
    ``banded`` tells which rows a score's band alone would have flagged. ``latency_ms`` and
    ``latency_rows``, of shape (m,), say how long so many decisions took, where that is known.
    """

    identity: Indices
    time_ms: Indices
    card: npt.NDArray[np.int32]
    amount: Floats
    outcome: npt.NDArray[np.int8]
    label: npt.NDArray[np.int8]
    scores: Mapping[str, Floats]
    banded: Bools
    degraded: Bools
    live: RuleHits
    shadow: RuleHits
    causes: Mapping[str, int] = field(default_factory=dict)
    bands: Mapping[tuple[float | None, ...], int] = field(default_factory=dict)
    cards: int = 0
    repeated: int = 0
    files: int = 0
    latency_ms: Floats = field(default_factory=lambda: np.empty(0))
    latency_rows: Floats = field(default_factory=lambda: np.empty(0))
    latency_of: str | None = None

    def __len__(self) -> int:
        return len(self.time_ms)

    @property
    def day(self) -> Indices:
        """The number of each row's day since 1970-01-01, in UTC."""
        return self.time_ms // DAY_MS

    @property
    def days(self) -> int:
        """Calendar days from the first to the last, both included."""
        return int(self.day[-1] - self.day[0]) + 1 if len(self) else 0

    @property
    def labelled(self) -> Bools:
        """Rows of which it is known whether they were fraud."""
        return np.asarray(self.label != UNLABELLED)

    @property
    def fraud(self) -> Bools:
        """Rows known to be fraud."""
        return np.asarray(self.label == FRAUD)

    @property
    def legitimate(self) -> Bools:
        """Rows known not to be fraud, and those taken for it."""
        return np.asarray((self.label == LEGITIMATE) | self.assumed)

    @property
    def assumed(self) -> Bools:
        """Rows taken for legitimate since nobody said anything of them."""
        return np.asarray(self.label == ASSUMED)

    @property
    def silent(self) -> Bools:
        """Rows of which nobody said anything, whatever they count as."""
        return np.asarray(self.assumed | (self.label == UNLABELLED))

    def silence_is_legitimate(self) -> "Decisions":
        """
        These decisions with what has no label counted as legitimate.

        Where no fraud is known either nobody has looked, and silence says nothing.
        """
        if not self.fraud.any():
            return self
        return replace(self, label=np.where(self.labelled, self.label, np.int8(ASSUMED)))

    def pick(self, rows: Indices) -> "Decisions":
        """Only *rows*, in their order, without hits of rules."""
        return replace(
            self,
            **{name: getattr(self, name)[rows] for name in _ARRAYS},
            scores={name: score[rows] for name, score in self.scores.items()},
            live=_NO_HITS,
            shadow=_NO_HITS,
        )

    def decided_by(self, other: "Decisions", rows: Indices) -> "Decisions":
        """These transactions with the outcomes and scores of *other* at *rows*."""
        scores = {name: score[rows] for name, score in other.scores.items()}
        return replace(self, outcome=other.outcome[rows], scores=scores)


_NO_HITS: Final = RuleHits((), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32))
_ARRAYS: Final = (
    "identity",
    "time_ms",
    "card",
    "amount",
    "outcome",
    "label",
    "banded",
    "degraded",
)
