from itertools import pairwise

import pytest

from consumer.features.grid import CHAIN_S, Window, cold_tiers, grid_s, hot_tiers, pages_kept_s

MINUTE, HOUR, DAY = 60, 3_600, 86_400


@pytest.mark.parametrize(
    ("window_s", "expected"),
    [
        (MINUTE, 1),
        (5 * MINUTE, 5),
        (HOUR - 1, 15),
        (HOUR, 60),
        (DAY - 1, 720),
        (DAY, 1_440),
        (7 * DAY, 7_200),
        (30 * DAY, 43_200),
    ],
)
def test_the_grid_of_a_window_is_at_most_a_sixtieth_of_it(window_s: int, expected: int) -> None:
    assert grid_s(window_s) == expected


def test_each_grid_divides_the_next() -> None:
    assert all(coarse % fine == 0 for fine, coarse in pairwise(CHAIN_S))


def test_a_cold_entity_keeps_a_grid_as_long_as_its_window_reaches() -> None:
    tiers = cold_tiers([Window.of(HOUR), Window.of(DAY)])
    assert tiers.ages_s == (HOUR + 60, DAY + 1_440)
    assert tiers.grids_s == (60, 1_440)


def test_windows_of_one_grid_share_a_tier() -> None:
    assert cold_tiers([Window.of(HOUR), Window.of(2 * HOUR)]).ages_s == (2 * HOUR + 60,)


def test_a_hot_entity_keeps_short_windows_a_quarter_longer_and_long_ones_for_late_reads() -> None:
    horizon = 90_000
    tiers = hot_tiers([Window.of(HOUR), Window.of(DAY), Window.of(7 * DAY)], [], horizon)
    assert tiers.ages_s == (HOUR + HOUR // 4, DAY + horizon + 7_200, 7 * DAY + horizon + 7_200)
    assert tiers.grids_s == (60, 1_440, 7_200)


def test_a_hot_entity_merges_no_coarser_than_its_pages_are_scanned() -> None:
    tiers = hot_tiers([Window.of(30 * DAY)], [], 90_000)
    assert (tiers.ages_s[0], tiers.grids_s[0]) == (pages_kept_s(90_000), 1_440)


def test_an_entity_without_windows_merges_as_coarsely_as_there_is() -> None:
    assert cold_tiers([]).grids_s == (43_200,)


def test_a_delayed_window_keeps_its_grid_until_its_far_edge_has_passed() -> None:
    late = Window.of(DAY, 7 * DAY)
    assert cold_tiers([late]).ages_s == (8 * DAY + 1_440,)
    assert hot_tiers([], [late], 90_000).ages_s == (8 * DAY + 1_440 + 90_000,)
