"""``fraudstream features plan``: what another list of features would cost and need."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.features.change import EVENTS, Change, StateChange, compare
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.inspection import read_warmth
from consumer.outside import build_rule_source
from consumer.search_command import plain_lines
from consumer.settings import Settings
from consumer.warming_view import names_by

_SHOWN = 12
_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60


@dataclass(frozen=True, slots=True)
class FeaturesPlan:
    """
    A change with what it means around it.

    ``models`` are the endpoints to retrain, ``waiting`` maps a rule to the seconds that it
    is in shadow for, ``broken`` are mistakes of the rules under the new list. ``unknown`` says
    why the age of live state, or the rules, could not be read.
    """

    paths: tuple[str, str]
    change: Change
    models: tuple[str, ...]
    waiting: dict[str, float]
    broken: tuple[Problem, ...]
    unknown: tuple[str, ...]


def plan_features(settings: Settings, new: Path, against: Path | None) -> FeaturesPlan:
    """
    Compare *new* with *against*, or with ``features.path`` of *settings* without it.

    Raises Misconfigured for either list. Redis that does not answer is told, not raised.
    """
    old = against or settings.features.path
    currency = settings.events.base_currency
    before, after = load_plan(old, currency), load_plan(new, currency)
    unknown: list[str] = []
    record = None
    try:
        record = read_warmth(settings)
    except (Unavailable, Misconfigured) as error:
        unknown.append(f"the age of live state, which is taken to be full: {error}")
    change = compare(before, after, settings.features.id_horizon_s, record)
    waiting: dict[str, float] = {}
    broken: Sequence[Problem] = ()
    try:
        waiting = _waiting(settings, after, change)
    except Misconfigured as error:
        broken = error.problems
    except Unavailable as error:
        unknown.append(f"the rules: {error}")
    scoring = settings.scoring
    models = (scoring.fraud.name, scoring.anomaly.name) if change.retrains else ()
    return FeaturesPlan(
        (str(old), str(new)), change, models, waiting, tuple(broken), tuple(unknown)
    )


def _waiting(settings: Settings, plan: Plan, change: Change) -> dict[str, float]:
    rules = build_rule_source(settings, plan).compile()
    if settings.rules.warming != "shadow":
        return {}
    return {
        each.rule.rule_id: max(change.warms_s[name] for name in each.features & set(change.warms_s))
        for each in rules.rules
        if each.features & set(change.warms_s)
    }


def to_json(found: FeaturesPlan) -> dict[str, Any]:
    """Everything that was found, for machines; seconds are null where not known."""
    change = found.change
    return {
        "from": found.paths[0],
        "to": found.paths[1],
        "added": change.added,
        "removed": change.removed,
        "changed": change.changed,
        "moved": change.moved,
        "hash_before": change.hashes[0],
        "hash_after": change.hashes[1],
        "events": EVENTS,
        "entities": [asdict(each) for each in change.entities],
        "warms_s": {name: _finite(each) for name, each in change.warms_s.items()},
        "retrain": found.models,
        "rules_in_shadow_s": {name: _finite(each) for name, each in found.waiting.items()},
        "rules_broken": [str(each) for each in found.broken],
        "unknown": found.unknown,
    }


def _finite(seconds: float) -> float | None:
    return None if seconds == inf else seconds


def render(found: FeaturesPlan) -> Iterator[str]:
    """The plan for a person."""
    change = found.change
    yield f"from {found.paths[0]}"
    yield f"to   {found.paths[1]}"
    yield ""
    yield from _lists(change)
    yield ""
    yield from _states(change.entities)
    yield ""
    yield from _warm_up(found)
    yield ""
    yield from _models(found)
    if found.broken:
        yield ""
        yield "Rules that this list would break, so that workers refuse to start with both:"
        yield from (f"  {each}" for each in found.broken)
    for each in found.unknown:
        yield ""
        yield f"Not known: {each}"


def _lists(change: Change) -> Iterator[str]:
    parts = (("added", change.added), ("removed", change.removed), ("changed", change.changed))
    for what, names in parts:
        if names:
            yield f"{what:<8} {len(names):>3}  {', '.join(names)}"
    if change.moved:
        yield "what stays stands in another order"
    if not any(names for _, names in parts) and not change.moved:
        yield "the same features"


def _states(entities: Sequence[StateChange]) -> Iterator[str]:
    events = ", ".join(f"{number:,}" for number in EVENTS)
    yield f"Bytes of state, for {events} purchases in the time that is kept (at most, about):"
    rows = [
        (f"  {each.entity}", _bytes(each.before), "→", _bytes(each.after), _fate(each))
        for each in entities
    ]
    yield from plain_lines(rows)


def _bytes(sizes: tuple[int, ...] | None) -> str:
    return "none" if sizes is None else " / ".join(f"{size:,}" for size in sizes)


def _fate(state: StateChange) -> str:
    if state.rekeyed is not None:
        old, new = state.rekeyed
        return (
            f"keyed by {new} instead of {old}: workers refuse; give the entity another name, or "
            "replay history into an empty Redis"
        )
    if state.before is None:
        return "new: begins empty"
    if state.after is None:
        return "dropped: states end with their lifetime"
    return "converted as states are met" if state.converted else "unchanged"


def _warm_up(found: FeaturesPlan) -> Iterator[str]:
    warms_s = found.change.warms_s
    if not warms_s:
        yield "Warm-up: none, every feature is full at once."
        return
    yield "Warm-up, from the newest event on, while the feature says too little:"
    yield from (f"  {_time(each)}: {names}" for each, names in names_by(warms_s))
    for each, names in names_by(found.waiting):
        yield f"  rules in shadow for {_time(each)}: {names}"
    yield (
        "  Or backfill: fraudstream replay HISTORY --to features into an empty Redis, up to now, "
        "then point redis.features_url at it."
    )


def _time(seconds: float) -> str:
    if seconds == inf:
        return "unknown until the first event"
    for unit_s, name in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= unit_s:
            return f"{seconds / unit_s:.1f}".removesuffix(".0") + f" {name}"
    return f"{seconds:g} s"


def _models(found: FeaturesPlan) -> Iterator[str]:
    before, after = (each[:_SHOWN] for each in found.change.hashes)
    if not found.models:
        yield f"Models: as they are, the hash {after}… stays."
        return
    yield (
        f"Models to retrain and to deploy together with the list: {', '.join(found.models)} "
        f"(feature hash {before}… → {after}…)."
    )
    yield "  Workers with one list do not use models of the other."
