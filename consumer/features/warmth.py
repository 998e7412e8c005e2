"""
Since when state keeps what a feature reads, and thus from when the feature is full.

A window says too little while it reaches behind the time since which its state is kept.
That time is remembered beside the state, for each *requirement*: a thing that state has to
keep. Everything here counts in event time and is pure; ``warming.py`` does it with a store.

The record keeps an upper bound of the times of all events that were ever applied. A new
requirement counts from that bound, because events up to it were applied without it; those
that were there at the first event of all count from that event.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from math import inf
from typing import Final

import orjson

from consumer.errors import Misconfigured, Problem
from consumer.features.aggregation import Aggregation
from consumer.features.plan import Derived, EntityPlan, Plan, Windowed

_VERSION: Final = 1
_ROWS, _LAGGED, _TIMES = "rows", "lagged", "times"
_TRACKS: Final = {
    Aggregation.STD: "squares",
    Aggregation.MAX: "maxima",
    Aggregation.MIN: "minima",
    Aggregation.FRAUD_COUNT: "labels",
    Aggregation.FRAUD_RATE: "labels",
}


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """
    What the state of an entity keeps: a *track*, as far back and as fine as asked.

    ``key`` is the event field of the entity. ``rows`` and ``lagged`` (rows for windows with
    both edges on their grid) are kept for ``reach_s`` seconds on a grid of ``grid_s``;
    ``times`` (first and newest event) and the values of a field for ``reach_s``; squares,
    labels, maxima and minima wherever there are rows.
    """

    entity: str
    key: str
    track: str
    reach_s: int = 0
    grid_s: int = 0

    def implies(self, other: "Requirement") -> bool:
        """Whether state that meets this one meets *other*: grids nest, the finer serves."""
        return self.serves(other) and self.reach_s >= other.reach_s

    def serves(self, other: "Requirement") -> bool:
        """Whether it implies *other* as far as it reaches."""
        if (self.entity, self.key) != (other.entity, other.key):
            return False
        same = self.track == other.track or (self.track, other.track) == (_LAGGED, _ROWS)
        return same and self.grid_s <= other.grid_s


@dataclass(frozen=True, slots=True)
class Need:
    """A feature is full ``reach_s`` after the youngest of its ``requirements``."""

    requirements: tuple[Requirement, ...]
    reach_s: int


Needs = Mapping[str, tuple[Need, ...]]
"""Feature → what it needs, those it is derived from included; without an entry: nothing."""


def needs_of(plan: Plan) -> Needs:
    """
    What each feature of *plan* needs to be full.

    Distance and speed need the purchase before alone, as a new card's do, so they have no
    entry; nor have amount and calendar.
    """
    entities = {entity.name: entity for entity in plan.entities}
    needs: dict[str, tuple[Need, ...]] = {}
    for feature in plan.features:
        if isinstance(feature, Windowed):
            need = _need(feature, entities[feature.entity], plan.longest_window_s)
            if need is not None:
                needs[feature.name] = (need,)
        elif isinstance(feature, Derived):
            both = (*needs.get(feature.first, ()), *needs.get(feature.second, ()))
            if both:
                needs[feature.name] = both
    return needs


def requirements_of(needs: Needs) -> frozenset[Requirement]:
    """Everything that *needs* ask for."""
    return frozenset(
        requirement for each in needs.values() for need in each for requirement in need.requirements
    )


def _need(feature: Windowed, entity: EntityPlan, longest_s: int) -> Need | None:
    aggregation, window = feature.aggregation, feature.window

    def of(track: str, reach_s: int = 0, grid_s: int = 0) -> Requirement:
        return Requirement(entity.name, entity.key, track, reach_s, grid_s)

    if aggregation in (Aggregation.DISTANCE, Aggregation.SPEED):
        return None
    if window is None:
        # Both are capped at the longest window: nothing older than that shows.
        return Need((of(_TIMES, longest_s),), longest_s)
    reach_s = window.reach_s
    if aggregation is Aggregation.DISTINCT:
        return Need((of(f"values of {feature.field}", reach_s),), reach_s)
    lagged = window.delay_s or aggregation.reads_labels
    rows = of(_LAGGED if lagged else _ROWS, reach_s, window.grid_s)
    track = _TRACKS.get(aggregation)
    return Need((rows,) if track is None else (rows, of(track)), reach_s)


@dataclass(frozen=True, slots=True)
class Record:
    """
    Since when what is kept, in seconds of event time since the epoch.

    ``began_s`` is the time of the first event, ``newest_s`` one that no applied event is
    after. ``since_s`` holds each requirement in force, None for since the beginning.
    """

    began_s: int
    newest_s: int
    since_s: Mapping[Requirement, int | None]

    def kept_since(self, requirement: Requirement) -> int | None:
        """The time from which on every event was applied with *requirement*; None: none yet."""
        known = [self.since(held) for held in self.since_s if held.implies(requirement)]
        return min(known, default=None)

    def since(self, held: Requirement) -> int:
        """The time from which on *held*, one of those in force, is."""
        since_s = self.since_s[held]
        return self.began_s if since_s is None else since_s


@dataclass(frozen=True, slots=True)
class Report:
    """
    What a worker tells before it applies a chunk.

    ``event_s`` is the time of an event of it, ``mark_s`` one that none of its events will
    be after until it reports again. It ``joins`` with its first report. While it still writes
    the former layout of state, its requirements are not ``in_force``. ``horizon_s`` is the
    id horizon: what is that far behind an entity's newest event is not applied.
    """

    requirements: frozenset[Requirement]
    event_s: int
    mark_s: int
    horizon_s: int
    joins: bool = False
    in_force: bool = True


def take_note(record: Record | None, report: Report) -> Record:
    """
    The record after *report*; *record* is None where state is new, or was lost with it.

    What the worker's plan does not keep is dropped and counts anew when it comes back. So
    while workers of two plans run, what one of them does not keep stays young.
    """
    if record is None:
        wanted = report.requirements if report.in_force else ()
        return Record(report.event_s, report.mark_s, dict.fromkeys(wanted))
    began_s = record.began_s
    # A worker of another shard may begin earlier; history that comes after live traffic does
    # not count, because the entities that were seen live do not apply it.
    if report.joins and report.event_s >= record.newest_s - report.horizon_s:
        began_s = min(began_s, report.event_s)
    since_s = record.since_s
    if report.in_force:
        since_s = {each: _carried(record, each) for each in report.requirements}
    return replace(
        record, began_s=began_s, newest_s=max(record.newest_s, report.mark_s), since_s=since_s
    )


def _carried(record: Record, requirement: Requirement) -> int | None:
    """
    Since when *requirement* is in force: as what implies it was, else from now on.

    What serves it for a shorter time gives it that much of the past, as long as states lived
    for its whole reach then: one that had no event since is forgotten as its plan wanted.
    """
    known = [record.newest_s]
    for held, since_s in record.since_s.items():
        if held.implies(requirement):
            if since_s is None:
                return None
            known.append(since_s)
        elif held.serves(requirement):
            lived_s = _lived_since(record, requirement.reach_s)
            known.append(max(record.newest_s - held.reach_s, lived_s, record.since(held)))
    return min(known)


def _lived_since(record: Record, reach_s: int) -> int:
    """The time from which on states live *reach_s* after their last event, at least."""
    known = [record.since(held) for held in record.since_s if held.reach_s >= reach_s]
    return min(known, default=record.newest_s)


def full_from(needs: Needs, record: Record | None) -> dict[str, float]:
    """
    The event time from which on each feature of *needs* is full; infinite when not known.

    A window's far edge lies on its grid, so its reach includes a cell of it.
    """
    return {name: max(_full_from(each, record) for each in of) for name, of in needs.items()}


def _full_from(need: Need, record: Record | None) -> float:
    since_s = [
        None if record is None else record.kept_since(requirement)
        for requirement in need.requirements
    ]
    known = [each for each in since_s if each is not None]
    return max(known) + need.reach_s if len(known) == len(since_s) else inf


def format_until(until_s: float) -> str:
    """*until_s* of ``full_from`` for people: UTC, or that no event has begun it."""
    if until_s == inf:
        return "unknown until the next event"
    return f"{datetime.fromtimestamp(until_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def encode_record(record: Record) -> bytes:
    """*record* as JSON, equal bytes for equal records."""
    return orjson.dumps(
        {
            "version": _VERSION,
            "began_s": record.began_s,
            "newest_s": record.newest_s,
            "kept": [
                {
                    "entity": each.entity,
                    "key": each.key,
                    "track": each.track,
                    "reach_s": each.reach_s,
                    "grid_s": each.grid_s,
                    "since_s": record.since_s[each],
                }
                for each in sorted(record.since_s)
            ],
        }
    )


def decode_record(data: bytes) -> Record:
    """Read what ``encode_record`` wrote. Raises Misconfigured for anything else."""
    try:
        fields = orjson.loads(data)
        if fields["version"] != _VERSION:
            raise _unreadable(f"version {fields['version']}")
        return Record(int(fields["began_s"]), int(fields["newest_s"]), dict(_kept(fields["kept"])))
    except (ValueError, TypeError, KeyError) as error:
        raise _unreadable("something else") from error


def _kept(entries: Iterable[dict[str, object]]) -> Iterable[tuple[Requirement, int | None]]:
    for entry in entries:
        since_s = entry["since_s"]
        yield (
            Requirement(
                str(entry["entity"]),
                str(entry["key"]),
                str(entry["track"]),
                int(str(entry["reach_s"])),
                int(str(entry["grid_s"])),
            ),
            None if since_s is None else int(str(since_s)),
        )


def _unreadable(found: str) -> Misconfigured:
    expected = (
        f"version {_VERSION} of what is known of the age of feature state; upgrade this process, "
        "or delete the key, and every feature warms again"
    )
    return Misconfigured([Problem("redis", "fraudstream:warmth", found, expected)])
