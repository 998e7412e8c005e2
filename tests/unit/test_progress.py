import pytest

from consumer.model import Position
from consumer.progress import Progress, checkpoint_is_due


def at(sequence_number: int, sub: int = 0) -> Position:
    return Position(sequence_number, sub)


def test_nothing_is_safe_before_the_first_batch_finishes() -> None:
    progress = Progress()
    progress.start(at(1))
    assert progress.safe is None
    assert progress.outstanding == 1


def test_batches_that_finish_in_order_move_the_checkpoint_one_by_one() -> None:
    progress = Progress()
    first, second = progress.start(at(1)), progress.start(at(2))
    assert progress.finish(first) == at(1)
    assert progress.finish(second) == at(2)
    assert progress.outstanding == 0


def test_a_batch_that_finishes_early_waits_for_the_oldest() -> None:
    progress = Progress()
    first, second, third = (progress.start(at(number)) for number in (1, 2, 3))
    assert progress.finish(third) is None
    assert progress.finish(second) is None
    assert progress.safe is None
    assert progress.finish(first) == at(3)


def test_records_of_one_aggregate_are_ordered_by_their_sub_sequence() -> None:
    progress = Progress()
    first, second = progress.start(at(7, 1)), progress.start(at(7, 2))
    assert progress.finish(second) is None
    assert progress.finish(first) == at(7, 2)


def test_a_position_that_goes_back_is_refused() -> None:
    progress = Progress()
    progress.start(at(7, 2))
    with pytest.raises(ValueError, match="older than 7:2"):
        progress.start(at(7, 1))


def test_a_batch_finishes_only_once() -> None:
    progress = Progress()
    ticket = progress.start(at(1))
    progress.finish(ticket)
    with pytest.raises(KeyError):
        progress.finish(ticket)


def test_a_checkpoint_is_due_after_its_interval_and_not_before() -> None:
    assert not checkpoint_is_due(now_s=11.9, last_s=10.0, interval_s=2.0)
    assert checkpoint_is_due(now_s=12.0, last_s=10.0, interval_s=2.0)
