"""
Card precision: of the k most suspicious cards of a day, how many were really compromised.

The definition is that of chapter 4 of "Reproducible Machine Learning for Credit Card Fraud
Detection" (Le Borgne, Siblini, Lebichot, Bontempi; ``card_precision_top_k``). It measures what
a team that can look at k cards a day gets from a score: a card counts once, however often it
was used, and one that was found is blocked and takes no place on later days.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

DAY_MS = 86_400_000
"""Milliseconds of a day; days are those of UTC."""


@dataclass(frozen=True, slots=True)
class CardPrecision:
    """
    Card precision at ``k``: the mean over days, and each day's part of it.

    ``days`` are numbers of days in rising order; ``daily``, ``detected`` (cards found among
    the k) and ``compromised`` (cards with a fraud that were not found before) belong to them.
    """

    k: int
    mean: float | None
    days: tuple[int, ...]
    daily: tuple[float, ...]
    detected: tuple[int, ...]
    compromised: tuple[int, ...]

    @property
    def best_possible(self) -> float | None:
        """What a perfect order of these days' remaining cards would reach; None without days."""
        if not self.days:
            return None
        return float(np.mean([min(count, self.k) / self.k for count in self.compromised]))


def card_precision(
    days: npt.ArrayLike,
    cards: npt.ArrayLike,
    scores: npt.ArrayLike,
    frauds: npt.ArrayLike,
    k: int = 100,
) -> CardPrecision:
    """
    Card precision at *k* of transactions, four sequences of one length.

    A day ranks its cards by their highest score, highest first; equal scores rank by card, in
    rising order, so that the label never breaks a tie. Detected cards are those with a fraud
    that day among the first *k*; they leave all later days. A day's precision is detected / k,
    also where fewer than k cards were used. Rows whose score is NaN are left out. The mean is
    over the days with rows, None without any. Raises ValueError for k below 1.
    """
    if k < 1:
        message = f"k of {k}, expected 1 or more"
        raise ValueError(message)
    score = np.asarray(scores, dtype=np.float64)
    here = ~np.isnan(score)
    _, card = np.unique(np.asarray(cards)[here], return_inverse=True)
    day, score = np.asarray(days)[here], score[here]
    fraud = np.asarray(frauds, dtype=bool)[here]
    day, card, score, fraud = group_card_days(day, card, score, fraud)
    first = np.flatnonzero(np.diff(day, prepend=day[:1] - 1)).tolist()
    found = np.zeros(int(card.max(initial=-1)) + 1, dtype=bool)
    daily, detected, compromised = [], [], []
    for start, end in pairwise([*first, len(day)]):
        part = slice(start, end)
        left = ~found[card[part]]
        cards_left, fraud_left = card[part][left], fraud[part][left]
        # Cards are in rising order, and a stable sort keeps them so among equal scores.
        top = np.argsort(-score[part][left], kind="stable")[:k]
        hits = cards_left[top][fraud_left[top]]
        found[hits] = True
        detected.append(len(hits))
        compromised.append(int(fraud_left.sum()))
        daily.append(len(hits) / k)
    mean = float(np.mean(daily)) if daily else None
    numbers = tuple(int(day[start]) for start in first)
    return CardPrecision(k, mean, numbers, tuple(daily), tuple(detected), tuple(compromised))


def group_card_days(
    day: npt.NDArray[np.int64],
    card: npt.NDArray[np.int64],
    score: npt.NDArray[np.float64],
    fraud: npt.NDArray[np.bool_],
) -> tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.bool_]
]:
    """
    Group rows to one a card and day, by day, then card: highest score, whether any is a fraud.

    Card precision of what comes out is that of what went in, at every k; scores are not NaN.
    """
    if not len(day):
        return day, card, score, fraud
    order = np.lexsort((card, day))
    day, card = day[order], card[order]
    starts = np.flatnonzero(np.r_[True, (day[1:] != day[:-1]) | (card[1:] != card[:-1])])
    highest = np.maximum.reduceat(score[order], starts)
    any_fraud = np.logical_or.reduceat(fraud[order], starts)
    return day[starts], card[starts], highest, any_fraud
