"""When the events of a replay are due."""

from consumer.replay.pace import Pace, Pacer
from tests.fakes.clock import FakeClock

TIMES = [1_000, 1_000, 61_000, 3_601_000]


def test_without_a_limit_everything_is_due() -> None:
    pacer = Pacer(Pace(), FakeClock())
    assert pacer.due(TIMES) == 4


def test_original_time_releases_each_event_when_it_happened() -> None:
    clock = FakeClock()
    pacer = Pacer(Pace(speed=1), clock)
    assert pacer.due(TIMES) == 2
    pacer.went(2)
    assert pacer.due(TIMES[2:]) == 0
    assert pacer.wait_s(TIMES[2:]) == 60
    clock.sleep(60)
    assert pacer.due(TIMES[2:]) == 1


def test_a_multiple_of_original_time_shortens_the_pauses() -> None:
    clock = FakeClock()
    pacer = Pacer(Pace(speed=60), clock)
    assert pacer.due(TIMES) == 2
    assert pacer.wait_s(TIMES[2:]) == 1
    clock.sleep(60)
    assert pacer.due(TIMES[2:]) == 2


def test_a_rate_spreads_events_whatever_their_times() -> None:
    clock = FakeClock()
    pacer = Pacer(Pace(rate=2), clock)
    assert pacer.due(TIMES) == 1
    pacer.went(1)
    assert pacer.due(TIMES[1:]) == 0
    assert pacer.wait_s(TIMES[1:]) == 0.5
    clock.sleep(1)
    assert pacer.due(TIMES[1:]) == 2


def test_a_rate_makes_up_for_time_that_was_lost() -> None:
    clock = FakeClock()
    pacer = Pacer(Pace(rate=1), clock)
    pacer.due(TIMES)
    pacer.went(1)
    clock.sleep(10)
    assert pacer.due(TIMES[1:]) == 3
