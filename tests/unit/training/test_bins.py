from bisect import bisect_left

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.drift import Bins, stability_index
from consumer.training.bins import count_bins


def bins_of(values: list[float] | np.ndarray[tuple[int], np.dtype[np.float32]]) -> Bins:
    column = np.asarray(values, np.float32)[:, None]
    return msgspec.convert(count_bins(["x"], column)["x"], type=Bins)


def test_a_smooth_feature_has_ten_equal_bins() -> None:
    bins = bins_of(np.random.default_rng(1).lognormal(size=10_000).astype(np.float32))
    assert bins.counts == (1000,) * 10


def test_a_value_that_fills_more_than_a_tenth_has_a_bin_of_its_own() -> None:
    bins = bins_of([0.0] * 95 + [1.0] * 5)
    assert (bins.edges, bins.counts) == ((0.5,), (95, 5))


def test_nine_tenths_at_the_highest_value_leave_the_rest_a_bin() -> None:
    bins = bins_of([40.0] * 100 + [2_592_000.0] * 960)
    assert bins.counts == (100, 960)
    assert bins_of([1.0, *[2.0] * 98, 3.0] + [4.0] * 1_000).counts == (100, 1_000)
    assert stability_index(bins.counts, (960, 100)) > 1


@given(st.lists(st.integers(0, 5), min_size=2, max_size=60))
def test_whatever_the_training_values_there_are_two_bins_and_all_are_counted(
    values: list[int],
) -> None:
    bins = bins_of([float(value) for value in values])
    assert len(bins.counts) >= 2
    assert sum(bins.counts) == len(values)
    if len(set(values)) > 1:
        assert sum(count > 0 for count in bins.counts) >= 2


def test_any_other_value_of_a_constant_feature_is_a_shift() -> None:
    bins = bins_of([3.0] * 1000)
    assert bins.counts == (0, 1000, 0)
    assert bisect_left(bins.edges, 3.0) == 1
    assert bisect_left(bins.edges, 3.1) == 2


def test_double_precision_falls_into_the_bin_of_its_training_value() -> None:
    values = np.round(np.random.default_rng(2).uniform(0, 1, 5_000), 1)
    bins = bins_of(values.astype(np.float32))
    live = [0] * len(bins.counts)
    for value in values.tolist():
        live[bisect_left(bins.edges, value)] += 1
    assert tuple(live) == bins.counts
    assert stability_index(bins.counts, live) == pytest.approx(0)
