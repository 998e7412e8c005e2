import threading

import pytest

from consumer.pool import BoundedPool


def test_results_and_errors_reach_whoever_waits() -> None:
    pool = BoundedPool("test", threads=2, waiting=4)
    fine = pool.submit(lambda: 41 + 1)
    broken = pool.submit(lambda: int("none"))
    pool.close()
    assert fine is not None
    assert fine.result() == 42
    assert broken is not None
    with pytest.raises(ValueError, match="none"):
        broken.result()


def test_a_full_queue_refuses_at_once_and_a_cancelled_call_never_runs() -> None:
    entered, released = threading.Event(), threading.Event()
    ran: list[str] = []

    def hold() -> None:
        entered.set()
        released.wait()

    pool = BoundedPool("test", threads=1, waiting=2)
    pool.submit(hold)
    assert entered.wait(timeout=10)
    given_up = pool.submit(lambda: ran.append("given up"))
    pool.submit(lambda: ran.append("kept"))
    assert pool.submit(lambda: ran.append("refused")) is None
    assert given_up is not None
    assert given_up.cancel()
    released.set()
    pool.close()
    assert ran == ["kept"]


def test_a_hung_call_does_not_keep_the_process_alive() -> None:
    released = threading.Event()
    pool = BoundedPool("test-hung", threads=1, waiting=1)
    pool.submit(released.wait)
    (thread,) = [each for each in threading.enumerate() if each.name.startswith("test-hung")]
    assert thread.daemon
    released.set()
    pool.close()
    assert not thread.is_alive()
