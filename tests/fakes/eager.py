"""What a store that can be left to its work does in memory: all of it, at once."""

from collections.abc import Callable
from typing import TypeVar

from consumer.errors import Unavailable
from consumer.ports import Later, Pending

T = TypeVar("T")


def at_once(work: Callable[[], T]) -> Pending[T]:
    """Do *work* now; that it was unavailable is told when its result is asked for."""
    try:
        found = work()
    except Unavailable as error:
        return refused(error)
    return Later(lambda: found)


def refused(error: Unavailable) -> Later[T]:
    """A result that is *error*."""

    def tell() -> T:
        raise error

    return Later(tell)
