"""What a threshold on a score would catch, and what it would cost, in counts and money."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from consumer.evaluation.decisions import Bools, Decisions, Floats

_FRAUD_GRID: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
_SHARES: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
_CURVE_POINTS: Final = 200


@dataclass(frozen=True, slots=True)
class Caught:
    """
    What flagging a set of transactions means.

    ``flagged`` counts all of them, ``flagged_a_day`` by calendar day, ``unlabelled`` those of
    which nobody said anything, even where that counts as legitimate. Of those with a label:
    ``frauds`` and ``legitimate`` counts, ``precision`` = frauds / (frauds + legitimate),
    ``recall`` = frauds / all frauds, ``false_positive_rate`` = legitimate / all legitimate;
    ``money_caught`` and ``money_wrong`` are the amounts of the two, ``value_recall`` the share
    of all fraud money, ``value_precision`` the fraud's share of the flagged money. None where
    nothing stands below the line of the fraction.
    """

    flagged: int
    flagged_a_day: float | None
    unlabelled: int
    frauds: int
    legitimate: int
    precision: float | None
    recall: float | None
    false_positive_rate: float | None
    money_caught: float
    money_wrong: float
    value_recall: float | None
    value_precision: float | None


@dataclass(frozen=True, slots=True)
class Point:
    """A threshold, inclusive, on a score; ``name`` says whose it is where it is in force."""

    threshold: float
    name: str | None
    caught: Caught


def catch(decisions: Decisions, flagged: Bools) -> Caught:
    """Measure *flagged*, a truth value a row of *decisions*."""
    amount = decisions.amount
    frauds, legitimate = flagged & decisions.fraud, flagged & decisions.legitimate
    money_caught, money_wrong = float(amount[frauds].sum()), float(amount[legitimate].sum())
    hits, alarms = int(frauds.sum()), int(legitimate.sum())
    return Caught(
        flagged=int(flagged.sum()),
        flagged_a_day=ratio(int(flagged.sum()), decisions.days),
        unlabelled=int((flagged & decisions.silent).sum()),
        frauds=hits,
        legitimate=alarms,
        precision=ratio(hits, hits + alarms),
        recall=ratio(hits, int(decisions.fraud.sum())),
        false_positive_rate=ratio(alarms, int(decisions.legitimate.sum())),
        money_caught=round(money_caught, 2),
        money_wrong=round(money_wrong, 2),
        value_recall=ratio(money_caught, float(amount[decisions.fraud].sum())),
        value_precision=ratio(money_caught, money_caught + money_wrong),
    )


def ratio(part: float, whole: float) -> float | None:
    """*part* / *whole*, None where *whole* is not above 0."""
    return part / whole if whole > 0 else None


def points_of(
    decisions: Decisions, score: str, bands: Sequence[tuple[str, float]]
) -> tuple[Point, ...]:
    """
    Points of *score* from the lowest threshold up: *bands* in force, then a grid.

    The grid of the fraud score is of values, that of any other, whose scale differs from
    model to model, of shares of the transactions that would be flagged.
    """
    values = decisions.scores[score]
    there = values[~np.isnan(values)]
    if not len(there):
        return ()
    grid = _FRAUD_GRID if score == "fraud" else _quantiles(there)
    named = [(threshold, name) for name, threshold in bands]
    taken = {threshold for threshold, _ in named}
    told = [*named, *((value, None) for value in grid if value not in taken)]
    return tuple(
        Point(threshold, name, catch(decisions, values >= threshold))
        for threshold, name in sorted(told, key=lambda each: (each[0], each[1] or ""))
    )


def money_by_reviews(decisions: Decisions, score: str) -> tuple[tuple[float, float, float], ...]:
    """
    Points (flagged a day, share of fraud money, share of frauds) as the threshold falls.

    At most 200, evenly spaced on the logarithm of the count; empty without frauds.
    """
    values = decisions.scores[score]
    there = np.flatnonzero(~np.isnan(values))
    money = np.where(decisions.fraud, np.maximum(decisions.amount, 0.0), 0.0)
    if not len(there) or not money.sum() > 0:
        return ()
    order = there[np.argsort(-values[there], kind="stable")]
    caught, value = np.cumsum(decisions.fraud[order]), np.cumsum(money[order])
    ordered = values[order]
    wanted = np.unique(np.geomspace(1, len(order), _CURVE_POINTS).astype(np.int64)) - 1
    # A threshold takes equal scores together.
    ends = np.unique(np.searchsorted(-ordered, -ordered[wanted], side="right") - 1)
    frauds = decisions.fraud.sum()
    columns = ((ends + 1) / decisions.days, value[ends] / money.sum(), caught[ends] / frauds)
    return tuple(zip(*(column.round(6).tolist() for column in columns), strict=True))


def _quantiles(there: Floats) -> tuple[float, ...]:
    cuts = np.quantile(there, [1 - share for share in _SHARES], method="higher")
    return tuple(dict.fromkeys(float(cut) for cut in cuts))
