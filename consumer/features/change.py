"""What it means to go from one list of features to another; pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from consumer.features.layout import Layout
from consumer.features.plan import Feature, Plan
from consumer.features.size import state_bytes
from consumer.features.warmth import (
    Needs,
    Record,
    Report,
    full_from,
    needs_of,
    requirements_of,
    take_note,
)

EVENTS = (10, 60, 1_000)
"""For so many purchases within the longest window the size of a state is told."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """
    One entity's state: bytes for each of ``EVENTS`` before and after.

    None where there is no such entity. ``converted``: states are rewritten as they are met.
    ``rekeyed`` names the two event fields where the entity is keyed by another one, which
    running workers refuse.
    """

    entity: str
    before: tuple[int, ...] | None
    after: tuple[int, ...] | None
    converted: bool
    rekeyed: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """
    Two lists compared.

    ``changed`` are features of one name that mean another thing, ``moved`` tells that what
    both have stands in another order. ``warms_s`` is, of each feature that is not full at once,
    how many seconds of event time it takes from the newest event on; infinite where nothing
    was applied yet.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    moved: bool
    hashes: tuple[str, str]
    entities: tuple[StateChange, ...]
    warms_s: Mapping[str, float]

    @property
    def retrains(self) -> bool:
        """Whether models of the former list cannot be used."""
        return self.hashes[0] != self.hashes[1]


def compare(before: Plan, after: Plan, horizon_s: int, record: Record | None) -> Change:
    """
    Compare two plans under an id horizon of *horizon_s* seconds.

    *record* tells since when live state keeps what; None where that is not known, and state
    is taken to be full under *before*.
    """
    former, named = _definitions(before), _definitions(after)
    kept = [name for name in before.names if name in named]
    return Change(
        added=tuple(name for name in after.names if name not in former),
        removed=tuple(name for name in before.names if name not in named),
        changed=tuple(name for name in kept if former[name] != named[name]),
        moved=kept != [name for name in after.names if name in former],
        hashes=(before.hash, after.hash),
        entities=tuple(_compare_states(before, after, horizon_s)),
        warms_s=_warms_s(needs_of(before), needs_of(after), horizon_s, record),
    )


def _definitions(plan: Plan) -> dict[str, tuple[Feature, str, tuple[object, ...]]]:
    """Name → what a feature means: itself, the key of its entity, and what it is derived from."""
    keys = {entity.name: entity.key for entity in plan.entities}
    found: dict[str, tuple[Feature, str, tuple[object, ...]]] = {}
    for feature in plan.features:
        key = keys.get(getattr(feature, "entity", ""), "")
        parts = tuple(
            found[name]
            for name in (getattr(feature, "first", None), getattr(feature, "second", None))
            if name is not None
        )
        found[feature.name] = (feature, key, parts)
    return found


def _compare_states(before: Plan, after: Plan, horizon_s: int) -> Sequence[StateChange]:
    layouts = [
        {entity.name: Layout.of(entity, horizon_s) for entity in plan.entities}
        for plan in (before, after)
    ]
    names = dict.fromkeys([*after.entity_names, *before.entity_names])
    return [_compare_state(name, layouts[0].get(name), layouts[1].get(name)) for name in names]


def _compare_state(name: str, old: Layout | None, new: Layout | None) -> StateChange:
    both = old is not None and new is not None
    rekeyed = (old.key, new.key) if old and new and old.key != new.key else None
    return StateChange(
        entity=name,
        before=None if old is None else _sizes(old),
        after=None if new is None else _sizes(new),
        converted=both and rekeyed is None and old != new,
        rekeyed=rekeyed,
    )


def _sizes(layout: Layout) -> tuple[int, ...]:
    return tuple(state_bytes(layout, events) for events in EVENTS)


def _warms_s(
    before: Needs, after: Needs, horizon_s: int, record: Record | None
) -> dict[str, float]:
    if record is None:
        # Whole and old: what the former list keeps has been kept for ever.
        record = Record(-(2**32), 0, dict.fromkeys(requirements_of(before)))
    now_s = record.newest_s
    report = Report(requirements_of(after), now_s, now_s, horizon_s)
    full_s = full_from(after, take_note(record, report))
    return {name: each - now_s for name, each in full_s.items() if each > now_s}
