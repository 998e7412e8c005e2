"""
Which part of the time is for what.

Training, a gap, validation, a gap, test, one after the other. A model that is trained at the
beginning of validation knows the labels that had come by then and no others: a row of the
days before it would be learnt as legitimate although its chargeback was only under way,
which is what the gap leaves out.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from consumer.errors import Misconfigured, Problem
from consumer.training.dataset_file import NEVER_MS, Index, format_time
from consumer.training.settings import SplitSettings

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Period:
    """From ``first_ms`` on and before ``end_ms``, in milliseconds since the epoch."""

    first_ms: int
    end_ms: int

    def holds(self, times_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Say which of *times_ms* lie in it."""
        return (times_ms >= self.first_ms) & (times_ms < self.end_ms)

    def __str__(self) -> str:
        return f"{format_time(self.first_ms)} to {format_time(self.end_ms)}"


@dataclass(frozen=True, slots=True)
class Split:
    """
    The parts, and when each of them is used: labels that came later are not known then.

    ``validated_ms`` is that moment for the validation; the test is judged with every label.
    """

    train: Period
    validation: Period
    test: Period | None
    validated_ms: int

    @property
    def trained_ms(self) -> int:
        """When the training rows are used."""
        return self.validation.first_ms

    @property
    def all_before_test(self) -> Period:
        """Training, gap and validation together."""
        return Period(self.train.first_ms, self.validation.end_ms)


def usable(index: Index, settings: SplitSettings) -> npt.NDArray[np.bool_]:
    """
    Say which rows may be used: those that had time to get a label.

    Where only frauds are told, a young row without a label may be one, and a young row with
    one surely is: using the second kind alone would make frauds of most young rows. Where
    every row has a label none is too young.
    """
    labelled = index.labels >= 0
    if settings.unlabelled == "leave_out" or labelled.all():
        return labelled
    return index.times_ms <= index.as_of_ms - settings.gap * 1000


def divide(index: Index, settings: SplitSettings) -> Split:
    """
    Divide the time of the usable rows of *index*.

    Raises Misconfigured where nothing is left for training, and where a part holds no rows.
    """
    times = index.times_ms[usable(index, settings)]
    if not len(times):
        raise _problem("split", "no rows old enough to have their label", "a longer history")
    first = max(int(times.min()) + settings.warm_up * 1000, settings.train_from or 0)
    end = int(times.max()) + 1
    end = end if settings.until is None else min(end, settings.until)
    test_ms = _milliseconds(settings.test, end - first)
    gap_ms = settings.gap * 1000
    test_gap_ms = gap_ms if settings.test_gap is None else settings.test_gap * 1000
    test = Period(end - test_ms, end) if test_ms else None
    validation_end = end - test_ms - test_gap_ms if test else end
    validation_ms = _milliseconds(settings.validation, end - first)
    validation = Period(validation_end - validation_ms, validation_end)
    train = Period(first, validation.first_ms - gap_ms)
    split = Split(train, validation, test, end - test_ms if test else NEVER_MS)
    _check(split, times, settings)
    return split


def _milliseconds(length: float, whole_ms: int) -> int:
    """Take a share of *whole_ms*, or seconds, in milliseconds."""
    return round(length * whole_ms) if length < 1 else round(length * 1000)


def _check(split: Split, times: npt.NDArray[np.int64], settings: SplitSettings) -> None:
    first, last = int(times.min()), int(times.max())
    reach = f"the rows reach from {format_time(first)} to {format_time(last)}"
    if split.train.end_ms <= split.train.first_ms:
        found = f"no time for training before the gap of {settings.gap / 86_400:g} days; {reach}"
        expected = "a longer history, or a shorter gap, validation or test"
        raise _problem("split", f"{found}, {(last - first) / _DAY_MS:.1f} days", expected)
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    for name, period in parts.items():
        if period is not None and not period.holds(times).any():
            raise _problem(f"split.{name}", f"no rows from {period}; {reach}", "rows in each part")


def _problem(key: str, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem("training", key, found, expected)])
