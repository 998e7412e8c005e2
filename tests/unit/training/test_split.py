from collections.abc import Sequence

import numpy as np
import pytest

from consumer.errors import Misconfigured
from consumer.training.dataset_file import NEVER_MS, Index
from consumer.training.settings import SplitSettings
from consumer.training.split import Period, divide, usable

DAY_MS = 86_400_000
FIRST_MS = 20_000 * DAY_MS


def an_index(
    days: int = 60, labels: Sequence[int] | None = None, label_days: Sequence[int] | None = None
) -> Index:
    """A row a day at noon, legitimate unless *labels* say otherwise."""
    times = FIRST_MS + np.arange(days, dtype=np.int64) * DAY_MS + DAY_MS // 2
    known = (
        np.full(days, NEVER_MS)
        if label_days is None
        else FIRST_MS + np.array(label_days, np.int64) * DAY_MS
    )
    told = np.zeros(days, np.int8) if labels is None else np.array(labels, np.int8)
    newest = int(max(times.max(), *known[known != NEVER_MS], 0))
    return Index(times, told, known, np.arange(days), newest)


def days_of(period: Period) -> tuple[float, float]:
    return (period.first_ms - FIRST_MS) / DAY_MS, (period.end_ms - FIRST_MS) / DAY_MS


def settings(**values: object) -> SplitSettings:
    return SplitSettings.model_validate(values)


def test_a_gap_lies_between_training_and_validation() -> None:
    split = divide(an_index(), settings(validation="10d"))
    assert days_of(split.train) == pytest.approx((0.5, 42.5))
    assert days_of(split.validation) == pytest.approx((49.5, 59.5))
    assert split.test is None
    assert split.trained_ms == split.validation.first_ms
    assert split.validated_ms == NEVER_MS


def test_a_test_lies_at_the_end_behind_another_gap() -> None:
    split = divide(an_index(), settings(validation="10d", test="7d"))
    assert split.test is not None
    assert days_of(split.test) == pytest.approx((52.5, 59.5))
    assert days_of(split.validation) == pytest.approx((35.5, 45.5))
    assert days_of(split.train) == pytest.approx((0.5, 28.5))
    assert split.validated_ms == split.test.first_ms
    near = divide(an_index(), settings(validation="10d", test="7d", test_gap="0s"))
    assert days_of(near.validation) == pytest.approx((42.5, 52.5))


def test_parts_may_be_shares_and_the_time_may_be_cut() -> None:
    split = divide(an_index(), settings(validation=0.25, gap="0s", warm_up="19d"))
    assert days_of(split.train) == pytest.approx((19.5, 49.5))
    cut = divide(
        an_index(),
        settings(train_from=FIRST_MS + 10 * DAY_MS, until=FIRST_MS + 50 * DAY_MS, validation="10d"),
    )
    assert days_of(cut.train) == pytest.approx((10, 33))
    assert days_of(cut.validation) == pytest.approx((40, 50))


def test_a_row_without_a_label_is_used_once_it_had_time_to_get_one() -> None:
    index = an_index(20, labels=[-1] * 20)
    assert usable(index, settings(gap="7d")).tolist() == [True] * 13 + [False] * 7
    assert not usable(index, settings(unlabelled="leave_out")).any()
    late = an_index(20, labels=[1] + [-1] * 19, label_days=[30] * 20)
    assert usable(late, settings(gap="7d")).all()
    assert usable(late, settings(unlabelled="leave_out")).sum() == 1


def test_a_young_fraud_waits_as_long_as_its_neighbours_that_nobody_spoke_of() -> None:
    told = [-1] * 19 + [1]
    assert not usable(an_index(20, labels=told), settings(gap="7d"))[-1]


def test_where_every_row_has_a_label_none_is_too_young() -> None:
    assert usable(an_index(20), settings(gap="7d")).all()


def refused(index: Index, **values: object) -> str:
    with pytest.raises(Misconfigured) as caught:
        divide(index, settings(**values))
    (problem,) = caught.value.problems
    return str(problem)


def test_a_history_that_is_too_short_is_told_in_dates() -> None:
    said = refused(an_index(10), validation="5d")
    assert "no time for training before the gap of 7 days" in said
    assert "2024-10-04T12:00:00.000Z to 2024-10-13T12:00:00.000Z, 9.0 days" in said
    assert "no rows old enough" in refused(an_index(3, labels=[-1] * 3))


def test_an_empty_part_is_named() -> None:
    index = an_index()
    kept = (index.times_ms < FIRST_MS + 40 * DAY_MS) | (index.times_ms > FIRST_MS + 59 * DAY_MS)
    cut = Index(
        index.times_ms[kept],
        index.labels[kept],
        index.label_times_ms[kept],
        index.keys[kept],
        index.as_of_ms,
    )
    assert "split.validation: found no rows from" in refused(cut, validation="5d", test="6d")
