"""The one order of a history: across files, with labels, from any ordinal, in little memory."""

import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from consumer.adapters.s3.listed import S3Listed
from consumer.errors import Unavailable
from consumer.replay.mapping import LabelPolicy
from consumer.replay.mapping_source import read_field_map
from consumer.replay.objects import Period
from tests.emulated_s3 import emulated_s3
from tests.histories import (
    FORM,
    WORDS,
    opened,
    places,
    read_all,
    read_events,
    row,
    write_csv,
    write_ndjson,
    write_parquet,
)

START = datetime(2026, 5, 1, tzinfo=UTC)


def at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).strftime("%Y-%m-%d %H:%M:%S.%f")


def ids(events: list[dict[str, Any]]) -> list[str]:
    return [
        ("" if each["type"] == "transaction" else "L") + each["transaction_id"] for each in events
    ]


def test_files_that_overlap_come_in_order_of_time(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [row(1, at(1)), row(4, at(4)), row(6, at(6))])
    write_ndjson(tmp_path / "b.ndjson", [row(2, at(2)), row(3, at(3)), row(7, at(7))])
    write_parquet(tmp_path / "c.parquet", [row(5, at(5)), row(8, at(8))])
    assert ids(read_events(tmp_path, *WORDS)) == [str(n) for n in range(1, 9)]


def test_equal_times_keep_the_order_of_files_and_rows(tmp_path: Path) -> None:
    write_csv(tmp_path / "b.csv", [row(3, at(1)), row(4, at(1))])
    write_csv(tmp_path / "a.csv", [row(9, at(1)), row(1, at(1)), row(5, at(2))])
    assert ids(read_events(tmp_path, *WORDS)) == ["9", "1", "3", "4", "5"]


def test_what_is_not_in_order_is_sorted(tmp_path: Path) -> None:
    numbers = list(range(20_000))
    random.Random(7).shuffle(numbers)
    for name in ("a.parquet", "a.csv"):
        rows = [row(n, at(n)) for n in numbers]
        folder = tmp_path / name
        write = write_parquet if name.endswith("parquet") else write_csv
        write(folder / name, rows)
        assert ids(read_events(folder, *WORDS)) == [str(n) for n in range(20_000)]


def test_more_files_than_are_merged_side_by_side_are_sorted_as_one(tmp_path: Path) -> None:
    # Every file holds all of the time, as partitions by card do.
    for file in range(40):
        rows = [row(n, at(n)) for n in range(file, 2_000, 40)]
        write_ndjson(tmp_path / f"part-{file:02}.ndjson.gz", rows)
    assert ids(read_events(tmp_path, *WORDS)) == [str(n) for n in range(2_000)]


def test_equal_events_come_once_and_different_ones_of_an_id_all(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [row(1, at(1)), row(1, at(1)), row(2, at(2))])
    write_csv(tmp_path / "b.csv", [row(1, at(1)), row(2, at(2), PAID="9")])
    assert ids(read_events(tmp_path, *WORDS)) == ["1", "2", "2"]


def test_labels_of_a_column_come_a_delay_later_with_keys(tmp_path: Path) -> None:
    rows = [
        row(1, at(0), BAD=1),
        row(2, at(5), BAD=0),
        row(3, at(10), BAD=None),
        row(4, at(11), BAD=1),
    ]
    path = write_parquet(tmp_path / "a.parquet", rows)
    words = (*WORDS, "label=BAD", "terminal_id=t{SHOP}")
    found = read_events(path, *words, policy=LabelPolicy(delay_s=600))
    # A label comes before the transaction of its millisecond.
    assert ids(found) == ["1", "2", "L1", "3", "4", "L4"]
    assert found[2] == {
        "type": "label",
        "transaction_id": "1",
        "label": "fraud",
        "label_time": "2026-05-01T00:10:00Z",
        "source": "replay",
        "event_time": "2026-05-01T00:00:00Z",
        "keys": {"card_id": "7", "merchant_id": "3", "terminal_id": "t3"},
    }
    honest = read_events(path, *words, policy=LabelPolicy(delay_s=600, legitimate=True))
    assert ids(honest) == ["1", "2", "L1", "3", "4", "L2", "L4"]
    assert honest[5]["label"] == "legitimate"


def test_a_delay_of_nothing_tells_a_fraud_before_its_transaction(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [row(1, at(0), BAD=1)])
    assert ids(read_events(path, *WORDS, "label=BAD", policy=LabelPolicy(0))) == ["L1", "1"]


def test_labels_with_a_time_of_their_own_come_then(tmp_path: Path) -> None:
    rows = [
        row(1, at(0), BAD=1, KNOWN=at(50), BY="analyst"),
        row(2, at(5), BAD=1, KNOWN=at(7), BY=""),
    ]
    path = write_csv(tmp_path / "a.csv", rows)
    words = (*WORDS, "label=BAD", "label_time=KNOWN", "label_source=BY")
    found = read_events(path, *words)
    assert ids(found) == ["1", "2", "L2", "L1"]
    assert [each["source"] for each in found[2:]] == ["replay", "analyst"]


