"""How many bytes the state of an entity takes, reckoned from its layout."""

from math import log

from consumer.features.grid import Tiers
from consumer.features.layout import Layout

# MEMORY USAGE on Redis 8.2 less what was allocated for the string.
_KEY_BYTES = 48
_ID_BYTES, _PEAK_BYTES, _VALUE_BYTES, _PLACE_BYTES = 11, 10, 9, 12
_MOST_IDS, _MOST_VALUES, _MOST_PLACES = 128, 128, 16
# An id is forgotten with the fifth of the horizon that it fell in.
_IDS_KEPT = 1.2


def state_bytes(layout: Layout, events: int) -> int:
    """
    Reckon what Redis needs for an entity with *events* purchases, key included.

    They lie evenly over the time for which rows are kept, and each brings a new value to
    every distinct field, so that a real entity takes less as a rule. What a hot entity keeps
    beside its string is left out.
    """
    spacing_s = max(layout.kept_s, 1) / events
    ages_s = [number * spacing_s for number in range(events)]
    late = sum(age_s < layout.horizon_s for age_s in ages_s)
    ids = min(events, int(late * _IDS_KEPT))
    hot = late > _MOST_IDS
    rows = _rows(ages_s, layout.hot if hot else layout.cold, 0 if hot else layout.horizon_s)
    unsettled = 0 if hot else late
    peaks = min(rows, unsettled + int(log(events)) + 1)
    size = layout.head_bytes + rows * layout.row_bytes + (0 if hot else ids * _ID_BYTES)
    size += (layout.maxima + layout.minima) * peaks * _PEAK_BYTES
    for _, reach_s in layout.distinct:
        sights = sum(age_s < reach_s for age_s in ages_s)
        size += min(sights, _values(sights) + unsettled) * _VALUE_BYTES
    size += layout.places * min(events, _MOST_PLACES) * _PLACE_BYTES
    return _KEY_BYTES + _allocated(size)


def _values(sights: int) -> int:
    """How many of so many different values are among the smallest hashes of all after them."""
    if sights <= _MOST_VALUES:
        return sights
    return int(_MOST_VALUES * (1 + log(sights / _MOST_VALUES)))


def _allocated(size: int) -> int:
    """The size class of jemalloc, of which there are four in each doubling."""
    step = max(16, 1 << (max(size - 1, 1).bit_length() - 3))
    return -(-size // step) * step


def _rows(ages_s: list[float], tiers: Tiers, settled_s: int) -> int:
    """How many rows events of *ages_s* leave: one a cell, and one each while not settled."""
    cells = set()
    for age_s in ages_s:
        grid_s = 1 if age_s <= settled_s else _grid_at(tiers, age_s - settled_s)
        cells.add((grid_s, int(age_s / grid_s)))
    return len(cells)


def _grid_at(tiers: Tiers, age_s: float) -> int:
    for end_s, grid_s in zip(tiers.ages_s, tiers.grids_s, strict=True):
        if age_s < end_s:
            return grid_s
    return tiers.grids_s[-1]
