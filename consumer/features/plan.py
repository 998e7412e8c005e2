"""
The compiled feature specification: what each entity keeps, and the vector.

A plan is plain data. The state that an entity needs follows from its features alone:
``EntityPlan`` names the windows, and its *reply* is the flat tuple of numbers that the
state answers with, in the order that ``EntityPlan.slots`` counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from consumer.model import Transaction

# Seconds since the previous event of the entity (when asked for), then count and sum of
# each window, then the maximum of each window; money in minor units.
Reply = tuple[float, ...]


class Aggregation(StrEnum):
    """What is computed over an entity's events."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MAX = "max"
    TIME_SINCE_LAST = "time_since_last"


_MEAN_DECIMALS = 6

ENTITY_FIELDS = (
    "card_id",
    "merchant_id",
    "customer_id",
    "terminal_id",
    "device_id",
    "ip_address",
)


@dataclass(frozen=True, slots=True)
class EntityPlan:
    """
    One entity: the event field that keys it and the windows its features read.

    ``windows_s`` are those of count, sum and mean, ``max_windows_s`` those of max, both
    ascending; ``since_cap_s`` is the cap of time_since_last, None where it is not asked.
    """

    name: str
    key: str
    windows_s: tuple[int, ...]
    max_windows_s: tuple[int, ...]
    since_cap_s: int | None

    @property
    def slots(self) -> int:
        """Numbers in a reply."""
        since = 0 if self.since_cap_s is None else 1
        return since + 2 * len(self.windows_s) + len(self.max_windows_s)

    @property
    def empty(self) -> Reply:
        """The reply of an entity that a transaction does not name: no events at all."""
        since = () if self.since_cap_s is None else (float(self.since_cap_s),)
        return since + (0.0,) * (self.slots - len(since))

    def key_of(self, transaction: Transaction) -> str | None:
        """Return the entity's key on *transaction*; None where the field is absent."""
        value: str | None = getattr(transaction, self.key)
        return value or None

    def slot(self, aggregation: Aggregation, window_s: int) -> int:
        """Return where a reply holds *aggregation* over *window_s*; for a mean, its count."""
        if aggregation is Aggregation.TIME_SINCE_LAST:
            return 0
        start = 0 if self.since_cap_s is None else 1
        if aggregation is Aggregation.MAX:
            return start + 2 * len(self.windows_s) + self.max_windows_s.index(window_s)
        place = start + 2 * self.windows_s.index(window_s)
        return place + 1 if aggregation is Aggregation.SUM else place


@dataclass(frozen=True, slots=True)
class Amount:
    """The feature that is the transaction's amount in major units of the base currency."""

    name: str


@dataclass(frozen=True, slots=True)
class Windowed:
    """One aggregation of one entity; ``window_s`` is 0 for time_since_last."""

    name: str
    entity: str
    aggregation: Aggregation
    window_s: int


Feature = Amount | Windowed


@dataclass(frozen=True, slots=True)
class _Cell:
    """Where one value of the vector comes from; ``place`` -1 is the amount itself."""

    entity: int
    place: int
    aggregation: Aggregation


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The entities and features of one specification.

    ``hash`` is the SHA-256 (hex) of the canonical definition: equal hashes compute equal
    vectors. ``exponent`` is the number of decimals of the base currency.
    """

    entities: tuple[EntityPlan, ...]
    features: tuple[Feature, ...]
    hash: str
    exponent: int
    longest_window_s: int
    names: tuple[str, ...]
    _cells: tuple[_Cell, ...]

    @classmethod
    def build(
        cls,
        entities: Sequence[EntityPlan],
        features: Sequence[Feature],
        *,
        definition_hash: str,
        exponent: int,
        longest_window_s: int,
    ) -> "Plan":
        """Compile *features*, whose entities and windows must all be among *entities*."""
        places = {entity.name: index for index, entity in enumerate(entities)}
        cells = []
        for feature in features:
            if isinstance(feature, Amount):
                cells.append(_Cell(-1, -1, Aggregation.SUM))
                continue
            index = places[feature.entity]
            slot = entities[index].slot(feature.aggregation, feature.window_s)
            cells.append(_Cell(index, slot, feature.aggregation))
        return cls(
            entities=tuple(entities),
            features=tuple(features),
            hash=definition_hash,
            exponent=exponent,
            longest_window_s=longest_window_s,
            names=tuple(feature.name for feature in features),
            _cells=tuple(cells),
        )

    @property
    def entity_names(self) -> tuple[str, ...]:
        """The names of the entities, in their order."""
        return tuple(entity.name for entity in self.entities)

    def vector(self, transaction: Transaction, replies: Sequence[Reply]) -> tuple[float, ...]:
        """
        Return the features of *transaction* in the order of ``names``.

        *replies* holds one reply an entity in the order of ``entities``. Money becomes
        major units by one division, a mean is sum / (count · 10^exponent): one rounding,
        so that a recomputation can be compared exactly.
        """
        scale = 10**self.exponent
        values = []
        for cell in self._cells:
            if cell.place < 0:
                values.append(transaction.base_amount_minor / scale)
            else:
                values.append(_value(replies[cell.entity], cell, scale))
        return tuple(values)

    def entity_values(self, entity: int, reply: Reply) -> dict[str, float]:
        """Return feature name → value for the features of the entity at that index."""
        scale = 10**self.exponent
        return {
            name: _value(reply, cell, scale)
            for name, cell in zip(self.names, self._cells, strict=True)
            if cell.entity == entity
        }


def _value(reply: Reply, cell: _Cell, scale: int) -> float:
    value = reply[cell.place]
    if cell.aggregation is Aggregation.COUNT or cell.aggregation is Aggregation.TIME_SINCE_LAST:
        return value
    if cell.aggregation is Aggregation.MEAN:
        # RedisJSON reads numbers of more than 15 digits inexactly, and the vector in the
        # document is to be the one that was scored.
        return round(reply[cell.place + 1] / (value * scale), _MEAN_DECIMALS) if value else 0.0
    return value / scale
