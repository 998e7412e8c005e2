"""
The grid on which the far edge of a window falls, and how long state needs which grid.

A window of W seconds read at time t covers the events in (⌊(t-W)/G⌋·G, t]. G grows
with W and is at most W/60, so that old state can be merged into cells of G seconds. The
grids nest (each divides the next): a boundary of a coarse one is a boundary of all.
A lagged window, which ends a delay D before t or counts labels, has both edges on its
grid: (⌊(t-D-W)/G⌋·G, ⌊(t-D)/G⌋·G].
"""

from collections.abc import Iterable
from dataclasses import dataclass

CHAIN_S = (1, 5, 15, 60, 240, 720, 1_440, 7_200, 43_200)
MINUTE_S = 60
DAY_S = 86_400
SHORTEST_S = MINUTE_S
LONGEST_S = 30 * DAY_S

# A hot entity answers late reads from raw events up to the next boundary of this grid,
# so it never merges coarser while they are kept: see pages_kept_s.
FINEST_PAGED_S = 1_440
PAGE_S = 7_200


def grid_s(window_s: int) -> int:
    """Return G for a window between SHORTEST_S and LONGEST_S: the largest of CHAIN_S ≤ W/60."""
    return max(grid for grid in CHAIN_S if grid * 60 <= window_s)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """*span_s* seconds that end *delay_s* before the reading time, edges on *grid_s*."""

    span_s: int
    delay_s: int
    grid_s: int

    @classmethod
    def of(cls, span_s: int, delay_s: int = 0) -> "Window":
        """Return a window on the grid that its length gives it."""
        return cls(span_s, delay_s, grid_s(span_s))

    @property
    def reach_s(self) -> int:
        """How far behind the reading time its far edge can lie."""
        return self.delay_s + self.span_s + self.grid_s


def pages_kept_s(horizon_s: int) -> int:
    """Return how far behind the newest event a hot entity's raw events reach."""
    return horizon_s + DAY_S + PAGE_S


@dataclass(frozen=True, slots=True)
class Tiers:
    """
    Which grid to keep at which age: ``grids_s[i]`` below ``ages_s[i]`` seconds, the last
    one beyond. Both ascend.
    """

    ages_s: tuple[int, ...]
    grids_s: tuple[int, ...]


def cold_tiers(windows: Iterable[Window]) -> Tiers:
    """
    Return the grids of an entity that can be read late from its rows alone.

    Ages count from the id horizon, behind which nobody reads: an edge of a window is
    then asked for at an age below its reach at most.
    """
    return _tiers({(window.reach_s, window.grid_s) for window in windows})


def hot_tiers(windows: Iterable[Window], lagged: Iterable[Window], horizon_s: int) -> Tiers:
    """
    Return the grids of an entity that compacts at once; ages count from its newest event.

    Windows below a day keep their boundaries a quarter longer than reads on time need;
    a later read takes the missing part from raw events. Longer windows outlive the raw
    events and *lagged* ones are never read from them, so these keep their boundaries for
    every read that the horizon allows.
    """
    tiers = {(pages_kept_s(horizon_s), FINEST_PAGED_S)}
    for window in windows:
        short = window.span_s < DAY_S
        age = window.span_s + window.span_s // 4 if short else window.reach_s + horizon_s
        tiers.add((age, window.grid_s))
    tiers |= {(window.reach_s + horizon_s, window.grid_s) for window in lagged}
    return _tiers(tiers)


def _tiers(needed: set[tuple[int, int]]) -> Tiers:
    """Merge (age, grid) pairs: below each age the finest grid that is needed there or later."""
    ages: list[int] = []
    grids: list[int] = []
    for age, _ in sorted(needed):
        grid = min(grid for other, grid in needed if other >= age)
        if grids and grids[-1] == grid:
            ages[-1] = age
        else:
            ages.append(age)
            grids.append(grid)
    if not grids:
        return Tiers((0,), (CHAIN_S[-1],))
    return Tiers(tuple(ages), tuple(grids))
