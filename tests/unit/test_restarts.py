from consumer.restarts import Restarts


def test_pauses_double_up_to_the_longest() -> None:
    restarts = Restarts(limit=10, window_s=600.0, first_s=1.0, longest_s=5.0)
    assert [restarts.next_pause_s(float(now)) for now in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_the_limit_within_the_window_ends_it() -> None:
    restarts = Restarts(limit=2, window_s=600.0, first_s=1.0, longest_s=5.0)
    assert [restarts.next_pause_s(float(now)) for now in range(3)] == [1.0, 2.0, None]


def test_restarts_older_than_the_window_are_forgotten() -> None:
    restarts = Restarts(limit=2, window_s=600.0, first_s=1.0, longest_s=5.0)
    for now_s in (0.0, 10.0):
        restarts.next_pause_s(now_s)
    assert restarts.next_pause_s(600.0) == 2.0
    assert restarts.next_pause_s(1_300.0) == 1.0


def test_a_generous_limit_does_not_overflow_the_pause() -> None:
    restarts = Restarts(limit=5_000, window_s=1e9, first_s=1.0, longest_s=30.0)
    assert {restarts.next_pause_s(0.0) for _ in range(5_000)} == {1.0, 2.0, 4.0, 8.0, 16.0, 30.0}
