"""
Every feature value recomputed from raw events, to check the feature store against.

Shares no code with ``consumer.features`` on purpose, not even the grid: it keeps the
events of each entity in a list and looks at all of them for every answer. Slow and
obvious is the point; thousands of events an entity are still answered in milliseconds.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from hashlib import blake2b
from math import asin, cos, dist, pi, sin
from statistics import pstdev

APPLIED, REPEATED, LATE, READ = "applied", "repeated", "late_dropped", "read"
_THIRTY_DAYS_S = 2_592_000
_GRIDS_S = (43_200, 7_200, 1_440, 720, 240, 60, 15, 5, 1)
_LABELS = ("fraud_count", "fraud_rate")
_PLACES_KEPT = 16
_EXACT_VALUES = 128
_EARTH_KM = 6371.0088


@dataclass(frozen=True, slots=True)
class Question:
    """
    One feature: *aggregation* of the events that share the value of *key_field* with the
    one asked about, over *window_s* seconds (0 for those without a window) that end
    *delay_s* before it. *grid_s* is 0 for the usual grid; *field* is what distinct counts.
    """

    name: str
    key_field: str
    aggregation: str
    window_s: int = 0
    delay_s: int = 0
    grid_s: int = 0
    field: str = ""

    @property
    def grid(self) -> int:
        """Seconds between the places where an edge of the window may fall."""
        return self.grid_s or next(grid for grid in _GRIDS_S if grid * 60 <= self.window_s)


@dataclass(frozen=True, slots=True)
class Event:
    """
    One transaction as a feature store is asked to observe it.

    ``keys``: field → value, of entities and of what distinct counts; ``place`` is
    latitude and longitude in degrees.
    """

    transaction_id: str
    time_s: int
    amount_minor: int
    keys: Mapping[str, str]
    purchase: bool = True
    place: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A label as a feature store is told of it; ``keys`` and ``time_s`` are the transaction's."""

    transaction_id: str
    label_id: str
    fraud: bool
    label_time_ms: int
    time_s: int
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Labelled:
    """The label that stands, and the time of the event in which it counts."""

    order: tuple[int, bytes]
    fraud: bool
    time_s: int


@dataclass(slots=True)
class _Entity:
    """What happened to one card, merchant, …: its applied events in order of arrival."""

    events: list[Event] = field(default_factory=list)
    times_by_id: dict[str, int] = field(default_factory=dict)
    labels: dict[str, _Labelled] = field(default_factory=dict)


