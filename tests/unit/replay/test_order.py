from collections.abc import Generator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.replay.order import Extent, Member, Released, Repetitions, Run, group, merge
from tests.examples import examples

Key = tuple[int, int, int]


def event(key: Key) -> bytes:
    return repr(key).encode()


def released(keys: list[Key]) -> Released:
    key, file, row = (np.array(column, np.int64) for column in zip(*keys, strict=True))
    return Released(key, file, row, pa.array([event(each) for each in keys], pa.binary()))


def run(keys: list[Key], size: int) -> Run:
    """A run of sorted *keys*, *size* of them a batch; one that leaves out what is before."""

    def open_run(from_key: int) -> Generator[Released]:
        wanted = [key for key in keys if key[0] >= from_key]
        for start in range(0, len(wanted), size):
            yield released(wanted[start : start + size])

    return Run(keys[0][0], keys[-1][0], open_run)


def merged(runs: list[Run], from_key: int = 0) -> list[Key]:
    found = []
    for each in merge(runs, from_key):
        assert len(each)
        columns = (each.keys.tolist(), each.files.tolist(), each.rows.tolist())
        keys = list(zip(*columns, strict=True))
        assert each.events.to_pylist() == [event(key) for key in keys]
        found += keys
    return found


_FILES = st.lists(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=30),
    min_size=1,
    max_size=6,
)


@given(_FILES, st.integers(1, 5), st.integers(0, 13))
@settings(max_examples=examples(200))
def test_a_merge_is_the_sort_of_all(
    files: list[list[tuple[int, int]]], size: int, start: int
) -> None:
    keys = [sorted({(k, file, r) for k, r in rows}) for file, rows in enumerate(files)]
    expected = sorted(key for each in keys for key in each if key[0] >= start)
    assert merged([run(each, size) for each in keys], start) == expected


def test_a_run_is_opened_when_its_first_key_comes_up() -> None:
    opened: list[int] = []

    def later(first: int) -> Run:
        plain = run([(first, first, 1), (first + 5, first, 2)], 1)

        def open_run(from_key: int) -> Generator[Released]:
            opened.append(first)
            yield from plain.open(from_key)

        return Run(plain.first_key, plain.last_key, open_run)

    seen = merge([later(10), later(0), later(12)], 0)
    next(seen)
    assert opened == [0]
    list(seen)
    assert opened == [0, 10, 12]


def test_a_merge_that_is_left_closes_what_it_opened() -> None:
    closed = []

    def open_run(_: int) -> Generator[Released]:
        try:
            yield released([(1, 0, 1)])
            yield released([(2, 0, 2)])
        finally:
            closed.append(True)

    seen = merge([Run(1, 2, open_run)], 0)
    next(seen)
    seen.close()
    assert closed == [True]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from([b"a", b"b"])), max_size=30), st.data()
)
@settings(max_examples=examples(200))
def test_repetitions_are_dropped_within_a_key_wherever_batches_end(
    events: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    events.sort(key=lambda each: each[0])
    repetitions, kept, place = Repetitions(), [], 0
    while place < len(events):
        batch = events[place : place + data.draw(st.integers(1, 6))]
        keys = np.array([key for key, _ in batch], np.int64)
        places = repetitions.drop(keys, [event for _, event in batch])
        kept += batch if places is None else [batch[each] for each in places]
        place += len(batch)
    assert kept == list(dict.fromkeys(events))


def test_an_extent_tells_whether_keys_are_in_order_across_batches() -> None:
    extent = Extent()
    for keys in ([1, 3], [], [3, 8]):
        extent.add(np.array(keys, np.int64))
    assert (extent.count, extent.first_key, extent.last_key, extent.ordered) == (4, 1, 8, True)
    extent.add(np.array([7], np.int64))
    assert (extent.last_key, extent.ordered) == (8, False)


def member(file: int, first: int, last: int) -> Member:
    return Member(file, labels=False, first_key=first, last_key=last, ordered=True)


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 1), (2, 3), (4, 5)], [[0], [1], [2]]),
        # A chain, in which never more than two are open.
        ([(0, 2), (1, 4), (3, 6)], [[0], [1], [2]]),
        ([(0, 9), (1, 4), (3, 6)], [[0, 1, 2]]),
        # Those apart stay apart.
        ([(0, 9), (1, 4), (3, 6), (20, 30)], [[0, 1, 2], [3]]),
        ([(0, 3), (3, 4), (3, 6)], [[0, 1, 2]]),
    ],
)
def test_files_are_sorted_as_one_only_where_too_many_overlap(
    spans: list[tuple[int, int]], expected: list[list[int]]
) -> None:
    members = [member(file, first, last) for file, (first, last) in enumerate(spans)]
    assert [[each.file for each in part] for part in group(members, 2)] == expected