def test_a_source_of_labels_is_joined_by_transaction(tmp_path: Path) -> None:
    write_csv(tmp_path / "tx" / "a.csv", [row(n, at(n)) for n in range(6)])
    labels = [
        {"TX": 4, "STATE": "fraud", "SEEN": at(20)},
        {"TX": 4, "STATE": "fraud", "SEEN": at(20)},
        {"TX": 1, "STATE": "fraud", "SEEN": at(3.5)},
        {"TX": 4, "STATE": "legitimate", "SEEN": at(30)},
        {"TX": 77, "STATE": "fraud", "SEEN": at(2)},
    ]
    source = write_parquet(tmp_path / "labels" / "a.parquet", labels)
    wanted = read_field_map(["transaction_id=TX", "label=STATE", "label_time=SEEN"], None, FORM)
    found = read_events(tmp_path / "tx", *WORDS, labels=str(source), labels_map=wanted)
    assert ids(found) == ["0", "1", "2", "3", "L1", "4", "5", "L4", "L4"]
    assert [each["label"] for each in found if each["type"] == "label"] == [
        "fraud",
        "fraud",
        "legitimate",
    ]
    assert found[4]["keys"] == {"card_id": "7", "merchant_id": "3"}
    assert found[4]["event_time"] == "2026-05-01T00:01:00Z"


def test_a_list_of_frauds_alone_is_released_after_the_delay(tmp_path: Path) -> None:
    write_csv(tmp_path / "tx" / "a.csv", [row(n, at(n)) for n in range(6)])
    source = write_csv(tmp_path / "frauds.csv", [{"transaction_id": 2}])
    found = read_events(tmp_path / "tx", *WORDS, labels=str(source), policy=LabelPolicy(120))
    assert ids(found) == ["0", "1", "2", "3", "L2", "4", "5"]


def test_label_events_in_parquet_are_joined_by_their_own_columns(tmp_path: Path) -> None:
    write_csv(tmp_path / "tx" / "a.csv", [row(n, at(n)) for n in range(3)])
    label = {
        "type": "label",
        "transaction_id": "0",
        "label": "fraud",
        "label_time": "2026-05-01T00:01:30Z",
        "source": "analyst",
        "keys": {"card_id": "7"},
    }
    source = write_parquet(tmp_path / "labels" / "a.parquet", [label])
    found = read_events(tmp_path / "tx", *WORDS, labels=str(source))
    assert ids(found) == ["0", "1", "L0", "2"]
    assert found[2]["source"] == "analyst"


def test_a_source_of_label_events_stands_beside_the_transactions(tmp_path: Path) -> None:
    write_csv(tmp_path / "tx" / "a.csv", [row(n, at(n)) for n in range(3)])
    label = {
        "type": "label",
        "transaction_id": "0",
        "label": "fraud",
        "label_time": "2026-05-01T00:01:30Z",
        "source": "analyst",
    }
    source = write_ndjson(tmp_path / "labels.ndjson", [label])
    assert ids(read_events(tmp_path / "tx", *WORDS, labels=str(source))) == ["0", "1", "L0", "2"]


