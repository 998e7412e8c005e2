"""
The compiled feature specification: what each entity keeps, and the vector.

A plan is plain data. The state that an entity needs follows from its features alone:
``EntityPlan`` names the windows, and its *reply* is the flat tuple of numbers that the
state answers with, in the order of ``EntityPlan.slot``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from consumer.features.aggregation import Aggregation, Reply, Value, reading_of
from consumer.features.derived import Calendar, difference, ratio, read_calendar
from consumer.features.grid import Window
from consumer.model import Transaction

ENTITY_FIELDS = (
    "card_id",
    "merchant_id",
    "customer_id",
    "terminal_id",
    "device_id",
    "ip_address",
)
# What distinct may count: every field of a transaction that says who, where or how.
DISTINCT_FIELDS = (
    *ENTITY_FIELDS,
    "merchant_category",
    "country",
    "currency",
    "channel",
    "entry_mode",
)
_PLACE_SLOTS = 3


@dataclass(frozen=True, slots=True)
class Distinct:
    """The windows, ascending, over which the different values of a field are counted."""

    field: str
    windows: tuple[Window, ...]

    @property
    def reach_s(self) -> int:
        """How far behind the reading time the far edge of the longest can lie."""
        return max(window.reach_s for window in self.windows)


@dataclass(frozen=True, slots=True)
class EntityPlan:
    """
    One entity: the event field that keys it and what its features read.

    ``windows`` are those of counts, sums, means and deviations that end at the reading
    time, ``lagged`` those with a delay or of labels, all ascending. ``since_cap_s`` and
    ``age_cap_s`` are the caps of time_since_last and first_seen, None where not asked.
    ``squares``, ``labels`` and ``places`` say whether state keeps these.
    """

    name: str
    key: str
    windows: tuple[Window, ...] = ()
    lagged: tuple[Window, ...] = ()
    max_windows: tuple[Window, ...] = ()
    min_windows: tuple[Window, ...] = ()
    distinct: tuple[Distinct, ...] = ()
    since_cap_s: int | None = None
    age_cap_s: int | None = None
    squares: bool = False
    labels: bool = False
    places: bool = False

    @property
    def slots(self) -> int:
        """Numbers in a reply."""
        tracks = sum(len(distinct.windows) for distinct in self.distinct)
        return self._distinct_at + tracks + _PLACE_SLOTS * self.places

    @property
    def empty(self) -> Reply:
        """The reply of an entity that a transaction does not name: no events at all."""
        reply = [0.0] * self.slots
        if self.since_cap_s is not None:
            reply[0] = float(self.since_cap_s)
        if self.places:
            reply[-1] = -1.0
        return tuple(reply)

    def key_of(self, transaction: Transaction) -> str | None:
        """Return the entity's key on *transaction*; None where the field is absent."""
        value: str | None = getattr(transaction, self.key)
        return value or None

    def slot(self, aggregation: Aggregation, window: Window | None = None, field: str = "") -> int:
        """
        Return where a reply holds *aggregation* over *window*.

        For a window of totals that is its count: the sum follows, then the two limbs of
        the squares (where kept), then for a lagged one the frauds (where kept).
        """
        if window is None:
            return {
                Aggregation.TIME_SINCE_LAST: 0,
                Aggregation.FIRST_SEEN: self._since,
                Aggregation.DISTANCE: self.slots - _PLACE_SLOTS,
                Aggregation.SPEED: self.slots - _PLACE_SLOTS,
            }[aggregation]
        if aggregation is Aggregation.MAX:
            return self._ladders_at + self.max_windows.index(window)
        if aggregation is Aggregation.MIN:
            return self._ladders_at + len(self.max_windows) + self.min_windows.index(window)
        if aggregation is Aggregation.DISTINCT:
            return self._distinct_slot(window, field)
        if window.delay_s or aggregation.reads_labels:
            return self._lagged_at + self._lagged_width * self.lagged.index(window)
        return self._windows_at + self._width * self.windows.index(window)

    def _distinct_slot(self, window: Window, field: str) -> int:
        place = self._distinct_at
        for distinct in self.distinct:
            if distinct.field == field:
                return place + distinct.windows.index(window)
            place += len(distinct.windows)
        message = f"{self.name} does not count the values of {field}"
        raise ValueError(message)

    @property
    def _since(self) -> int:
        return 0 if self.since_cap_s is None else 1

    @property
    def _windows_at(self) -> int:
        return self._since + (0 if self.age_cap_s is None else 1)

    @property
    def _width(self) -> int:
        return 4 if self.squares else 2

    @property
    def _lagged_at(self) -> int:
        return self._windows_at + self._width * len(self.windows)

    @property
    def _lagged_width(self) -> int:
        return self._width + self.labels

    @property
    def _ladders_at(self) -> int:
        return self._lagged_at + self._lagged_width * len(self.lagged)

    @property
    def _distinct_at(self) -> int:
        return self._ladders_at + len(self.max_windows) + len(self.min_windows)