class Oracle:
    """
    The feature values that the events observed so far must give.

    *horizon_s* is the id horizon. An id is remembered as long as the fifth of the horizon
    (counted from the epoch, rounded up to whole seconds) that its event fell in reaches
    into the horizon behind the entity's newest event. *cap_s* caps ages and gaps where the
    longest window is not among the questions.
    """

    def __init__(
        self,
        questions: Iterable[Question],
        *,
        horizon_s: int,
        exponent: int = 2,
        cap_s: int = 0,
    ) -> None:
        self._questions = tuple(questions)
        self._horizon_s = horizon_s
        self._period_s = (horizon_s + 4) // 5
        self._scale: int = 10**exponent
        longest = max((question.window_s for question in self._questions), default=0)
        self._cap_s = cap_s or longest or _THIRTY_DAYS_S
        self._fields = list(dict.fromkeys(question.key_field for question in self._questions))
        self._entities: dict[tuple[str, str], _Entity] = {}
        self._newest: dict[tuple[str, str], int] = {}

    def busiest(self, key_field: str, number: int) -> list[str]:
        """Return the values of *key_field* with the most applied events, most first."""
        counts = {
            value: len(entity.events)
            for (name, value), entity in self._entities.items()
            if name == key_field
        }
        return sorted(counts, key=lambda value: (-counts[value], value))[:number]

    def count(self, key_field: str, key: str) -> int:
        """Return how many events were applied to an entity."""
        return len(self._entities[key_field, key].events)

    def values_of(self, key_field: str) -> list[str]:
        """Return every value of *key_field* that an applied event had, sorted."""
        return sorted(value for name, value in self._entities if name == key_field)

    def observe(self, event: Event) -> tuple[dict[str, float], dict[str, str]]:
        """Apply *event*; return feature name → value and key field → what became of it."""
        values: dict[str, float] = {}
        statuses = {}
        for key_field in self._fields:
            key = event.keys.get(key_field)
            entity = self._entities.get((key_field, key or ""))
            before = list(entity.events) if entity else []
            statuses[key_field] = READ if key is None else self._apply(key_field, key, event)
            own = statuses[key_field] in {APPLIED, REPEATED}
            values |= self._answers(key_field, key, event.time_s, own=own)
            last = before
            if statuses[key_field] == REPEATED:
                last = _without(before, event)
            values |= self._journeys(key_field, key, event, last)
        return values, statuses

    def apply(self, event: Event) -> None:
        """Apply *event* without reading anything, for long histories."""
        for key_field in self._fields:
            key = event.keys.get(key_field)
            if key is not None:
                self._apply(key_field, key, event)

    def label(self, verdict: Verdict) -> None:
        """
        Count a label in the entities of its transaction.

        It counts in the event of the transaction's time, or where an entity did not
        apply that in the next one after it; without one, or when the transaction has
        left every window, not at all. The newest label stands.
        """
        for key_field in self._fields:
            entity = self._entities.get((key_field, verdict.keys.get(key_field, "")))
            if entity is None or not entity.events:
                continue
            order = (verdict.label_time_ms, verdict.label_id.encode()[:8])
            old = entity.labels.get(verdict.transaction_id)
            if old is not None and order <= old.order:
                continue
            newest = self._newest[key_field, verdict.keys[key_field]]
            time_s = verdict.time_s if old is None else old.time_s
            later = [event.time_s for event in entity.events if event.time_s >= time_s]
            if not later or time_s <= newest - self._horizon_s - self._reach_s(key_field):
                continue
            if old is None:
                time_s = min(later)
            entity.labels[verdict.transaction_id] = _Labelled(order, verdict.fraud, time_s)

    def read(self, key_field: str, key: str, time_s: int) -> dict[str, float]:
        """Return feature name → value of one entity at *time_s* as a transaction apart sees it."""
        values = self._answers(key_field, key, time_s, own=False)
        return values | self._journeys(key_field, key, None, [])

    def newest_s(self, key_field: str, key: str) -> int | None:
        """Return the time of the newest applied event of an entity."""
        return self._newest.get((key_field, key))

    def _reach_s(self, key_field: str) -> int:
        """How far behind a reading time a window of an entity can begin."""
        own = [
            question
            for question in self._questions
            if question.key_field == key_field and question.aggregation != "distinct"
        ]
        reaches = [q.delay_s + q.window_s + q.grid for q in own if q.window_s]
        gaps = [self._cap_s for q in own if q.aggregation == "time_since_last"]
        return max(reaches + gaps, default=0)

    def _apply(self, key_field: str, key: str, event: Event) -> str:
        if not event.purchase:
            return READ
        entity = self._entities.get((key_field, key))
        if entity is None:
            entity = self._entities[key_field, key] = _Entity()
        newest = self._newest.get((key_field, key))
        if newest is not None:
            settled = newest - self._horizon_s
            if event.time_s < settled:
                return LATE
            seen = entity.times_by_id.get(event.transaction_id)
            if seen is not None and seen // self._period_s >= settled // self._period_s:
                return REPEATED
        entity.events.append(event)
        entity.times_by_id[event.transaction_id] = event.time_s
        self._newest[key_field, key] = max(event.time_s, newest or 0)
        return APPLIED

    def _settled(self, key_field: str, key: str | None, time_s: int) -> int:
        """The time that is read instead of one behind the horizon."""
        newest = self._newest.get((key_field, key)) if key is not None else None
        return time_s if newest is None else max(time_s, newest - self._horizon_s)

    def _answers(
        self, key_field: str, key: str | None, time_s: int, *, own: bool
    ) -> dict[str, float]:
        entity = self._entities.get((key_field, key)) if key is not None else None
        entity = entity or _Entity()
        time_s = self._settled(key_field, key, time_s)
        known = [event for event in entity.events if event.time_s <= time_s]
        frauds = sorted(label.time_s for label in entity.labels.values() if label.fraud)
        return {
            question.name: self._answer(question, known, frauds, time_s, own=own)
            for question in self._questions
            if question.key_field == key_field and question.aggregation not in {"distance", "speed"}
        }

    def _answer(
        self,
        question: Question,
        known: list[Event],
        frauds: list[int],
        time_s: int,
        *,
        own: bool,
    ) -> float:
        """Answer from *known*, all events up to *time_s*, and the times of labelled frauds."""
        if question.aggregation == "time_since_last":
            times = sorted(event.time_s for event in known)
            if own and times and times[-1] == time_s:
                times.pop()
            return float(min(time_s - times[-1], self._cap_s) if times else self._cap_s)
        if question.aggregation == "first_seen":
            ages = [time_s - event.time_s for event in known]
            return float(min(max(ages, default=0), self._cap_s))
        grid, until = question.grid, time_s
        if question.delay_s or question.aggregation in _LABELS:
            until = (time_s - question.delay_s) // grid * grid
        edge = (time_s - question.delay_s - question.window_s) // grid * grid
        inside = [event for event in known if edge < event.time_s <= until]
        if question.aggregation in _LABELS:
            number = bisect_left(frauds, until + 1) - bisect_left(frauds, edge + 1)
            if question.aggregation == "fraud_count":
                return float(number)
            return round(number / len(inside), 6) if inside else 0.0
        if question.aggregation == "distinct":
            return _distinct({event.keys.get(question.field, "") for event in inside} - {""})
        return self._total(question, [event.amount_minor for event in inside])

    def _total(self, question: Question, amounts: list[int]) -> float:
        if question.aggregation == "count":
            return float(len(amounts))
        if question.aggregation == "sum":
            return sum(amounts) / self._scale
        if question.aggregation == "max":
            return max(amounts, default=0) / self._scale
        if question.aggregation == "min":
            return min(amounts, default=0) / self._scale
        if question.aggregation == "mean":
            return round(sum(amounts) / (len(amounts) * self._scale), 6) if amounts else 0.0
        if question.aggregation == "std":
            exact = [Fraction(amount, self._scale) for amount in amounts]
            return round(float(pstdev(exact)), 6) if amounts else 0.0
        message = f"{question.name}: no rule for {question.aggregation}"
        raise ValueError(message)

    def _journeys(
        self, key_field: str, key: str | None, event: Event | None, before: list[Event]
    ) -> dict[str, float]:
        """Return distance and speed from the place before *event* among those of *before*."""
        questions = [
            question
            for question in self._questions
            if question.key_field == key_field and question.aggregation in {"distance", "speed"}
        ]
        distance, seconds = 0.0, 1
        if questions and key is not None and event is not None and event.place is not None:
            time_s = self._settled(key_field, key, event.time_s)
            placed = sorted((e for e in before if e.place is not None), key=lambda e: e.time_s)
            earlier = [each for each in placed[-_PLACES_KEPT:] if each.time_s <= time_s]
            if earlier:
                distance = _kilometres(event.place, earlier[-1].place or event.place)
                seconds = max(time_s - earlier[-1].time_s, 1)
        speed = round(distance * 3600 / seconds, 3)
        return {q.name: distance if q.aggregation == "distance" else speed for q in questions}


