"""
The Redis function library of a plan: constants, the engine, one function an entity.

The names carry a hash of the text, so that two plans, two horizons or two versions of
the engine live side by side in one Redis while workers are replaced one by one.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

from consumer.errors import Misconfigured, Problem
from consumer.features.grid import FINEST_PAGED_S, Window
from consumer.features.layout import MINIMA, PLACES, Layout, Standing, Standings
from consumer.features.plan import EntityPlan, Plan

HOT_AFTER = 128
_DAY_S = 86_400
_SHORTEST_HORIZON_S = 3_600
# In this order: each uses what stands above it.
_SOURCES = (
    "state.lua",
    "conversion.lua",
    "values.lua",
    "places.lua",
    "reading.lua",
    "compaction.lua",
    "applying.lua",
    "labelling.lua",
)
# Where the place in an argument begins, and the hashes without or after it; from 1.
_PLACE_AT, _PLACE_LENGTH, _HASH_LENGTH = 20, 8, 5
# An id is remembered until the period it fell in ends behind the horizon.
_PERIODS = 5


@dataclass(frozen=True, slots=True)
class Carried:
    """What an argument carries beside the event: its place, the hashes of *fields*."""

    place: bool
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Handler:
    """
    The function that observes an *entity*, whose *key* is that field of an event, and the
    one that takes its labels, None where none are counted.
    """

    entity: str
    key: str
    observe: str
    label: str | None
    carried: Carried


@dataclass(frozen=True, slots=True)
class Library:
    """
    What FUNCTION LOAD takes, and the handlers of each entity in the plan's order.

    After these come handlers of entities that other workers have, whose replies are
    a status alone.
    """

    name: str
    text: str
    handlers: tuple[Handler, ...]


def lifetime_s(plan: Plan, horizon_s: int) -> int:
    """Return how long a state of *plan* lives after its last event."""
    return plan.retention_s + horizon_s + _DAY_S


def build_library(
    plan: Plan,
    *,
    horizon_s: int,
    hot_after: int = HOT_AFTER,
    standings: Standings | None = None,
    answers: bool = True,
) -> Library:
    """
    Generate the library of *plan* for an id horizon of *horizon_s* seconds.

    An entity with more than *hot_after* ids within the horizon turns hot. *standings*
    tells former layouts; without them there is only what the plan needs. Without *answers*
    the state is the same, and a reply is a status alone. Raises
    Misconfigured for a horizon below an hour: the state numbers its fifths in 24 bits.
    """
    if horizon_s < _SHORTEST_HORIZON_S:
        found, expected = str(horizon_s), f"at least {_SHORTEST_HORIZON_S} s"
        raise Misconfigured([Problem("settings", "features.id_horizon_s", found, expected)])
    standings = standings or Standings()
    constants = {
        "HORIZON": horizon_s,
        "PERIOD": -(-horizon_s // _PERIODS),
        "HOT_AFTER": hot_after,
        "TTL": max(lifetime_s(plan, horizon_s), standings.lifetime_s),
        "PAGED": FINEST_PAGED_S,
    }
    head = "\n".join(f"local {name} = {value}" for name, value in constants.items())
    sources = files("consumer.features")
    engine = "\n".join(sources.joinpath(name).read_text("utf-8") for name in _SOURCES)
    parts = list(_parts(plan, horizon_s, standings, answers=answers))
    texts = [part.text for part in parts]
    digest = hashlib.sha256("\n".join([plan.hash, head, engine, *texts]).encode()).hexdigest()[:8]
    name = f"fraudstream_{digest}"
    handlers = tuple(part.handler(name) for part in parts)
    registrations = [
        f"do\n{part.text}{_register(handler.observe, 'observe')}"
        + (_register(handler.label, "label") if handler.label else "")
        + "end"
        for handler, part in zip(handlers, parts, strict=True)
    ]
    text = "\n".join([f"#!lua name={name}", head, engine, *registrations, ""])
    return Library(name, text, handlers)


def _register(function: str, handler: str) -> str:
    return (
        f"  redis.register_function('{function}', function(keys, args)\n"
        f"    return {handler}(e, keys[1], args[1])\n  end)\n"
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """The tables of one entity as Lua text, and what its handler is to say."""

    entity: str
    key: str
    labels: bool
    carried: Carried
    text: str

    def handler(self, library: str) -> Handler:
        observe = f"{library}_{self.entity}"
        label = f"{observe}_label" if self.labels else None
        return Handler(self.entity, self.key, observe, label, self.carried)


def _parts(plan: Plan, horizon_s: int, standings: Standings, *, answers: bool) -> Iterator[_Part]:
    for entity in plan.entities:
        layout = Layout.of(entity, horizon_s)
        standing = standings.own.get(entity.name) or Standing(layout.digest)
        yield _part(entity if answers else EntityPlan(entity.name, entity.key), layout, standing)
    for name, standing in standings.others.items():
        layout = standing.formers[standing.number]
        yield _part(
            EntityPlan(name, layout.key), layout, Standing(standing.number, standing.formers)
        )


def _part(entity: EntityPlan, layout: Layout, standing: Standing) -> _Part:
    active = None if standing.written is None else standing.formers[standing.written]
    layouts = [layout] if active is None else [layout, active]
    carried = Carried(
        any(each.places for each in layouts),
        tuple(dict.fromkeys(name for each in layouts for name, _ in each.distinct)),
    )
    formers = ", ".join(
        f"[{number}] = {_lua(_form(former))}" for number, former in standing.formers.items()
    )
    own = _written(layout, standing.number, carried, entity) | _answers(entity)
    own["placed"] = _true(carried.place)
    lines = [f"  local formers = {{ {formers} }}", f"  local e = {_lua(own)}"]
    if active is not None and standing.written is not None:
        nothing = EntityPlan(entity.name, active.key)
        written = _lua(_written(active, standing.written, carried, nothing))
        lines.append(f"  e.active = {written}")
    labels = any(each.labels for each in layouts)
    return _Part(entity.name, layout.key, labels, carried, "\n".join([*lines, ""]))


def _form(layout: Layout) -> dict[str, str | None]:
    """What tells the parts of a string apart; None where the layout has no such part."""
    kinds = [name for name, _ in layout.sections]
    return {
        "schema": str(layout.schema),
        "head": str(layout.head_bytes),
        "width": str(layout.row_bytes),
        "widths": _list([width for _, width in layout.sections]),
        "kinds": "{" + ", ".join(f"'{kind}'" for kind in kinds) + "}",
        "maxima": _true(layout.maxima),
        "labels": _true(layout.labels),
        "squares": str(layout.squares_at) if layout.squares else None,
        "lows": str(1 + kinds.index(MINIMA)) if layout.minima else None,
        "places": str(1 + kinds.index(PLACES)) if layout.places else None,
    }


def _written(
    layout: Layout, number: int, carried: Carried, entity: EntityPlan
) -> dict[str, str | None]:
    """What writing a state takes; *entity* has the windows of distinct values."""
    return _form(layout) | {
        "layout": str(number),
        "formers": "formers",
        "tracks": _tracks(layout, carried, entity),
        "cold_ages": _list(layout.cold.ages_s),
        "cold_grids": _list(layout.cold.grids_s),
        "hot_ages": _list(layout.hot.ages_s),
        "hot_grids": _list(layout.hot.grids_s),
        "kept": str(layout.kept_s),
    }


def _answers(entity: EntityPlan) -> dict[str, str | None]:
    """What answering from a state takes; an entity without features answers nothing."""
    return {
        "windows": _spans(entity.windows),
        "grids": _grids(entity.windows),
        "lagged": _spans(entity.lagged),
        "lagged_delays": _list([window.delay_s for window in entity.lagged]),
        "lagged_grids": _grids(entity.lagged),
        "max_windows": _spans(entity.max_windows),
        "max_grids": _grids(entity.max_windows),
        "min_windows": _spans(entity.min_windows),
        "min_grids": _grids(entity.min_windows),
        "slots": str(entity.slots),
        "reply": f"'<I1{'d' * entity.slots}'",
        "cap": None if entity.since_cap_s is None else str(entity.since_cap_s),
        "age_cap": None if entity.age_cap_s is None else str(entity.age_cap_s),
    }


def _tracks(layout: Layout, carried: Carried, entity: EntityPlan) -> str:
    """The distinct fields: their windows, their section, where an argument has their hash."""
    windows = {distinct.field: distinct.windows for distinct in entity.distinct}
    start = _PLACE_AT + _PLACE_LENGTH * carried.place
    tracks = [
        f"{{ section = {place}, at = {start + _HASH_LENGTH * carried.fields.index(name)}, "
        f"kept = {reach_s}, windows = {_spans(windows.get(name, ()))}, "
        f"grids = {_grids(windows.get(name, ()))} }}"
        for place, (name, reach_s) in enumerate(layout.distinct, start=1 + layout.minima)
    ]
    return "{" + ", ".join(tracks) + "}"


def _lua(fields: dict[str, str | None]) -> str:
    given = [f"{name} = {value}" for name, value in fields.items() if value is not None]
    return "{ " + ", ".join(given) + " }"


def _true(value: bool) -> str | None:  # noqa: FBT001
    return "true" if value else None


def _spans(windows: Sequence[Window]) -> str:
    return _list([window.span_s for window in windows])


def _grids(windows: Sequence[Window]) -> str:
    return _list([window.grid_s for window in windows])


def _list(values: Sequence[int]) -> str:
    return "{" + ", ".join(str(value) for value in values) + "}"
