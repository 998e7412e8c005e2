import pytest

from consumer.breaker import Breaker, BreakerPolicy, BreakerState, Permit

POLICY = BreakerPolicy(window=4, minimum=3, failure_share=0.5, slow_share=1.0, open_s=5.0, probes=2)


def call(breaker: Breaker, now_s: float, *, failed: bool = False, slow: bool = False) -> None:
    permit = breaker.permit(now_s)
    assert permit is not None
    breaker.record(permit, now_s, failed=failed, slow=slow)


def state_of(breaker: Breaker) -> BreakerState:
    """The state; through a function, since the type checker takes it to last."""
    return breaker.state


def opened(at_s: float = 0.0) -> Breaker:
    breaker = Breaker(POLICY)
    for _ in range(3):
        call(breaker, at_s, failed=True)
    assert state_of(breaker) is BreakerState.OPEN
    return breaker


def probes(breaker: Breaker, now_s: float) -> list[Permit]:
    """Every call it lets through now; it may be asked as often as one likes."""
    asked = [breaker.permit(now_s) for _ in range(10)]
    return [permit for permit in asked if permit is not None]


def test_a_few_failures_alone_are_too_few_to_judge_by() -> None:
    breaker = Breaker(POLICY)
    call(breaker, 0.0, failed=True)
    call(breaker, 0.0, failed=True)
    assert state_of(breaker) is BreakerState.CLOSED


def test_the_share_of_failures_opens_it() -> None:
    breaker = Breaker(POLICY)
    for failed in (False, False, True):
        call(breaker, 0.0, failed=failed)
    assert state_of(breaker) is BreakerState.CLOSED
    call(breaker, 0.0, failed=True)
    assert state_of(breaker) is BreakerState.OPEN
    assert breaker.permit(4.9) is None


def test_calls_that_answer_too_slowly_open_it() -> None:
    breaker = Breaker(POLICY)
    for _ in range(3):
        call(breaker, 0.0, slow=True)
    assert state_of(breaker) is BreakerState.OPEN


def test_only_the_newest_calls_count() -> None:
    breaker = Breaker(POLICY)
    call(breaker, 0.0, failed=True, slow=True)
    for _ in range(4):
        call(breaker, 0.0)
    call(breaker, 0.0, failed=True, slow=True)
    assert state_of(breaker) is BreakerState.CLOSED


def test_after_its_rest_it_lets_a_few_probes_through() -> None:
    breaker = opened()
    assert len(probes(breaker, 5.0)) == 2
    assert state_of(breaker) is BreakerState.HALF_OPEN


def test_good_probes_close_it_with_a_clean_slate() -> None:
    breaker = opened()
    for permit in probes(breaker, 5.0):
        breaker.record(permit, 5.0, failed=False, slow=False)
    assert state_of(breaker) is BreakerState.CLOSED
    call(breaker, 5.0, failed=True)
    call(breaker, 5.0, failed=True)
    assert state_of(breaker) is BreakerState.CLOSED


@pytest.mark.parametrize("bad", ["failed", "slow"])
def test_one_bad_probe_opens_it_again(bad: str) -> None:
    breaker = opened()
    first, second = probes(breaker, 5.0)
    breaker.record(first, 5.1, failed=bad == "failed", slow=bad == "slow")
    breaker.record(second, 5.2, failed=False, slow=False)
    assert state_of(breaker) is BreakerState.OPEN
    assert breaker.permit(10.0) is None
    assert breaker.permit(10.1) is not None


def test_an_answer_from_before_a_change_says_nothing_any_more() -> None:
    breaker = Breaker(POLICY)
    old = breaker.permit(0.0)
    assert old is not None
    for _ in range(3):
        call(breaker, 0.0, failed=True)
    breaker.record(old, 1.0, failed=True, slow=False)
    assert state_of(breaker) is BreakerState.OPEN
    probes(breaker, 5.0)
    breaker.record(old, 5.0, failed=True, slow=False)
    assert state_of(breaker) is BreakerState.HALF_OPEN


def test_probes_that_never_come_back_are_replaced() -> None:
    breaker = opened()
    assert len(probes(breaker, 5.0)) == 2
    assert probes(breaker, 9.9) == []
    assert len(probes(breaker, 10.0)) == 2


def test_a_probe_not_yet_used_stays_available() -> None:
    breaker = opened()
    first = breaker.permit(5.0)
    second = breaker.permit(100.0)
    assert first is not None
    assert first == second
