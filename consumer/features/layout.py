"""
What the bytes of an entity's state depend on, and how a layout is described in Redis.

A layout outlives the plan that asked for it: its description is all that another plan
needs to convert its states, and to go on writing them while workers with the former
plan are alive.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from consumer.features.grid import Tiers, cold_tiers, hot_tiers
from consumer.features.plan import DISTINCT_FIELDS, ENTITY_FIELDS, EntityPlan

# State of counts, sums and maxima alone is written as the first schema was.
_PLAIN_SCHEMA, _SCHEMA = 1, 2
# Of the description; one of a newer engine is not read but left alone.
_VERSION = 1
_HEAD_BYTES, _ROW_BYTES, _LABELS_BYTES, _SQUARES_BYTES = 21, 13, 3, 12
_PEAK_BYTES, _VALUE_BYTES, _PLACE_BYTES = 10, 9, 12

MINIMA, PLACES = "minima", "places"


@dataclass(frozen=True, slots=True)
class Layout:
    """
    The sections, columns and grids of an entity's state; *key* is the event field that
    names the entity, ``distinct`` the counted fields and how far each reaches, in seconds.
    """

    key: str
    horizon_s: int
    maxima: bool
    minima: bool
    squares: bool
    labels: bool
    distinct: tuple[tuple[str, int], ...]
    places: bool
    cold: Tiers
    hot: Tiers
    kept_s: int

    @classmethod
    def of(cls, entity: EntityPlan, horizon_s: int) -> "Layout":
        """Return what the state of *entity* needs with an id horizon of *horizon_s*."""
        windows = {*entity.windows, *entity.max_windows, *entity.min_windows}
        reaches = [window.reach_s for window in (*windows, *entity.lagged)]
        return cls(
            key=entity.key,
            horizon_s=horizon_s,
            maxima=bool(entity.max_windows),
            minima=bool(entity.min_windows),
            squares=entity.squares,
            labels=entity.labels,
            distinct=tuple((distinct.field, distinct.reach_s) for distinct in entity.distinct),
            places=entity.places,
            cold=cold_tiers([*windows, *entity.lagged]),
            hot=hot_tiers(windows, entity.lagged, horizon_s),
            kept_s=max([*reaches, entity.since_cap_s or 0]),
        )

    @property
    def plain(self) -> bool:
        """Whether counts, sums, maxima and times are all that is kept."""
        return not (self.minima or self.squares or self.labels or self.distinct or self.places)

    @property
    def schema(self) -> int:
        """The first byte of a state."""
        return _PLAIN_SCHEMA if self.plain else _SCHEMA

    @property
    def digest(self) -> int:
        """16 bits of a hash: the number of the layout, where nothing else has that number."""
        parts: list[object] = [self.schema, self.horizon_s, self.maxima]
        parts += [_pairs(self.cold), _pairs(self.hot), self.kept_s]
        if not self.plain:
            parts += [self.minima, self.squares, self.labels, self.distinct, self.places]
        digest = hashlib.sha256(json.dumps(parts).encode()).digest()
        return int.from_bytes(digest[:2], "little")

    @property
    def sections(self) -> tuple[tuple[str, int], ...]:
        """Name and bytes of an entry of each section behind the peaks."""
        minima = ((MINIMA, _PEAK_BYTES),) if self.minima else ()
        values = tuple((f"values of {name}", _VALUE_BYTES) for name, _ in self.distinct)
        return (*minima, *values, *(((PLACES, _PLACE_BYTES),) if self.places else ()))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return _ROW_BYTES + _LABELS_BYTES * self.labels + _SQUARES_BYTES * self.squares

    @property
    def head_bytes(self) -> int:
        """Bytes of the head, the base totals and the lengths of the sections."""
        return _HEAD_BYTES + self.row_bytes - 4 + 2 * len(self.sections)

    @property
    def squares_at(self) -> int:
        """Where the squares stand within the totals of a row."""
        return _ROW_BYTES - 4 + _LABELS_BYTES * self.labels

    def describe(self) -> str:
        """Return the description, equal for equal layouts."""
        document = {
            "version": _VERSION,
            "key": self.key,
            "horizon_s": self.horizon_s,
            "maxima": self.maxima,
            "minima": self.minima,
            "squares": self.squares,
            "labels": self.labels,
            "distinct": self.distinct,
            "places": self.places,
            "cold": _pairs(self.cold),
            "hot": _pairs(self.hot),
            "kept_s": self.kept_s,
        }
        return json.dumps(document, sort_keys=True, separators=(",", ":"))


def read_layout(description: str) -> Layout | None:
    """Return the layout that is described; None for one that this version does not know."""
    try:
        document = json.loads(description)
        if document.pop("version") != _VERSION:
            return None
        distinct = tuple((str(name), int(reach_s)) for name, reach_s in document.pop("distinct"))
        cold, hot = _tiers(document.pop("cold")), _tiers(document.pop("hot"))
        layout = Layout(distinct=distinct, cold=cold, hot=hot, **document)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
    fields = {name for name, _ in distinct}
    known = layout.key in ENTITY_FIELDS and fields <= set(DISTINCT_FIELDS)
    return layout if known and layout.describe() == description else None


@dataclass(frozen=True, slots=True)
class Standing:
    """
    The layouts of one entity: the *number* of its own, the *formers* that states may have,
    by number, and which of these is still *written*, None where its own is.
    """

    number: int
    formers: Mapping[int, Layout] = field(default_factory=dict)
    written: int | None = None


@dataclass(frozen=True, slots=True)
class Standings:
    """
    The layouts of each entity of a plan by its name, and of those that only other living
    workers have, whose states are kept for them in the layout *written* there.

    ``lifetime_s`` is that of the states of whoever keeps them longest; ``settled``, whether
    every worker knows what is written now.
    """

    own: Mapping[str, Standing] = field(default_factory=dict)
    others: Mapping[str, Standing] = field(default_factory=dict)
    lifetime_s: int = 0
    settled: bool = True

    @property
    def upgrading(self) -> bool:
        """Whether someone still writes a former layout."""
        former = any(standing.written is not None for standing in self.own.values())
        return former or not self.settled


def _pairs(tiers: Tiers) -> list[tuple[int, int]]:
    return list(zip(tiers.ages_s, tiers.grids_s, strict=True))


def _tiers(pairs: list[tuple[int, int]]) -> Tiers:
    return Tiers(tuple(age for age, _ in pairs), tuple(grid for _, grid in pairs))
