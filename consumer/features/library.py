"""
The Redis function library of a plan: constants, the engine, one function an entity.

The names carry a hash of the text, so that two plans, two horizons or two versions of
the engine live side by side in one Redis while workers are replaced one by one.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files

from consumer.errors import Misconfigured, Problem
from consumer.features.grid import Tiers, cold_tiers, grid_s, hot_tiers
from consumer.features.plan import EntityPlan, Plan

HOT_AFTER = 128
SCHEMA = 1
_DAY_S = 86_400
_SHORTEST_HORIZON_S = 3_600
# In this order: each uses what stands above it.
_SOURCES = ("state.lua", "reading.lua", "compaction.lua", "applying.lua")
# An id is remembered until the period it fell in ends behind the horizon.
_PERIODS = 5


@dataclass(frozen=True, slots=True)
class Library:
    """What FUNCTION LOAD takes, and the function of each entity in the plan's order."""

    name: str
    text: str
    functions: tuple[str, ...]


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
        "TTL": plan.longest_window_s + horizon_s + _DAY_S,
    }
    head = "\n".join(f"local {name} = {value}" for name, value in constants.items())
    sources = files("consumer.features")
    engine = "\n".join(sources.joinpath(name).read_text("utf-8") for name in _SOURCES)
    tables = [_table(entity, horizon_s) for entity in plan.entities]
    digest = hashlib.sha256("\n".join([plan.hash, head, engine, *tables]).encode()).hexdigest()[:8]
    name = f"fraudstream_{digest}"
    functions = tuple(f"{name}_{entity.name}" for entity in plan.entities)
    registrations = [
        f"do\n  local e = {table}\n"
        f"  redis.register_function('{function}', function(keys, args)\n"
        "    return observe(e, keys[1], args[1])\n  end)\nend"
        for function, table in zip(functions, tables, strict=True)
    ]
    text = "\n".join([f"#!lua name={name}", head, engine, *registrations, ""])
    return Library(name, text, functions)


def _table(entity: EntityPlan, horizon_s: int) -> str:
    """Return the constants of one entity as a Lua table, its layout id among them."""
    windows = sorted({*entity.windows_s, *entity.max_windows_s})
    cold, hot = cold_tiers(windows), hot_tiers(windows, horizon_s)
    kept = max([window + grid_s(window) for window in windows] + [entity.since_cap_s or 0])
    # What the bytes of a state depend on; another answer from the same bytes does not count.
    layout = [SCHEMA, horizon_s, bool(entity.max_windows_s), _pairs(cold), _pairs(hot), kept]
    digest = hashlib.sha256(json.dumps(layout).encode()).digest()
    fields = {
        "layout": str(int.from_bytes(digest[:2], "little")),
        "windows": _list(entity.windows_s),
        "grids": _list(tuple(grid_s(window) for window in entity.windows_s)),
        "max_windows": _list(entity.max_windows_s),
        "max_grids": _list(tuple(grid_s(window) for window in entity.max_windows_s)),
        "cold_ages": _list(cold.ages_s),
        "cold_grids": _list(cold.grids_s),
        "hot_ages": _list(hot.ages_s),
        "hot_grids": _list(hot.grids_s),
        "kept": str(kept),
        "slots": str(entity.slots),
        "reply": f"'<I1{'d' * entity.slots}'",
    }
    if entity.since_cap_s is not None:
        fields["cap"] = str(entity.since_cap_s)
    return "{ " + ", ".join(f"{name} = {value}" for name, value in fields.items()) + " }"


def _pairs(tiers: Tiers) -> list[tuple[int, int]]:
    return list(zip(tiers.ages_s, tiers.grids_s, strict=True))


def _list(values: tuple[int, ...]) -> str:
    return "{" + ", ".join(str(value) for value in values) + "}"
