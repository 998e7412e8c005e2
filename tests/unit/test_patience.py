import pytest

from consumer.errors import Rejected, Unavailable
from consumer.patience import Patience
from tests.fakes.clock import FakeClock


class Flaky:
    """Fails *failures* times, then answers."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "answer"


def patience(clock: FakeClock, waits: list[float], limit_s: float = 10.0) -> Patience:
    return Patience(clock, clock.sleep, limit_s, lambda _, waited_s: waits.append(waited_s))


def test_an_answer_is_returned_without_a_pause() -> None:
    clock = FakeClock()
    assert patience(clock, []).call(lambda: 42) == 42
    assert clock.pauses == []


def test_an_outage_is_waited_out_with_growing_bounded_pauses() -> None:
    clock, waits = FakeClock(), list[float]()
    call = Flaky(6, Unavailable("redis", "down"))
    assert patience(clock, waits).call(call) == "answer"
    assert len(waits) == len(clock.pauses) == 6
    ceilings = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6]
    assert all(pause <= top for pause, top in zip(clock.pauses, ceilings, strict=True))


def test_past_the_limit_the_outage_is_passed_on() -> None:
    clock, waits = FakeClock(), list[float]()
    call = Flaky(10**9, Unavailable("redis", "down"))
    with pytest.raises(Unavailable, match="redis: down"):
        patience(clock, waits).call(call)
    assert waits[-1] >= 10.0
    assert max(clock.pauses) <= 2.0


def test_a_time_that_is_given_ends_it_before_its_limit() -> None:
    clock, waits = FakeClock(), list[float]()
    call = Flaky(10**9, Unavailable("redis", "down"))
    held = patience(clock, waits)
    with pytest.raises(Unavailable):
        held.call(call, until_s=held.now_s() + 3.0)
    assert 3.0 <= waits[-1] < 5.0


def test_what_can_never_succeed_is_not_repeated() -> None:
    call = Flaky(1, Rejected("not_json", "no"))
    with pytest.raises(Rejected):
        patience(FakeClock(), []).call(call)
    assert call.calls == 1
