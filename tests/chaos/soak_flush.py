"""Drops what an epoch left, so that a soak of any length stays within its memory."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from consumer.adapters.redis.documents import ALERTS, PREFIX
from tests.chaos.found import Place
from tests.chaos.lab import Lab

_PAGE = 1_000
T = TypeVar("T")


def forget_epoch(lab: Lab, place: Place) -> None:
    """Drop documents, alerts, waiting labels, letters and rows; entity state stays."""
    for pattern in (f"{PREFIX}*", f"unmatched:{{{PREFIX}*"):
        for keys in _pages(place.client.scan_iter(match=pattern, count=_PAGE)):
            place.client.unlink(*keys)
    place.client.delete(ALERTS)
    for letters in _pages(place.letter_keys()):
        place.s3.delete_objects(
            Bucket=place.bucket, Delete={"Objects": [{"Key": key} for key in letters]}
        )
    lab.firehose.forget()
    lab.endpoints.forget()


def _pages(items: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(items)
    while page := list(islice(iterator, _PAGE)):
        yield page
