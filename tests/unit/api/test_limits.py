"""Who is let in: by what is under way, and by the wait that is to be expected."""

import pytest

from consumer.api.limits import Admission, Shed
from consumer.api.problems import Refused
from tests.fakes.clock import FakeClock


def an_admission(clock: FakeClock, shed: list[tuple[Shed, int]], **changes: float) -> Admission:
    return Admission(
        in_flight_limit=int(changes.get("in_flight_limit", 100)),
        max_wait_s=changes.get("max_wait_s", 0.5),
        chunk_size=10,
        clock=clock,
        tell=lambda reason, count: shed.append((reason, count)),
    )


def test_a_batch_above_the_limit_is_let_in_where_nothing_else_is() -> None:
    shed: list[tuple[Shed, int]] = []
    admission = an_admission(FakeClock(), shed, in_flight_limit=5)
    admission.enter(8)
    with pytest.raises(Refused):
        admission.enter(1)
    admission.leave(8)
    admission.enter(5)
    assert (admission.in_flight, shed) == (5, [(Shed.IN_FLIGHT, 1)])


def test_the_expected_wait_is_that_of_the_chunks_before() -> None:
    admission = an_admission(FakeClock(), [])
    for _ in range(100):
        admission.paced(0.2)
    assert admission.expected_wait_s == 0
    admission.enqueue(25)
    assert admission.expected_wait_s == pytest.approx(0.5, rel=0.01)
    admission.enqueue(5)
    with pytest.raises(Refused):
        admission.enter(1)
    admission.take(30)
    admission.enter(1)


def test_a_thread_that_hangs_lets_nobody_wait_behind_it() -> None:
    clock, shed = FakeClock(), list[tuple[Shed, int]]()
    admission = an_admission(clock, shed)
    clock.sleep(100)
    admission.enqueue(1)
    admission.enter(1)
    clock.sleep(0.6)
    with pytest.raises(Refused):
        admission.enter(3)
    assert shed == [(Shed.WAIT, 3)]
