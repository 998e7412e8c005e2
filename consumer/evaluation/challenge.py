"""
Champion against challenger: two sets of decisions on the same transactions, in pairs.

Only transactions that both decided are compared, and for a score only those that both scored
and that have a label. A difference is challenger less champion. Its interval holds the middle
95 % of the differences in resamples (the percentile bootstrap of Efron 1979): whole cards, or
whole days, are drawn with replacement, because the transactions of one card succeed or fail
together. Card precision is resampled by day always, from the daily values. A difference whose
interval contains 0 may be chance.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from consumer.evaluation.card_precision import card_precision
from consumer.evaluation.decisions import (
    APPROVE,
    DECLINE,
    OUTCOMES,
    SCORES,
    Bools,
    Decisions,
    Floats,
    Indices,
)
from consumer.evaluation.ranking import Curve, last_of_equals, rank
from consumer.evaluation.thresholds import Caught, catch, money_by_reviews

Cluster = Literal["card", "day"]

_SEED: Final = 20_180_401
_LEAST_CLUSTERS: Final = 2


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of both, challenger less champion, and the 95 % interval of that; or None."""

    champion: float | None
    challenger: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Duel:
    """
    A challenger against the champion.

    ``figures`` holds differences by name, such as ``fraud.roc_auc``; ``crossing`` counts pairs
    by the champion's outcome, then the challenger's; ``newly_flagged`` is what only the
    challenger flags, ``newly_passed`` what only the champion does. The curves are those of the
    challenger on the pairs, as in ``Ranking`` and ``money_by_reviews``, by score.
    """

    name: str
    pairs: int
    only_champion: int
    only_challenger: int
    cluster: Cluster
    resamples: int
    figures: Mapping[str, Difference]
    crossing: Mapping[str, Mapping[str, int]]
    newly_flagged: Caught
    newly_passed: Caught
    roc: Mapping[str, Curve]
    precision_recall: Mapping[str, Curve]
    money_by_reviews: Mapping[str, tuple[tuple[float, float, float], ...]]


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are found: what is drawn, how often, and the k of card precision."""

    cluster: Cluster = "card"
    resamples: int = 200
    k: int = 100


def duel(champion: Decisions, challenger: Decisions, name: str, how: Resampling) -> Duel:
    """Compare *challenger*, called *name*, with *champion*, whose labels, cards and money count."""
    _, ours, theirs = np.intersect1d(
        champion.identity, challenger.identity, assume_unique=True, return_indices=True
    )
    order = np.argsort(ours)
    ours, theirs = ours[order], theirs[order]
    first = champion.pick(ours)
    second = first.decided_by(challenger, theirs)
    figures: dict[str, Difference] = {}
    for score in SCORES:
        figures |= _compare_scores(first, second, score, how)
    figures |= _compare_outcomes(first, second, how)
    crossing = np.zeros((len(OUTCOMES), len(OUTCOMES)), dtype=np.int64)
    np.add.at(crossing, (first.outcome, second.outcome), 1)
    flagged = first.outcome != APPROVE, second.outcome != APPROVE
    ranked = {
        score: rank(
            second.scores[score][first.labelled],
            first.fraud[first.labelled],
            first.amount[first.labelled],
        )
        for score in SCORES
    }
    return Duel(
        name=name,
        pairs=len(first),
        only_champion=len(champion) - len(first),
        only_challenger=len(challenger) - len(first),
        cluster=how.cluster,
        resamples=how.resamples,
        figures=figures,
        crossing={
            one: dict(zip(OUTCOMES, row, strict=True))
            for one, row in zip(OUTCOMES, crossing.tolist(), strict=True)
        },
        newly_flagged=catch(first, flagged[1] & ~flagged[0]),
        newly_passed=catch(first, flagged[0] & ~flagged[1]),
        roc={score: each.roc for score, each in ranked.items() if each.roc},
        precision_recall={
            score: each.precision_recall for score, each in ranked.items() if each.roc
        },
        money_by_reviews={
            score: money_by_reviews(second, score) for score, each in ranked.items() if each.roc
        },
    )


@dataclass(frozen=True, slots=True)
class Ordered:
    """Scores sorted once, so that weights of a resample only have to be added up."""

    order: Indices
    ends: Indices
    fraud: Bools

    @classmethod
    def of(cls, scores: Floats, fraud: Bools) -> "Ordered":
        """Sort *scores* from the highest down."""
        order = np.argsort(-scores, kind="stable")
        return cls(order, last_of_equals(scores[order]), fraud[order])

    def areas(self, weights: Floats) -> tuple[float, float]:
        """
        ROC AUC and average precision with *weights* a row, NaN where a class has none.

        As scikit-learn computes both with ``sample_weight``, without sorting again.
        """
        weight = weights[self.order]
        caught = np.cumsum(np.where(self.fraud, weight, 0.0))[self.ends]
        alarms = np.cumsum(np.where(self.fraud, 0.0, weight))[self.ends]
        if not (caught[-1] > 0 and alarms[-1] > 0):
            return np.nan, np.nan
        recall, false = caught / caught[-1], alarms / alarms[-1]
        gained = np.diff(recall, prepend=0.0)
        # What no weight stands at or above has precision 0 / 0 and gains no recall.
        precision = caught / np.maximum(caught + alarms, np.finfo(np.float64).tiny)
        before = np.r_[0.0, recall[:-1]]
        auc = float(np.sum(np.diff(false, prepend=0.0) * (recall + before) / 2))
        return auc, float(np.sum(gained * precision))


def _compare_scores(
    first: Decisions, second: Decisions, score: str, how: Resampling
) -> dict[str, Difference]:
    here = first.labelled & ~np.isnan(first.scores[score]) & ~np.isnan(second.scores[score])
    fraud, amount = first.fraud[here], np.maximum(first.amount[here], 0.0)
    if not here.any():
        return {}
    sorted_ = [Ordered.of(each.scores[score][here], fraud) for each in (first, second)]
    cluster = _clusters(first, how.cluster)[here]

    def measure(weights: Floats) -> npt.NDArray[np.float64]:
        plain = [each.areas(weights) for each in sorted_]
        valued = [each.areas(weights * amount) for each in sorted_]
        return np.array([[*a, b[1]] for a, b in zip(plain, valued, strict=True)])

    names = ("roc_auc", "average_precision", "average_precision_by_value")
    figures = _bootstrap(names, measure, cluster, how.resamples)
    daily = [
        card_precision(first.day[here], first.card[here], each.scores[score][here], fraud, how.k)
        for each in (first, second)
    ]
    figures[f"card_precision_{how.k}"] = _over_days(
        np.array(daily[0].daily), np.array(daily[1].daily), how.resamples
    )
    return {f"{score}.{name}": each for name, each in figures.items()}


def _compare_outcomes(
    first: Decisions, second: Decisions, how: Resampling
) -> dict[str, Difference]:
    here = first.labelled
    fraud, amount = first.fraud[here], first.amount[here]
    outcomes = [each.outcome[here] for each in (first, second)]
    cluster = _clusters(first, how.cluster)[here]

    def measure(weights: Floats) -> npt.NDArray[np.float64]:
        return np.array([_flagging(each, weights, fraud, amount) for each in outcomes])

    names = ("precision", "recall", "value_recall", "money_caught", "money_declined_wrongly")
    found = _bootstrap(names, measure, cluster, how.resamples) if here.any() else {}
    return {f"decisions.{name}": each for name, each in found.items()}


def _flagging(
    outcome: npt.NDArray[np.int8], weights: Floats, fraud: Bools, amount: Floats
) -> list[float]:
    flagged, declined = outcome != APPROVE, outcome == DECLINE
    caught, all_frauds = weights[flagged & fraud].sum(), weights[fraud].sum()
    money = weights * amount
    money_caught, money_all = money[flagged & fraud].sum(), money[fraud].sum()
    return [
        _part(caught, weights[flagged].sum()),
        _part(caught, all_frauds),
        _part(money_caught, money_all),
        float(money_caught),
        float(money[declined & ~fraud].sum()),
    ]


def _part(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else np.nan


def _bootstrap(
    names: tuple[str, ...],
    measure: Callable[[Floats], npt.NDArray[np.float64]],
    cluster: Indices,
    resamples: int,
) -> dict[str, Difference]:
    """Differences by name of *measure*, which gives for weights a row of figures for each side."""
    _, number = np.unique(cluster, return_inverse=True)
    count = int(number.max()) + 1
    told = measure(np.ones(len(number)))
    drawn = np.full((resamples, len(names)), np.nan)
    if count >= _LEAST_CLUSTERS:
        chance = np.random.default_rng(_SEED)
        for each in drawn:
            times = np.bincount(chance.integers(0, count, count), minlength=count)
            sides = measure(times.astype(np.float64)[number])
            each[:] = sides[1] - sides[0]
    return {
        name: _difference(float(told[0, i]), float(told[1, i]), drawn[:, i])
        for i, name in enumerate(names)
    }


def _over_days(champion: Floats, challenger: Floats, resamples: int) -> Difference:
    if not len(champion):
        return Difference(None, None, None, None, None)
    drawn = np.empty(0)
    if len(champion) >= _LEAST_CLUSTERS:
        chance = np.random.default_rng(_SEED)
        days = chance.integers(0, len(champion), (resamples, len(champion)))
        drawn = (challenger - champion)[days].mean(axis=1)
    return _difference(float(champion.mean()), float(challenger.mean()), drawn)


def _difference(champion: float, challenger: float, drawn: Floats) -> Difference:
    drawn = drawn[~np.isnan(drawn)]
    low, high = np.percentile(drawn, (2.5, 97.5)).tolist() if len(drawn) else (None, None)
    one = None if np.isnan(champion) else champion
    two = None if np.isnan(challenger) else challenger
    between = None if one is None or two is None else two - one
    return Difference(one, two, between, low, high)


def _clusters(decisions: Decisions, cluster: Cluster) -> Indices:
    return decisions.day if cluster == "day" else decisions.card.astype(np.int64)