def _mixed(folder: Path) -> None:
    """Files in order, not in order and overlapping, with repetitions and a bad row."""
    chance = random.Random(11)
    for file in range(6):
        rows = [
            row(file * 1_000 + n, at(file * 70 + n // 5), BAD=int(n % 50 == 0)) for n in range(500)
        ]
        if file % 2:
            chance.shuffle(rows)
        rows += rows[:20]
        rows[30]["PAID"] = "abc"
        write = (write_csv, write_parquet, write_ndjson)[file % 3]
        write(folder / f"{file}.{('csv', 'parquet', 'ndjson')[file % 3]}", rows)


def test_reading_from_any_ordinal_is_the_tail_of_the_whole(tmp_path: Path) -> None:
    _mixed(tmp_path / "source")
    words, policy = (*WORDS, "label=BAD"), LabelPolicy(3_600)
    with opened(tmp_path / "source", *words, policy=policy) as history:
        slices = list(history.read())
        whole = [event for each in slices for event in each.events]
        origins = places(slices)
        assert [each.first for each in slices] == [
            sum(len(each) for each in slices[:n]) for n in range(len(slices))
        ]
    assert len(whole) == 6 * 500 - 6 + 60
    # Another opening, as another process would have it.
    with opened(tmp_path / "source", *words, policy=policy) as history:
        for first in (0, 1, 499, 1_500, len(whole) - 1, len(whole)):
            tail = list(history.read(first))
            assert [event for each in tail for event in each.events] == whole[first:]
            assert places(tail) == origins[first:]
            assert [each.first for each in tail][:1] == ([first] if first < len(whole) else [])


def test_the_fingerprint_tells_other_input(tmp_path: Path) -> None:
    def fingerprint(*words: str, **more: Any) -> str:
        with opened(tmp_path / "s", *words, **more) as history:
            return history.fingerprint

    path = write_csv(tmp_path / "s" / "a.csv", [row(1, at(1), BAD=1)])
    labelled = (*WORDS, "label=BAD")
    known = {
        fingerprint(*WORDS),
        fingerprint(*WORDS[:-1], "currency==USD"),
        fingerprint(*labelled, policy=LabelPolicy(1)),
        fingerprint(*labelled, policy=LabelPolicy(2)),
    }
    assert len(known) == 4
    assert fingerprint(*WORDS) in known
    path.write_bytes(path.read_bytes() + b"2,,,,\n")
    assert fingerprint(*WORDS) not in known


def test_a_survey_that_was_kept_is_not_made_again(tmp_path: Path) -> None:
    write_csv(tmp_path / "s" / "a.csv", [row(n, at(n)) for n in range(50)])
    heard: list[int] = []
    for _ in range(2):
        with opened(tmp_path / "s", *WORDS, folder=tmp_path / "work") as history:
            survey = history.survey(heard.append)
            assert (survey.rows, survey.events, survey.transactions) == (50, 50, 50)
            assert survey.last_ms == 1777593600000 + 49 * 60_000
            assert len(read_all(history)) == 50
    assert heard == [50]


def test_a_history_in_s3_is_that_of_the_same_files_here(tmp_path: Path) -> None:
    _mixed(tmp_path / "2026" / "05" / "01")
    local = read_events(tmp_path, *WORDS, "label=BAD", policy=LabelPolicy(60))
    with emulated_s3() as client:
        client.create_bucket(Bucket="history")
        for path in tmp_path.rglob("*.*"):
            key = f"tx/{path.relative_to(tmp_path)}"
            client.put_object(Bucket="history", Key=key, Body=path.read_bytes())
        client.put_object(Bucket="history", Key="tx/_SUCCESS", Body=b"")
        client.put_object(
            Bucket="history", Key="tx/2026/04/30/0.csv", Body=b"another,schema\n1,2\n"
        )
        found = read_events(
            "s3://history/tx/",
            *WORDS,
            "label=BAD",
            policy=LabelPolicy(60),
            buckets=lambda name: S3Listed(client, name),
            period=Period(since=START),
        )
        assert found == local
        first = read_events(
            "s3://history/tx/**/05/??/[03].csv",
            *WORDS,
            policy=LabelPolicy(60),
            buckets=lambda name: S3Listed(client, name),
        )
        assert len(first) == 2 * 499


def test_an_object_that_changes_while_it_is_replayed_is_told(tmp_path: Path) -> None:
    with emulated_s3() as client:
        client.create_bucket(Bucket="history")
        client.put_object(Bucket="history", Key="a.csv", Body=b"ID\n1\n")
        with opened(
            "s3://history/a.csv",
            *WORDS,
            buckets=lambda name: S3Listed(client, name),
            folder=tmp_path,
        ) as history:
            client.put_object(Bucket="history", Key="a.csv", Body=b"ID\n2\n")
            with pytest.raises(Unavailable, match="it has changed since it was listed"):
                history.survey()
    assert not (tmp_path / "objects").exists()


def _write_large(path: Path, rows: int, order: str = "") -> None:
    """Write three transactions a second; DuckDB does it faster than rows could be listed."""
    duckdb.sql(
        'COPY (SELECT n AS "ID", TIMESTAMP \'2026-05-01\' + to_seconds(n // 3) AS "AT", '
        'n % 5000 AS "CUSTOMER", n % 700 AS "SHOP", (n % 9000) / 100 AS "PAID" '
        f"FROM range({rows}) t(n) {order}) TO '{path}' (FORMAT parquet)"
    )


def test_a_history_knows_from_where_to_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    # More than one waypoint, each where the time moves on.
    _write_large(path, 1_100_000)
    with opened(path, *WORDS, folder=tmp_path / "work") as history:
        assert sum(len(each) for each in history.read()) == 1_100_000
    (kept,) = (tmp_path / "work").glob("waypoints-*")
    assert len(kept.read_text().splitlines()) == 2
    # A process that was killed may have left half a line.
    kept.write_text(kept.read_text() + "[10")
    with opened(path, *WORDS, folder=tmp_path / "work") as history:
        for first in (0, 600_000, 1_099_999):
            found = next(history.read(first))
            assert found.first == first
            assert orjson.loads(found.events[0])["transaction_id"] == str(first)


# The high-water mark in /proc is of the program alone; that of getrusage begins with its parent's.
_MEMORY = """
import re, sys
from pathlib import Path
from tests.histories import WORDS, opened

with opened(Path(sys.argv[1]), *WORDS) as history:
    count = sum(len(each) for each in history.read())
print(count, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.parametrize("order", ["", "ORDER BY hash(n)"])
def test_memory_does_not_grow_with_the_history(tmp_path: Path, order: str) -> None:
    # 1.5 million events are 300 MB of JSON; sorted or not, a fraction is held at a time.
    _write_large(tmp_path / "a.parquet", 1_500_000, order)
    answer = subprocess.run(
        [sys.executable, "-c", _MEMORY, str(tmp_path / "a.parquet")],
        check=True,
        capture_output=True,
        text=True,
        timeout=110,
    )
    count, peak_kb = map(int, answer.stdout.split())
    assert count == 1_500_000
    assert peak_kb < 500_000
