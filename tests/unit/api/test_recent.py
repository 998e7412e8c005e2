"""The last two minutes of decisions."""

import pytest

from consumer.api.recent import Recent, quantile
from consumer.live_figures import SCORE_BANDS, Glimpse, Tally


def test_rows_tell_each_outcome_of_each_second_that_changed() -> None:
    recent = Recent()
    recent.count(Tally({(10, "approve"): 4, (11, "decline"): 1}), 10, 12, version=1)
    assert list(recent.changed_since(0)) == [[10, 4, 0, 0, None, None], [11, 0, 0, 1, None, None]]
    recent.count(Tally({(10, "approve"): 4, (11, "decline"): 2}), 10, 12, version=2)
    assert list(recent.changed_since(1)) == [[11, 0, 0, 2, None, None]]


def test_a_later_count_of_a_second_replaces_the_earlier_one() -> None:
    recent = Recent()
    recent.count(Tally({(10, "approve"): 4}, {(10, 3): 4}), 10, 11, version=1)
    recent.count(Tally({(10, "approve"): 5}, {(10, 3): 4, (10, 19): 1}), 10, 11, version=2)
    assert list(recent.changed_since(0)) == [[10, 5, 0, 0, None, None]]
    assert recent.scores() == [4 if band == 3 else int(band == 19) for band in range(SCORE_BANDS)]


def test_latencies_are_those_of_the_second_and_of_all() -> None:
    recent = Recent()
    recent.glimpse(10, [Glimpse(each, ()) for each in range(1, 101)], version=1)
    recent.glimpse(11, [Glimpse(1_000, ("fraud:timeout",))], version=1)
    assert [row[4:] for row in recent.changed_since(0)] == [[50, 99], [1_000, 1_000]]
    assert recent.latency() == {"p50": 51, "p95": 96, "p99": 100, "count": 101, "degraded": 1}


def test_old_seconds_are_dropped() -> None:
    recent = Recent()
    recent.count(Tally({(10, "approve"): 4}, {(10, 0): 4}), 10, 20, version=1)
    recent.forget_before(15)
    assert [row[0] for row in recent.changed_since(0)] == [15, 16, 17, 18, 19]
    assert sum(recent.scores()) == 0


def test_nothing_seen_is_told_as_nothing() -> None:
    recent = Recent()
    assert list(recent.changed_since(0)) == []
    assert recent.scores() == [0] * SCORE_BANDS
    assert recent.latency()["p99"] is None


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([7], 0.99, 7), ([1, 2], 0.5, 1), ([1, 2, 3], 0.5, 2), ([1, 2], 0.99, 2)],
)
def test_a_quantile_is_a_value_that_was_seen(
    values: list[int], share: float, expected: int | None
) -> None:
    assert quantile(values, share) == expected