@dataclass(frozen=True, slots=True)
class Amount:
    """The feature that is the transaction's amount in major units of the base currency."""

    name: str


@dataclass(frozen=True, slots=True)
class Clock:
    """What a calendar in an IANA time zone says of the transaction's time."""

    name: str
    calendar: Calendar
    timezone: str


@dataclass(frozen=True, slots=True)
class Derived:
    """``ratio`` or ``difference`` of two features that stand before it."""

    name: str
    operation: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class Windowed:
    """
    One aggregation of one entity; ``window_s`` is 0 for those that have no window.

    ``field`` is what distinct counts; ``grid_s`` the grid of the window's edges.
    """

    name: str
    entity: str
    aggregation: Aggregation
    window_s: int
    delay_s: int = 0
    grid_s: int = 0
    field: str = ""

    @property
    def window(self) -> Window | None:
        """The window, None without one."""
        return Window(self.window_s, self.delay_s, self.grid_s) if self.window_s else None


Feature = Amount | Clock | Derived | Windowed

_OPERATIONS = {"ratio": ratio, "difference": difference}


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The entities and features of one specification.

    ``hash`` is the SHA-256 (hex) of the canonical definition: equal hashes compute equal
    vectors. ``exponent`` is the number of decimals of the base currency.
    ``longest_window_s`` caps what is told of the past, ``retention_s`` is how far behind
    its newest event an entity's state is read.
    """

    entities: tuple[EntityPlan, ...]
    features: tuple[Feature, ...]
    hash: str
    exponent: int
    longest_window_s: int
    retention_s: int
    names: tuple[str, ...]
    # Place in the vector and where its value comes from: an entity's reply, the
    # transaction and its time, or two values before it.
    _counted: tuple[tuple[int, int, Value], ...]
    _clocks: tuple[tuple[int, Callable[[int], float]], ...]
    _amounts: tuple[int, ...]
    _derived: tuple[tuple[int, Callable[[float, float], float], int, int], ...]

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
        names = tuple(feature.name for feature in features)
        counted, clocks, amounts, derived = [], [], [], []
        for place, feature in enumerate(features):
            if isinstance(feature, Amount):
                amounts.append(place)
            elif isinstance(feature, Clock):
                clocks.append((place, read_calendar(feature.calendar, feature.timezone)))
            elif isinstance(feature, Derived):
                of = (names.index(feature.first), names.index(feature.second))
                derived.append((place, _OPERATIONS[feature.operation], *of))
            else:
                index = places[feature.entity]
                entity = entities[index]
                slot = entity.slot(feature.aggregation, feature.window, feature.field)
                frauds = slot + (4 if entity.squares else 2)
                read = partial(reading_of(feature.aggregation), slot, frauds, 10**exponent)
                counted.append((place, index, read))
        delays = [f.delay_s for f in features if isinstance(f, Windowed)]
        return cls(
            entities=tuple(entities),
            features=tuple(features),
            hash=definition_hash,
            exponent=exponent,
            longest_window_s=longest_window_s,
            retention_s=longest_window_s + max(delays, default=0),
            names=names,
            _counted=tuple(counted),
            _clocks=tuple(clocks),
            _amounts=tuple(amounts),
            _derived=tuple(derived),
        )

    @property
    def entity_names(self) -> tuple[str, ...]:
        """The names of the entities, in their order."""
        return tuple(entity.name for entity in self.entities)

    @property
    def reads_labels(self) -> bool:
        """Whether any feature counts labels."""
        return any(entity.labels for entity in self.entities)

    def vector(
        self, transaction: Transaction, time_s: int, replies: Sequence[Reply]
    ) -> tuple[float, ...]:
        """
        Return the features of *transaction* at *time_s* in the order of ``names``.

        *replies* holds one reply an entity in the order of ``entities``. Money becomes
        major units by one division, a mean is sum / (count · 10^exponent): one rounding,
        so that a recomputation can be compared exactly.
        """
        values = [0.0] * len(self.names)
        for place in self._amounts:
            values[place] = transaction.base_amount_minor / 10**self.exponent
        for place, tell in self._clocks:
            values[place] = tell(time_s)
        for place, entity, read in self._counted:
            values[place] = read(replies[entity], transaction)
        for place, operation, first, second in self._derived:
            values[place] = operation(values[first], values[second])
        return tuple(values)

    def entity_values(self, entity: int, reply: Reply) -> dict[str, float]:
        """Return feature name → value for the features of the entity at that index."""
        return {
            self.names[place]: read(reply, None)
            for place, index, read in self._counted
            if index == entity
        }
