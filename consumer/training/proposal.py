"""
Thresholds for a capacity of review and given costs.

Declining saves the money of a fraud and annoys a cardholder who is none; a review costs an
analyst's time and finds out. With scores of labelled transactions every choice of thresholds
has a price, and those that people can work off compete by it. A transaction without a label
counts as legitimate: chargebacks only come for frauds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_POSITIONS: Final = 400
# What a review above the capacity costs where rules alone exceed it: more than anything else.
_TOO_MANY: Final = 1e12
_ANOMALY_SHARES: Final = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)


@dataclass(frozen=True, slots=True)
class Scored:
    """
    Transactions with their scores; all of shape (n,).

    ``day`` numbers the days since 1970, ``amount`` is in major units of the base currency,
    scores are NaN where absent. ``anyway`` marks those that go to review whatever their
    scores, by rules or because they were degraded. ``days`` is how many days there are.
    """

    day: npt.NDArray[np.int64]
    amount: Floats
    fraud: Bools
    fraud_score: Floats
    anomaly_score: Floats
    anyway: Bools
    days: int


@dataclass(frozen=True, slots=True)
class Costs:
    """
    In the base currency: ``friction`` for a legitimate transaction that is declined,
    ``review`` for each review, and for a fraud that passes ``fraud_share`` of its amount and
    ``fraud_each``.
    """

    friction: float
    review: float = 0.0
    fraud_share: float = 1.0
    fraud_each: float = 0.0

    def of_frauds(self, scored: Scored) -> Floats:
        """What each row costs when it passes; 0 for the legitimate."""
        passed = self.fraud_share * scored.amount + self.fraud_each
        return np.where(scored.fraud, passed, 0.0)


@dataclass(frozen=True, slots=True)
class Bands:
    """Thresholds, inclusive; as under ``decision`` in the settings."""

    fraud_review: float
    fraud_decline: float
    anomaly_review: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What *bands* mean, a day on average; ``busiest_day`` is the most reviews of any.

    ``caught`` counts frauds that are declined or reviewed, ``caught_share`` is their share of
    all, ``money_*`` are amounts; ``wrong`` are legitimate transactions that are declined.
    ``cost`` is all of it by the costs given.
    """

    name: str
    bands: Bands
    reviews: float
    busiest_day: int
    declined: float
    caught: float
    caught_share: float
    money_caught: float
    money_missed: float
    wrong: float
    money_wrong: float
    cost: float


def propose(scored: Scored, costs: Costs, capacity: float) -> Bands:
    """
    Find the thresholds of the lowest cost that send at most *capacity* a day to review.

    Tries 400 thresholds of the fraud score in each place and ten of the anomaly score. Where
    rules alone send more than that to review, the scores add nothing to it.
    """
    order = np.argsort(-_filled(scored.fraud_score), kind="stable")
    scores = _filled(scored.fraud_score)[order]
    places = _places(scores)
    lost = costs.of_frauds(scored)[order]
    legitimate = ~scored.fraud[order]
    best, best_cost = Bands(1.0, 1.0, _above(scored.anomaly_score)), np.inf
    for threshold in _anomaly_candidates(scored.anomaly_score):
        aside = (scored.anyway | (_filled(scored.anomaly_score) >= threshold))[order]
        table = _Sums.of(places, lost, legitimate, aside)
        cost, declined, reviewed = table.cheapest(costs, capacity * scored.days)
        if cost < best_cost:
            best_cost = cost
            best = Bands(
                _between(scores, places[reviewed]), _between(scores, places[declined]), threshold
            )
    return best


def measure(scored: Scored, costs: Costs, bands: Bands, name: str) -> Outcome:
    """Say what *bands* mean on *scored*."""
    declined = _filled(scored.fraud_score) >= bands.fraud_decline
    flagged = _filled(scored.fraud_score) >= bands.fraud_review
    flagged |= _filled(scored.anomaly_score) >= bands.anomaly_review
    reviewed = (flagged | scored.anyway) & ~declined
    caught, wrong = (declined | reviewed) & scored.fraud, declined & ~scored.fraud
    missed = scored.fraud & ~caught
    frauds = int(scored.fraud.sum())
    by_day = np.bincount(scored.day[reviewed] - scored.day.min()) if reviewed.any() else [0]
    cost = costs.of_frauds(scored)[missed].sum() + costs.friction * wrong.sum()
    cost += costs.review * reviewed.sum()
    return Outcome(
        name=name,
        bands=bands,
        reviews=float(reviewed.sum()) / scored.days,
        busiest_day=int(np.max(by_day)),
        declined=float(declined.sum()) / scored.days,
        caught=float(caught.sum()) / scored.days,
        caught_share=float(caught.sum()) / frauds if frauds else 0.0,
        money_caught=float(scored.amount[caught].sum()) / scored.days,
        money_missed=float(scored.amount[missed].sum()) / scored.days,
        wrong=float(wrong.sum()) / scored.days,
        money_wrong=float(scored.amount[wrong].sum()) / scored.days,
        cost=float(cost) / scored.days,
    )