def _without(events: list[Event], event: Event) -> list[Event]:
    """Return *events* without the last one of the second and place of *event*."""
    for index in range(len(events) - 1, -1, -1):
        each = events[index]
        if each.time_s == event.time_s and each.place == event.place:
            return events[:index] + events[index + 1 :]
    return events


def _kilometres(here: tuple[float, float], there: tuple[float, float]) -> float:
    """The great circle by the chord through the globe; places to 10⁻⁵ degrees."""
    chord = dist(_on_globe(*here), _on_globe(*there))
    return round(2 * _EARTH_KM * asin(min(1.0, chord / 2)), 3)


def _on_globe(latitude: float, longitude: float) -> tuple[float, float, float]:
    up, east = (round(angle * 1e5) / 1e5 * pi / 180 for angle in (latitude, longitude))
    return cos(up) * cos(east), cos(up) * sin(east), sin(up)


def _distinct(values: set[str]) -> float:
    """How many; above 128 an estimate from the 129 smallest hashes of 40 bits."""
    if len(values) <= _EXACT_VALUES:
        return float(len(values))
    person = b"fraudstream/v/1"
    digests = (blake2b(each.encode(), digest_size=5, person=person) for each in values)
    hashes = sorted(int.from_bytes(digest.digest(), "little") for digest in digests)
    estimate = int(_EXACT_VALUES * 2**40 / (hashes[_EXACT_VALUES] + 1) + 0.5)
    return float(max(estimate, _EXACT_VALUES + 1))
