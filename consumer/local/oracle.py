"""
Every feature value recomputed from raw events, to check the feature store against.

Shares no code with ``consumer.features`` on purpose, not even the grid: it keeps the
events of each entity in a list and looks at all of them for every answer. Slow and
obvious is the point; thousands of events an entity are still answered in milliseconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

APPLIED, REPEATED, LATE, READ = "applied", "repeated", "late_dropped", "read"
_THIRTY_DAYS_S = 2_592_000
_GRIDS_S = (43_200, 7_200, 1_440, 720, 240, 60, 15, 5, 1)


@dataclass(frozen=True, slots=True)
class Question:
    """
    One feature: *aggregation* (count, sum, mean, max, time_since_last) of the events that
    share the value of *key_field* with the one asked about, over *window_s* seconds (0
    for time_since_last).
    """

    name: str
    key_field: str
    aggregation: str
    window_s: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One transaction as a feature store is asked to observe it; ``keys``: field → value."""

    transaction_id: str
    time_s: int
    amount_minor: int
    keys: Mapping[str, str]
    purchase: bool = True


@dataclass(slots=True)
class _Entity:
    """What happened to one card, merchant, …: (time, amount) of each applied event."""

    events: list[tuple[int, int]] = field(default_factory=list)
    times_by_id: dict[str, int] = field(default_factory=dict)


class Oracle:
    """
    The feature values that the events observed so far must give.

    *horizon_s* is the id horizon. An id is remembered as long as the fifth of the horizon
    (counted from the epoch, rounded up to whole seconds) that its event fell in reaches
    into the horizon behind the entity's newest event.
    """

    def __init__(self, questions: Iterable[Question], *, horizon_s: int, exponent: int = 2) -> None:
        self._questions = tuple(questions)
        self._horizon_s = horizon_s
        self._period_s = (horizon_s + 4) // 5
        self._scale: int = 10**exponent
        longest = max((question.window_s for question in self._questions), default=0)
        self._cap_s = longest or _THIRTY_DAYS_S
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
        fields = dict.fromkeys(question.key_field for question in self._questions)
        values: dict[str, float] = {}
        statuses = {}
        for key_field in fields:
            key = event.keys.get(key_field)
            statuses[key_field] = READ if key is None else self._apply(key_field, key, event)
            own = statuses[key_field] in {APPLIED, REPEATED}
            values |= self._answers(key_field, key, event.time_s, own=own)
        return values, statuses

    def apply(self, event: Event) -> None:
        """Apply *event* without reading anything, for long histories."""
        for key_field in dict.fromkeys(question.key_field for question in self._questions):
            key = event.keys.get(key_field)
            if key is not None:
                self._apply(key_field, key, event)

    def read(self, key_field: str, key: str, time_s: int) -> dict[str, float]:
        """Return feature name → value of one entity at *time_s* as a transaction apart sees it."""
        return self._answers(key_field, key, time_s, own=False)

    def newest_s(self, key_field: str, key: str) -> int | None:
        """Return the time of the newest applied event of an entity."""
        return self._newest.get((key_field, key))

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
        entity.events.append((event.time_s, event.amount_minor))
        entity.times_by_id[event.transaction_id] = event.time_s
        self._newest[key_field, key] = max(event.time_s, newest or 0)
        return APPLIED

    def _answers(
        self, key_field: str, key: str | None, time_s: int, *, own: bool
    ) -> dict[str, float]:
        entity = self._entities.get((key_field, key)) if key is not None else None
        events = [] if entity is None else entity.events
        newest = self._newest.get((key_field, key)) if key is not None else None
        if newest is not None:
            time_s = max(time_s, newest - self._horizon_s)
        known = [(time, amount) for time, amount in events if time <= time_s]
        return {
            question.name: self._answer(question, known, time_s, own=own)
            for question in self._questions
            if question.key_field == key_field
        }

    def _answer(
        self, question: Question, known: list[tuple[int, int]], time_s: int, *, own: bool
    ) -> float:
        """Answer from *known*, the (time, amount) of all events up to *time_s*."""
        if question.aggregation == "time_since_last":
            times = sorted(time for time, _ in known)
            if own and times and times[-1] == time_s:
                times.pop()
            return float(min(time_s - times[-1], self._cap_s) if times else self._cap_s)
        grid = next(grid for grid in _GRIDS_S if grid * 60 <= question.window_s)
        edge = (time_s - question.window_s) // grid * grid
        amounts = [amount for time, amount in known if time > edge]
        if question.aggregation == "count":
            return float(len(amounts))
        if question.aggregation == "sum":
            return sum(amounts) / self._scale
        if question.aggregation == "max":
            return max(amounts, default=0) / self._scale
        if question.aggregation == "mean":
            return round(sum(amounts) / (len(amounts) * self._scale), 6) if amounts else 0.0
        message = f"{question.name}: no rule for {question.aggregation}"
        raise ValueError(message)
