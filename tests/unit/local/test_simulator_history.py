"""A history is written by day, byte for byte the same each time, and read back whole."""

import gzip
from pathlib import Path

import orjson
import pytest

from consumer.decode import DecodeRules, decode
from consumer.errors import Misconfigured
from consumer.local.simulator.events import RecordKind
from consumer.local.simulator.history import (
    Folder,
    Format,
    place,
    read_history,
    write_history,
)
from consumer.local.simulator.traffic import Scenario, Traffic
from consumer.settings import Events

SCENARIO = Scenario(
    end_ms=1_795_000_000_000, cards=60, merchants=60, history_days=12, transactions=20
)
FORMATS: tuple[Format, ...] = ("ndjson", "parquet")


@pytest.fixture(scope="module")
def traffic() -> Traffic:
    return Traffic(SCENARIO)


def expected(traffic: Traffic, *, labels: bool) -> list[bytes]:
    return [
        event.data
        for _, events in traffic.history()
        for event in events
        if (event.record is RecordKind.LABEL) == labels
    ]


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_was_written_is_read_back_in_order(
    traffic: Traffic, tmp_path: Path, file_format: Format
) -> None:
    folder = Folder(tmp_path)
    total = write_history(traffic.history(), folder, file_format)
    read = [body for _, bodies in read_history(folder, "transactions") for body in bodies]
    labels = [body for _, bodies in read_history(folder, "labels") for body in bodies]
    assert len(read) + len(labels) == total
    rules = DecodeRules.of(Events())
    written = expected(traffic, labels=False)
    assert [decode(body, rules) for body in read] == [decode(body, rules) for body in written]
    written = expected(traffic, labels=True)
    assert [decode(body, rules) for body in labels] == [decode(body, rules) for body in written]


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_same_history_makes_the_same_files(
    traffic: Traffic, tmp_path: Path, file_format: Format
) -> None:
    folders = Folder(tmp_path / "a"), Folder(tmp_path / "b")
    for folder in folders:
        write_history(traffic.history(), folder, file_format)
    first, second = folders
    assert first.names("") == second.names("")
    assert all(first.read(name) == second.read(name) for name in first.names(""))


def test_files_lie_under_the_day_of_their_events(traffic: Traffic, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_history(traffic.history(), folder)
    names = folder.names("transactions/")
    assert len(names) in {12, 13}
    for name in names:
        day = name.removeprefix("transactions/dt=").removesuffix("/part-0000.ndjson.gz")
        for line in gzip.decompress(folder.read(name)).splitlines():
            assert orjson.loads(line)["event_time"].startswith(day)
    for name in folder.names("labels/"):
        day = name.removeprefix("labels/dt=").removesuffix("/part-0000.ndjson.gz")
        for line in gzip.decompress(folder.read(name)).splitlines():
            assert orjson.loads(line)["label_time"].startswith(day)


def test_progress_hears_of_every_day(traffic: Traffic, tmp_path: Path) -> None:
    heard: list[int] = []
    total = write_history(
        traffic.history(), Folder(tmp_path), on_day=lambda _day, count: heard.append(count)
    )
    assert sum(heard) == total


def test_a_place_of_another_kind_is_refused() -> None:
    def no_client() -> object:
        raise AssertionError

    with pytest.raises(Misconfigured, match="s3://bucket/prefix or a folder"):
        place("https://example.org/history", no_client)  # type: ignore[arg-type]
