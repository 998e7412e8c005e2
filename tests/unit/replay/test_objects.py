from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.replay.objects import Listed, Period, Spool, StoredObject, list_files, named_span


class MemoryBucket:
    """Objects as bytes; counts how often each was fetched."""

    def __init__(self, **objects: bytes) -> None:
        self.data = {name.replace("__", "/"): data for name, data in objects.items()}
        self.fetched: list[str] = []

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        for key in sorted(self.data):
            if key.startswith(prefix):
                yield StoredObject(key, len(self.data[key]), "v1")

    def fetch(self, stored: StoredObject, target: Path) -> None:
        self.fetched.append(stored.key)
        target.write_bytes(self.data[stored.key])


def listed(bucket: MemoryBucket, source: str, period: Period | None = None) -> list[str]:
    found = list_files(source, period or Period(), lambda _: bucket)
    return [each.address for each in found]


BUCKET = MemoryBucket(
    tx__2026__05__01__00__a=b"1",
    tx__2026__05__01__23__b=b"2",
    tx__2026__05__02__00__c=b"3",
    tx___SUCCESS=b"",
    tx__d=b"4",
)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("s3://b/tx/", ["2026/05/01/00/a", "2026/05/01/23/b", "2026/05/02/00/c", "d"]),
        ("s3://b/tx/2026/05/01", ["2026/05/01/00/a", "2026/05/01/23/b"]),
        ("s3://b/tx/2026/05/*/00/?", ["2026/05/01/00/a", "2026/05/02/00/c"]),
        ("s3://b/tx/**/[!ab]", ["2026/05/02/00/c", "d"]),
        (
            "s3://b/tx/**",
            ["2026/05/01/00/a", "2026/05/01/23/b", "2026/05/02/00/c", "_SUCCESS", "d"],
        ),
        ("s3://b/tx/*", ["_SUCCESS", "d"]),
    ],
)
def test_a_prefix_or_a_glob_chooses_objects(source: str, expected: list[str]) -> None:
    assert listed(BUCKET, source) == [f"s3://b/tx/{each}" for each in expected]


def test_a_period_chooses_by_what_the_prefixes_say() -> None:
    first = datetime(2026, 5, 1, 23, 30, tzinfo=UTC)
    period = Period(since=first, until=datetime(2026, 5, 2, tzinfo=UTC))
    # What names no time is read.
    assert listed(BUCKET, "s3://b/tx/", period) == ["s3://b/tx/2026/05/01/23/b", "s3://b/tx/d"]


@pytest.mark.parametrize(
    ("address", "first", "end"),
    [
        ("s3://b/2026/05/01/07/x", "2026-05-01T07", "2026-05-01T08"),
        ("h/transactions/dt=2026-05-01/part-0.gz", "2026-05-01", "2026-05-02"),
        ("h/year=2026/month=5/day=1/hour=7/x", "2026-05-01T07", "2026-05-01T08"),
        ("h/year=2026/month=12/x", "2026-12-01", "2027-01-01"),
        ("h/2026-05-01.csv", "2026-05-01", "2026-05-02"),
    ],
)
def test_folders_that_name_times_are_understood(address: str, first: str, end: str) -> None:
    expected = (datetime.fromisoformat(first), datetime.fromisoformat(end))
    assert named_span(address) == tuple(each.replace(tzinfo=UTC) for each in expected)


@pytest.mark.parametrize("address", ["h/x.csv", "h/2026-13-45/x", "h/120260501/x", "h/1.2.3"])
def test_other_names_are_no_times(address: str) -> None:
    assert named_span(address) is None


def test_a_folder_is_read_without_the_notes_of_other_programs(tmp_path: Path) -> None:
    for name in ("b.csv", "x/a.csv", "_SUCCESS", ".b.csv.crc", "_temporary/0/c.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    expected = [str(tmp_path / "b.csv"), str(tmp_path / "x" / "a.csv")]
    assert listed(BUCKET, str(tmp_path)) == expected
    assert listed(BUCKET, f"{tmp_path}/**/*.csv")[1:] == expected
    assert listed(BUCKET, f"{tmp_path}/*.csv")[-1:] == expected[:1]


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    for source in (str(tmp_path), str(tmp_path / "none"), "s3://b/other/", "s3:///x"):
        with pytest.raises(Misconfigured):
            listed(BUCKET, source)


def test_a_spool_keeps_objects_while_there_is_room(tmp_path: Path) -> None:
    bucket = MemoryBucket(a=b"1" * 60, b=b"2" * 60)
    first, second = list_files("s3://x/", Period(), lambda _: bucket)
    spool = Spool(tmp_path, 100)
    for _ in range(2):
        assert spool.take(first).read_bytes() == b"1" * 60
        spool.give_back(first)
    assert bucket.fetched == ["a"]
    path = spool.take(second)
    # What is in use stays, even beyond the limit; what is not has gone.
    assert path.read_bytes() == b"2" * 60
    assert spool.take(first).read_bytes() == b"1" * 60
    assert path.exists()
    assert bucket.fetched == ["a", "b", "a"]
    spool.give_back(first)
    spool.give_back(second)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_local_file_is_read_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("x")
    (found,) = list_files(str(path), Period(), lambda _: BUCKET)
    spool = Spool(tmp_path / "spool", 0)
    assert spool.take(found) == path
    spool.give_back(found)
    assert path.exists()
    with pytest.raises(Misconfigured, match="changed"):
        spool.take(Listed(str(path), 5, "0"))
