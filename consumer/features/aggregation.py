"""The aggregations, and how each one's value follows from what entity state replies."""

from collections.abc import Callable
from enum import StrEnum
from math import sqrt

from consumer.features.derived import (
    DECIMALS,
    NOWHERE,
    coordinates,
    distance_km,
    speed_km_h,
)
from consumer.model import Transaction

# Numbers in the order of ``EntityPlan.slot``, money in minor units.
Reply = tuple[float, ...]

# The value of a feature: of an entity's reply and, for its place, the transaction.
Value = Callable[[Reply, Transaction | None], float]

_LIMB = 2**48


class Aggregation(StrEnum):
    """What is computed over an entity's events."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    STD = "std"
    MAX = "max"
    MIN = "min"
    DISTINCT = "distinct"
    FRAUD_COUNT = "fraud_count"
    FRAUD_RATE = "fraud_rate"
    TIME_SINCE_LAST = "time_since_last"
    FIRST_SEEN = "first_seen"
    DISTANCE = "distance"
    SPEED = "speed"

    @property
    def has_window(self) -> bool:
        """Whether it is taken over windows."""
        return self not in _WITHOUT_WINDOW

    @property
    def reads_labels(self) -> bool:
        """Whether it counts labels."""
        return self in (Aggregation.FRAUD_COUNT, Aggregation.FRAUD_RATE)

    @property
    def reads_totals(self) -> bool:
        """Whether it follows from counts and sums up to a time, so that it may be delayed."""
        return self in _TOTALS


_WITHOUT_WINDOW = frozenset(
    {
        Aggregation.TIME_SINCE_LAST,
        Aggregation.FIRST_SEEN,
        Aggregation.DISTANCE,
        Aggregation.SPEED,
    }
)
_TOTALS = frozenset(
    {
        Aggregation.COUNT,
        Aggregation.SUM,
        Aggregation.MEAN,
        Aggregation.STD,
        Aggregation.FRAUD_COUNT,
        Aggregation.FRAUD_RATE,
    }
)

# Each takes the place of its numbers in a reply, that of the frauds, and the minor units
# of a major one, which are bound once; then what ``Value`` takes.
_Reading = Callable[[int, int, int, Reply, Transaction | None], float]


def reading_of(aggregation: Aggregation) -> _Reading:
    """Return the function that reads *aggregation*."""
    return _READINGS[aggregation]


def _number(slot: int, _: int, __: int, reply: Reply, ___: Transaction | None) -> float:
    return reply[slot]


def _money(slot: int, _: int, scale: int, reply: Reply, __: Transaction | None) -> float:
    return reply[slot] / scale


def _sum(slot: int, _: int, scale: int, reply: Reply, __: Transaction | None) -> float:
    return reply[slot + 1] / scale


def _mean(slot: int, _: int, scale: int, reply: Reply, __: Transaction | None) -> float:
    count = reply[slot]
    return round(reply[slot + 1] / (count * scale), DECIMALS) if count else 0.0


def _std(slot: int, _: int, scale: int, reply: Reply, __: Transaction | None) -> float:
    """The standard deviation of the population; in integers, as squares pass 2⁵³."""
    count, total = int(reply[slot]), int(reply[slot + 1])
    if not count:
        return 0.0
    squares = int(reply[slot + 2]) + int(reply[slot + 3]) * _LIMB
    # Below 0 only where squares are kept for a part of the window, after an upgrade.
    spread = max(count * squares - total * total, 0)
    return round(sqrt(spread) / (count * scale), DECIMALS)


def _frauds(_: int, frauds: int, __: int, reply: Reply, ___: Transaction | None) -> float:
    return reply[frauds]


def _fraud_rate(slot: int, frauds: int, _: int, reply: Reply, __: Transaction | None) -> float:
    return round(reply[frauds] / reply[slot], DECIMALS) if reply[slot] else 0.0


def _distance(slot: int, _: int, __: int, reply: Reply, transaction: Transaction | None) -> float:
    """Kilometres from the previous place, 0 where either place is unknown."""
    if transaction is None or reply[slot + 2] < 0:
        return 0.0
    here = coordinates(transaction.latitude, transaction.longitude)
    if here[0] == NOWHERE:
        return 0.0
    return distance_km(here, (int(reply[slot]), int(reply[slot + 1])))


def _speed(
    slot: int, frauds: int, scale: int, reply: Reply, transaction: Transaction | None
) -> float:
    return speed_km_h(_distance(slot, frauds, scale, reply, transaction), reply[slot + 2])


_READINGS: dict[Aggregation, _Reading] = {
    Aggregation.COUNT: _number,
    Aggregation.SUM: _sum,
    Aggregation.MEAN: _mean,
    Aggregation.STD: _std,
    Aggregation.MAX: _money,
    Aggregation.MIN: _money,
    Aggregation.DISTINCT: _number,
    Aggregation.FRAUD_COUNT: _frauds,
    Aggregation.FRAUD_RATE: _fraud_rate,
    Aggregation.TIME_SINCE_LAST: _number,
    Aggregation.FIRST_SEEN: _number,
    Aggregation.DISTANCE: _distance,
    Aggregation.SPEED: _speed,
}
