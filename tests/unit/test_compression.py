"""Gzip is taken whole, in members, and never beyond the limit."""

import gzip
import tracemalloc

import pytest

from consumer.compression import inflate, inflate_prefix
from consumer.errors import Rejected


def test_several_members_are_one_text() -> None:
    data = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")

    assert inflate(data, 100) == b"one two"
    assert inflate_prefix(data, 100) == b"one two"
    assert inflate_prefix(data, 5) == b"one t"


def test_the_limit_itself_is_allowed() -> None:
    assert inflate(gzip.compress(b"a" * 100), 100) == b"a" * 100


@pytest.mark.parametrize("members", [1, 2])
def test_one_byte_more_than_the_limit_is_too_large(members: int) -> None:
    data = gzip.compress(b"a" * 100) + gzip.compress(b"a") * (members - 1)
    with pytest.raises(Rejected) as caught:
        inflate(data, 100 if members == 2 else 99)

    assert caught.value.code == "too_large"


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8b",
        b"\x1f\x8bnonsense",
        gzip.compress(b"whole", mtime=0)[:-1],
        gzip.compress(b"whole", mtime=0)[:12],
        gzip.compress(b"whole", mtime=0) + b"more",
        gzip.compress(b"whole", mtime=0)[:-8] + b"\0" * 8,
        gzip.compress(b"", mtime=0) * 65,
    ],
)
def test_gzip_that_is_not_whole_is_rejected(data: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        inflate(data, 1_000)

    assert caught.value.code == "bad_gzip"


def test_a_bomb_takes_no_more_memory_than_the_limit_allows() -> None:
    bomb = gzip.compress(b"\0" * 60_000_000)
    assert len(bomb) < 65_536
    tracemalloc.start()
    with pytest.raises(Rejected) as caught:
        inflate(bomb, 65_536)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert caught.value.code == "too_large"
    assert peak < 1_000_000


def test_more_compressed_bytes_than_the_limit_can_need_are_not_even_tried() -> None:
    with pytest.raises(Rejected) as caught:
        inflate(gzip.compress(b"") * 10_000, 1_000)

    assert caught.value.code == "too_large"
