"""
The published protocol: which transactions of a week are judged, and by which figures.

That of chapters 3 and 5 of "Reproducible Machine Learning for Credit Card Fraud Detection"
(Le Borgne, Siblini, Lebichot, Bontempi). A fold begins with its first training day. Seven days
of training, a gap of seven days in which labels arrive, seven test days. From a test day
those customers are left out whose fraud was known by then: whose fraud lies between the first
training day and the eighth day before the test day, both included.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from consumer.evaluation.card_precision import DAY_MS, card_precision

TRAINING_DAYS = 7
GAP_DAYS = 7
TEST_DAYS = 7
CARDS_A_DAY = 100

_EPOCH = date(1970, 1, 1)

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fold:
    """A fold by its first training day; days are whole days of UTC, ends exclusive."""

    first: date

    @property
    def train_ms(self) -> tuple[int, int]:
        """The week of training, in milliseconds since the epoch."""
        return _ms(self.first), _ms(self.first + timedelta(TRAINING_DAYS))

    @property
    def test_ms(self) -> tuple[int, int]:
        """The week of test."""
        first = self.first + timedelta(TRAINING_DAYS + GAP_DAYS)
        return _ms(first), _ms(first + timedelta(TEST_DAYS))

    def __str__(self) -> str:
        return self.first.isoformat()


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What the protocol looks at of n transactions: when, whose, and what each turned out to be.

    ``cards`` are numbers that stand for cards, ``frauds`` the whole truth.
    """

    times_ms: Ints
    cards: Ints
    frauds: Mask

    @property
    def days(self) -> Ints:
        """The days since the epoch."""
        return self.times_ms // DAY_MS


def read_folds(text: str) -> tuple[Fold, ...]:
    """Read ``2018-07-25,2018-08-01``. Raises ValueError that names what is no date."""
    folds = []
    for word in text.replace(",", " ").split():
        try:
            folds.append(Fold(date.fromisoformat(word)))
        except ValueError:
            message = f"FOLDS: {word!r}, expected first training days such as 2018-07-25"
            raise ValueError(message) from None
    if not folds:
        raise ValueError("FOLDS: none, expected first training days such as 2018-07-25")
    return tuple(dict.fromkeys(folds))


def choose_test(facts: Facts, fold: Fold) -> Mask:
    """Say which transactions the test judges."""
    first_day = fold.train_ms[0] // DAY_MS
    chosen = np.zeros(len(facts.cards), dtype=bool)
    days = facts.days
    for day in range(fold.test_ms[0] // DAY_MS, fold.test_ms[1] // DAY_MS):
        told = facts.frauds & (days >= first_day) & (days < day - GAP_DAYS)
        chosen |= (days == day) & ~np.isin(facts.cards, np.unique(facts.cards[told]))
    return chosen


def measure(
    facts: Facts, chosen: Mask, scores: npt.NDArray[np.float64]
) -> dict[str, float | int | None]:
    """Return the three published figures of *scores*, one for each *chosen* transaction."""
    frauds = facts.frauds[chosen]
    both = 0 < int(frauds.sum()) < len(frauds)
    found = card_precision(facts.days[chosen], facts.cards[chosen], scores, frauds, CARDS_A_DAY)
    return {
        "roc_auc": float(roc_auc_score(frauds, scores)) if both else None,
        "average_precision": float(average_precision_score(frauds, scores)) if both else None,
        "card_precision_100": found.mean,
        "test_rows": len(frauds),
        "test_frauds": int(frauds.sum()),
    }


def missing_days(facts: Facts, span_ms: tuple[int, int]) -> Iterator[str]:
    """Yield the days of *span_ms* on which there is not one transaction."""
    days = set(np.unique(facts.days).tolist())
    for day in range(span_ms[0] // DAY_MS, span_ms[1] // DAY_MS):
        if day not in days:
            yield (_EPOCH + timedelta(day)).isoformat()


def show_day(time_ms: int) -> str:
    """The day of a moment, as a date."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).date().isoformat()


def _ms(day: date) -> int:
    return (day - _EPOCH).days * DAY_MS
