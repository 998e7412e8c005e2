"""
The Redis function library of a plan: constants, the engine, one function an entity.

The names carry a hash of the text, so that two plans, two horizons or two versions of
the engine live side by side in one Redis while workers are replaced one by one.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from consumer.errors import Misconfigured, Problem
from consumer.features.grid import Tiers, cold_tiers, hot_tiers
from consumer.features.plan import EntityPlan, Plan

HOT_AFTER = 128
# State of counts, sums and maxima alone is written as the first schema was.
_PLAIN_SCHEMA, _SCHEMA = 1, 2
_DAY_S = 86_400
_SHORTEST_HORIZON_S = 3_600
# In this order: each uses what stands above it.
_SOURCES = (
    "state.lua",
    "values.lua",
    "places.lua",
    "reading.lua",
    "compaction.lua",
    "applying.lua",
    "labelling.lua",
)
_HEAD_BYTES, _ROW_BYTES, _LABELS_BYTES, _SQUARES_BYTES = 21, 13, 3, 12
_PEAK_BYTES, _VALUE_BYTES, _PLACE_BYTES = 10, 9, 12
# Where the places in an argument begin, and the hashes without or after them; from 1.
_PLACE_AT, _PLACE_LENGTH, _HASH_LENGTH = 20, 8, 5
# An id is remembered until the period it fell in ends behind the horizon.
_PERIODS = 5


@dataclass(frozen=True, slots=True)
class Library:
    """
    What FUNCTION LOAD takes, and the functions of each entity in the plan's order.

    ``label_functions`` are those that count labels, None where none are counted.
    """

    name: str
    text: str
    functions: tuple[str, ...]
    label_functions: tuple[str | None, ...]


def build_library(plan: Plan, *, horizon_s: int, hot_after: int = HOT_AFTER) -> Library:
    """
    Generate the library of *plan* for an id horizon of *horizon_s* seconds.

    An entity with more than *hot_after* ids within the horizon turns hot. Raises
    Misconfigured for a horizon below an hour: the state numbers its fifths in 24 bits.
    """
    if horizon_s < _SHORTEST_HORIZON_S:
        found, expected = str(horizon_s), f"at least {_SHORTEST_HORIZON_S} s"
        raise Misconfigured([Problem("settings", "features.id_horizon_s", found, expected)])
    constants = {
        "HORIZON": horizon_s,
        "PERIOD": -(-horizon_s // _PERIODS),
        "HOT_AFTER": hot_after,
        "TTL": plan.retention_s + horizon_s + _DAY_S,
    }
    head = "\n".join(f"local {name} = {value}" for name, value in constants.items())
    sources = files("consumer.features")
    engine = "\n".join(sources.joinpath(name).read_text("utf-8") for name in _SOURCES)
    tables = [_table(entity, horizon_s) for entity in plan.entities]
    digest = hashlib.sha256("\n".join([plan.hash, head, engine, *tables]).encode()).hexdigest()[:8]
    name = f"fraudstream_{digest}"
    functions = tuple(f"{name}_{entity.name}" for entity in plan.entities)
    label_functions = tuple(
        f"{function}_label" if entity.labels else None
        for entity, function in zip(plan.entities, functions, strict=True)
    )
    registrations = [
        f"do\n  local e = {table}\n{_register(function, 'observe')}"
        + (_register(label_function, "label") if label_function else "")
        + "end"
        for function, label_function, table in zip(functions, label_functions, tables, strict=True)
    ]
    text = "\n".join([f"#!lua name={name}", head, engine, *registrations, ""])
    return Library(name, text, functions, label_functions)


def _register(function: str, handler: str) -> str:
    return (
        f"  redis.register_function('{function}', function(keys, args)\n"
        f"    return {handler}(e, keys[1], args[1])\n  end)\n"
    )


def _table(entity: EntityPlan, horizon_s: int) -> str:
    """Return the constants of one entity as a Lua table, its layout id among them."""
    ladders = (*entity.max_windows, *entity.min_windows)
    windows = sorted({*entity.windows, *ladders})
    cold = cold_tiers([*windows, *entity.lagged])
    hot = hot_tiers(windows, entity.lagged, horizon_s)
    reaches = [window.reach_s for window in (*windows, *entity.lagged)]
    kept = max([*reaches, entity.since_cap_s or 0])
    schema, layout = _layout(entity, horizon_s, cold, hot, kept)
    extra = _LABELS_BYTES * entity.labels + _SQUARES_BYTES * entity.squares
    widths = _widths(entity)
    fields = {
        "schema": str(schema),
        "layout": str(layout),
        "head": str(_HEAD_BYTES + _ROW_BYTES - 4 + extra + 2 * len(widths)),
        "width": str(_ROW_BYTES + extra),
        "widths": _list(widths),
        "windows": _list([window.span_s for window in entity.windows]),
        "grids": _list([window.grid_s for window in entity.windows]),
        "lagged": _list([window.span_s for window in entity.lagged]),
        "lagged_delays": _list([window.delay_s for window in entity.lagged]),
        "lagged_grids": _list([window.grid_s for window in entity.lagged]),
        "max_windows": _list([window.span_s for window in entity.max_windows]),
        "max_grids": _list([window.grid_s for window in entity.max_windows]),
        "min_windows": _list([window.span_s for window in entity.min_windows]),
        "min_grids": _list([window.grid_s for window in entity.min_windows]),
        "tracks": _tracks(entity),
        "cold_ages": _list(cold.ages_s),
        "cold_grids": _list(cold.grids_s),
        "hot_ages": _list(hot.ages_s),
        "hot_grids": _list(hot.grids_s),
        "kept": str(kept),
        "slots": str(entity.slots),
        "reply": f"'<I1{'d' * entity.slots}'",
    }
    options = {
        "cap": entity.since_cap_s,
        "age_cap": entity.age_cap_s,
        "labels": "true" if entity.labels else None,
        # Where the squares stand within the totals of a row.
        "squares": _ROW_BYTES - 4 + _LABELS_BYTES * entity.labels if entity.squares else None,
        "lows": 1 if entity.min_windows else None,
        "places": len(widths) if entity.places else None,
    }
    fields |= {name: str(value) for name, value in options.items() if value is not None}
    return "{ " + ", ".join(f"{name} = {value}" for name, value in fields.items()) + " }"


def _layout(
    entity: EntityPlan, horizon_s: int, cold: Tiers, hot: Tiers, kept: int
) -> tuple[int, int]:
    """
    Return the schema, and the hash of what the bytes of a state depend on.

    Another answer from the same bytes does not count.
    """
    maxima = bool(entity.max_windows)
    tracks = [
        bool(entity.min_windows),
        entity.squares,
        entity.labels,
        [(distinct.field, distinct.reach_s) for distinct in entity.distinct],
        entity.places,
    ]
    plain = not any(tracks)
    schema = _PLAIN_SCHEMA if plain else _SCHEMA
    layout = [schema, horizon_s, maxima, _pairs(cold), _pairs(hot), kept]
    if not plain:
        layout += tracks
    digest = hashlib.sha256(json.dumps(layout).encode()).digest()
    return schema, int.from_bytes(digest[:2], "little")


def _widths(entity: EntityPlan) -> list[int]:
    """Bytes of an entry of each further section: minima, distinct fields, places."""
    minima = [_PEAK_BYTES] if entity.min_windows else []
    places = [_PLACE_BYTES] if entity.places else []
    return [*minima, *[_VALUE_BYTES] * len(entity.distinct), *places]


def _tracks(entity: EntityPlan) -> str:
    """The distinct fields: their windows, their section, where an argument has their hash."""
    first = 2 if entity.min_windows else 1
    start = _PLACE_AT + _PLACE_LENGTH * entity.places
    tracks = [
        f"{{ section = {first + index}, at = {start + _HASH_LENGTH * index}, "
        f"kept = {distinct.reach_s}, "
        f"windows = {_list([window.span_s for window in distinct.windows])}, "
        f"grids = {_list([window.grid_s for window in distinct.windows])} }}"
        for index, distinct in enumerate(entity.distinct)
    ]
    return "{" + ", ".join(tracks) + "}"


def _pairs(tiers: Tiers) -> list[tuple[int, int]]:
    return list(zip(tiers.ages_s, tiers.grids_s, strict=True))


def _list(values: Sequence[int]) -> str:
    return "{" + ", ".join(str(value) for value in values) + "}"
