"""Which features are warming, and which rules wait for them, as commands show it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from consumer.errors import Misconfigured, Unavailable
from consumer.features.plan import Plan
from consumer.features.warming import reached_s
from consumer.features.warmth import format_until, full_from, needs_of
from consumer.inspection import read_warmth
from consumer.rules.compilation import CompiledRule
from consumer.settings import Settings

_Value = TypeVar("_Value", str, float)


@dataclass(frozen=True, slots=True)
class WarmingView:
    """
    Feature → until when it is warming, and rule → until when it is in shadow for that.

    Times are of events. ``unknown`` says why nothing is known, None when it is.
    """

    features: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)
    unknown: str | None = None


def view_warming(settings: Settings, plan: Plan, rules: Sequence[CompiledRule]) -> WarmingView:
    """Ask the server of entity state; one that does not answer is told, not raised."""
    try:
        record = read_warmth(settings)
    except (Unavailable, Misconfigured) as error:
        return WarmingView(unknown=str(error))
    reached = reached_s(record)
    full_s = full_from(needs_of(plan), record)
    until_s = {name: each for name, each in full_s.items() if each > reached}
    waiting = {
        each.rule.rule_id: max(until_s[name] for name in each.features & until_s.keys())
        for each in rules
        if settings.rules.warming == "shadow" and each.features & until_s.keys()
    }
    return WarmingView(
        {name: format_until(each) for name, each in until_s.items()},
        {name: format_until(each) for name, each in waiting.items()},
    )


def warming_lines(view: WarmingView) -> list[str]:
    """*view* for a person; nothing when everything is full."""
    if view.unknown is not None:
        return [f"which features are warming is not known: {view.unknown}"]
    return [
        *(f"warming until {until}: {names}" for until, names in names_by(view.features)),
        *(f"rules in shadow until {until}: {names}" for until, names in names_by(view.rules)),
    ]


def names_by(values: Mapping[str, _Value]) -> list[tuple[_Value, str]]:
    """Value → the names that share it, separated by commas; the least first."""
    return [
        (each, ", ".join(name for name in values if values[name] == each))
        for each in sorted(set(values.values()))
    ]