def compare(
    scored: Scored, costs: Costs, capacity: float, others: Mapping[str, Bands]
) -> tuple[Bands, list[Outcome]]:
    """
    Propose bands for *capacity*, and tell what they and other choices mean.

    The table begins with scores that decide nothing, holds *others* and the best for less
    and for more people, and ends with the proposal.
    """
    nothing = Bands(np.inf, np.inf, np.inf)
    rows = [measure(scored, costs, nothing, "no scores")]
    rows += [measure(scored, costs, bands, name) for name, bands in others.items()]
    for share in (0.25, 0.5, 2.0, 4.0):
        bands = propose(scored, costs, capacity * share)
        rows.append(measure(scored, costs, bands, f"{capacity * share:g} reviews a day"))
    proposed = propose(scored, costs, capacity)
    rows.append(measure(scored, costs, proposed, f"proposed: {capacity:g} a day"))
    return proposed, rows


@dataclass(frozen=True, slots=True)
class _Sums:
    """
    Sums over the rows above each place, in falling order of the fraud score, shape (p,).

    ``above`` counts rows, ``lost`` what their frauds would cost, ``wrong`` the legitimate;
    ``aside`` counts those that go to review whatever the fraud score says, ``aside_lost``
    what their frauds would cost. The last place has everything above it.
    """

    above: Floats
    lost: Floats
    wrong: Floats
    aside: Floats
    aside_lost: Floats
    all_lost: float
    all_aside: float
    all_aside_lost: float

    @classmethod
    def of(
        cls, places: npt.NDArray[np.int64], lost: Floats, legitimate: Bools, aside: Bools
    ) -> "_Sums":
        def up_to(values: npt.NDArray[np.floating]) -> Floats:
            return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])[places]

        aside_lost = np.where(aside, lost, 0.0)
        return cls(
            above=places.astype(np.float64),
            lost=up_to(lost),
            wrong=up_to(legitimate.astype(np.float64)),
            aside=up_to(aside.astype(np.float64)),
            aside_lost=up_to(aside_lost),
            all_lost=float(lost.sum()),
            all_aside=float(aside.sum()),
            all_aside_lost=float(aside_lost.sum()),
        )

    def cheapest(self, costs: Costs, most_reviews: float) -> tuple[float, int, int]:
        """Return the lowest cost, and the places to decline and to review down to."""
        # Rows: places to decline down to; columns: places to review down to.
        reviews = self.above[None, :] - self.above[:, None]
        reviews = reviews + (self.all_aside - self.aside)[None, :]
        passed = (self.all_lost - self.lost) - (self.all_aside_lost - self.aside_lost)
        cost = costs.friction * self.wrong[:, None] + costs.review * reviews + passed[None, :]
        possible = (reviews <= most_reviews) & (self.above[None, :] >= self.above[:, None])
        if not possible.any():
            # Rules and the anomaly score alone send too many: the fraud score adds no review.
            possible = np.eye(len(self.above), dtype=bool)
            cost = cost + _TOO_MANY * (reviews - most_reviews)
        place = int(np.argmin(np.where(possible, cost, np.inf)))
        declined, reviewed = divmod(place, len(self.above))
        return float(cost.flat[place]), declined, reviewed


def _filled(scores: Floats) -> Floats:
    """An absent score flags nothing."""
    return np.where(np.isnan(scores), -np.inf, scores)


def _places(scores: Floats) -> npt.NDArray[np.int64]:
    """At most 400 numbers of rows to flag, closer at the top, never parting equal scores."""
    present = int(np.isfinite(scores).sum())
    changes = np.flatnonzero(np.diff(scores[:present])) + 1
    ends = np.concatenate([[0], changes, [present]]).astype(np.int64)
    wanted = np.unique(np.geomspace(1, max(len(ends), 2), _POSITIONS).astype(np.int64)) - 1
    return np.unique(ends[np.minimum(wanted, len(ends) - 1)])


def _between(scores: Floats, place: np.int64) -> float:
    """Return the shortest threshold that *place* rows reach, and no row below them."""
    if place == 0:
        return 1.0
    last = float(scores[place - 1])
    following = float(scores[place]) if place < len(scores) else -np.inf
    middle = (last + following) / 2 if np.isfinite(following) else last
    short = (float(f"{middle:.{digits}g}") for digits in range(3, 17))
    return next((each for each in short if following < each <= last), last)


def _above(scores: Floats) -> float:
    """Return a threshold that no score reaches."""
    present = scores[~np.isnan(scores)]
    return float(np.ceil(present.max()) + 1) if len(present) else 1.0


def _anomaly_candidates(scores: Floats) -> Sequence[float]:
    present = scores[~np.isnan(scores)]
    if not len(present):
        return (_above(scores),)
    return (
        _above(scores),
        *(float(f"{np.quantile(present, 1 - each):.6g}") for each in _ANOMALY_SHARES),
    )
