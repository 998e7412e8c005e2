"""What makes a case fail, and what its result says."""

import pytest

from tests.chaos.checker import Difference, Kind
from tests.chaos.registry import Case, Seen, Tier, judge

CASE = Case("group/a case", Tier.WORKER, "nothing is lost", lambda: None)


def test_a_case_passes_when_something_was_injected_and_nothing_differs() -> None:
    result = judge(CASE, Seen(3, 1.5, 100, [], 2.0))
    assert result.failure == ""
    assert (result.injected, result.sent, result.lost, result.extra) == (3, 100, 0, 0)


def test_a_case_in_which_nothing_was_injected_fails() -> None:
    assert "nothing was injected" in judge(CASE, Seen(0, None, 100, [], 2.0)).failure


@pytest.mark.parametrize("kind", Kind)
def test_one_difference_of_any_kind_fails_a_case_and_is_counted(kind: Kind) -> None:
    result = judge(CASE, Seen(1, None, 100, [Difference(kind, "one thing")], 2.0))
    assert "nothing is lost" in result.failure
    assert "one thing" in result.failure
    counted = {
        Kind.LOST: result.lost,
        Kind.DOUBLE: result.double_counted,
        Kind.EXTRA: result.extra,
    }
    assert counted == {each: int(each is kind) for each in Kind}


def test_what_a_case_raised_fails_it() -> None:
    assert judge(CASE, Seen(1, None, 100, [], 2.0, "it raised")).failure == "it raised"


def test_no_progress_after_the_last_injection_is_no_recovery_of_zero_seconds() -> None:
    assert judge(CASE, Seen(1, None, 100, [], 2.0)).as_json()["recovered_s"] is None
