"""What is wrong with a source: told by file, line and column, and kept beside the rest."""

import argparse
import gzip
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumer.errors import Misconfigured
from consumer.replay.mapping import FieldMap, LabelPolicy
from consumer.replay.mapping_source import read_field_map
from consumer.replay.opening import add_history_arguments, read_request
from tests.histories import (
    FORM,
    WORDS,
    opened,
    read_all,
    row,
    write,
    write_csv,
    write_ndjson,
    write_parquet,
)

AT = "2026-05-01 12:00:00"


def problems_of(source: Path, *words: str, **more: Any) -> list[str]:
    """Everything that reading *source* is refused for."""
    with (
        pytest.raises(Misconfigured) as refused,
        opened(source, *(words or WORDS), **more) as history,
    ):
        read_all(history)
    return [str(problem) for problem in refused.value.problems]


def rejects_of(path: Path, *words: str, **more: Any) -> list[dict[str, Any]]:
    """The lines of the rejects file of *path*, of which some rows are in order."""
    rejects = path.parent / "rejects.ndjson"
    with opened(path, *(words or WORDS), rejects=rejects, max_rejects=1.0, **more) as history:
        survey = history.survey()
        assert len(read_all(history)) == survey.events == survey.rows - survey.rejected
    return [orjson.loads(line) for line in rejects.read_bytes().splitlines()]


BAD = [
    row(1, AT),
    row(2, "yesterday"),
    row(3, AT, PAID="abc"),
    row(4, AT, CUSTOMER=""),
    row(5, AT, PAID="12,50"),
]
EXPECTED = [
    ("AT", "event_time: expected a time such as 2026-05-01 12:30:00"),
    ("PAID", "amount: expected a number such as 12.50"),
    ("CUSTOMER", "card_id: expected, but empty"),
    ("PAID", "amount: expected a number such as 12.50"),
]


def test_a_cell_that_cannot_be_read_is_told_with_file_row_and_column(tmp_path: Path) -> None:
    for path, first in (
        (write_csv(tmp_path / "a.csv", BAD), 3),
        (write_ndjson(tmp_path / "a.ndjson", BAD), 2),
        (write_parquet(tmp_path / "a.parquet", BAD), 2),
    ):
        found = rejects_of(path)
        assert [(each["column"], each["error"]) for each in found] == EXPECTED
        assert [each["row"] for each in found] == [first, first + 1, first + 2, first + 3]
        assert {each["file"] for each in found} == {str(path)}
        assert orjson.loads(found[1]["raw"])["PAID"] == "abc"


def test_a_card_number_is_masked_in_the_rejects(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "a.csv", [row(1, AT), row(2, "never", CUSTOMER="4111 1111 1111 1111")]
    )
    (found,) = rejects_of(path)
    assert "4111" not in found["raw"]
    assert "[pan]" in found["raw"]


def test_too_many_rejected_rows_end_it_with_examples(tmp_path: Path) -> None:
    rows = [row(n, AT if n % 50 else "never") for n in range(1_000)]
    path = write_csv(tmp_path / "a.csv", rows)
    first, *examples = problems_of(path)
    assert "20 of 1,000 rows that cannot be mapped, expected at most 1.00%" in first
    assert len(examples) == 5
    assert examples[0] == (
        f'{path}, line 2: AT: found "never" as event_time, '
        "expected a time such as 2026-05-01 12:30:00"
    )
    with opened(path, *WORDS, max_rejects=0.02) as history:
        assert len(read_all(history)) == 980


def test_ten_rejected_rows_are_allowed_but_not_all(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [row(n, "never") for n in range(3)])
    assert "3 of 3 rows" in problems_of(path)[0]
    path = write_csv(tmp_path / "a.csv", [*(row(n, "never") for n in range(10)), row(11, AT)])
    with opened(path, *WORDS) as history:
        assert len(read_all(history)) == 1


def test_a_line_of_another_width_or_no_json_is_rejected(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [row(1, AT), row(2, AT)])
    path.write_text(path.read_text() + "3,2026\n" + f"4,{AT},7,3,1,5,6\n")
    assert [(each["row"], each["column"], each["error"]) for each in rejects_of(path)] == [
        (4, None, "expected 5 columns, found 2"),
        (5, None, "expected 5 columns, found 7"),
    ]
    lines = write_ndjson(tmp_path / "a.ndjson", [row(1, AT), [1]])
    lines.write_bytes(lines.read_bytes() + b'{"ID": \n\xff\xfe\n')
    assert [(each["row"], each["error"]) for each in rejects_of(lines)] == [
        (2, "no JSON object"),
        (3, "not JSON"),
        (4, "not UTF-8"),
    ]


def test_an_event_without_a_readable_time_is_rejected(tmp_path: Path) -> None:
    good = {"type": "transaction", "event_time": "2026-05-01T12:00:00Z"}
    bad = [
        {"type": "transaction", "event_time": "2026-05-01T12:00:00"},
        {"type": "label", "label_time": "soon"},
        {"type": "refund"},
    ]
    path = write_ndjson(tmp_path / "a.ndjson", [good, *bad])
    with opened(path, rejects=tmp_path / "r", max_rejects=1.0) as history:
        assert read_all(history) == [orjson.dumps(good)]
    found = [orjson.loads(line) for line in (tmp_path / "r").read_bytes().splitlines()]
    assert [each["column"] for each in found] == ["event_time", "label_time", "type"]


def test_a_label_that_nothing_explains_is_rejected(tmp_path: Path) -> None:
    rows = [row(1, AT, BAD="0"), row(2, AT, BAD="perhaps"), row(3, AT, BAD="unknown")]
    path = write_csv(tmp_path / "a.csv", rows)
    found = rejects_of(path, *WORDS, "label=BAD", policy=LabelPolicy(1))
    assert [(each["row"], each["column"]) for each in found] == [(3, "BAD")]


def test_a_fraud_without_its_time_is_rejected_where_no_delay_is_said(tmp_path: Path) -> None:
    rows = [row(1, AT, BAD="0", KNOWN=""), row(2, AT, BAD="1", KNOWN="")]
    path = write_csv(tmp_path / "a.csv", rows)
    (found,) = rejects_of(path, *WORDS, "label=BAD", "label_time=KNOWN")
    assert (found["row"], found["column"]) == (3, "KNOWN")


def test_every_problem_of_the_mapping_is_told_at_once(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [row(1, AT, BAD=1)])
    words = ("transaction_id=ID", "card_id=CUSTMER", "amount=PAID", "label=BAD")
    found = problems_of(path, *words)
    assert [each.split(": ", 2)[1] for each in found] == [
        "event_time",
        "merchant_id",
        "currency",
        "card_id",
        "label",
    ]
    assert "no column CUSTMER, expected CUSTOMER? Columns: CUSTOMER, " in found[3]
    assert "--label-delay" in found[4]


def test_numbers_as_times_need_a_unit_and_structures_are_no_cells(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{**row(1, AT), "AT": 5, "SHOP": {"a": 1}}])
    first, second = problems_of(path)
    assert "numbers in column AT, expected --time-unit" in first
    assert "column SHOP of type STRUCT" in second


def test_a_file_of_another_schema_is_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", [row(1, AT)])
    other = write_csv(tmp_path / "b.csv", [{"X": 1}])
    assert all(each.startswith(f"{other}: ") for each in problems_of(tmp_path))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.csv", b"", "an empty file"),
        ("a.ndjson", b"", "an empty file"),
        ("a.csv", b"ID,AT,ID\n1,2,3\n", "the column 'ID' twice"),
        ("a.csv", b'ID,AT,CUSTOMER,SHOP,PAID\n1,"2,3,4,5\n', "a quotation that does not end"),
        ("a.csv", b"ID,AT,CUSTOMER,SHOP,PAID\n\xff,2,3,4,5\n", "bytes that are no UTF-8"),
        ("a.parquet", b"PAR1 and nothing more", "something that cannot be read"),
        ("a", b"\x89PNG\r\n\x1a\n\0\0", "another format"),
        ("a.parquet", b"ID,AT\n", "something that cannot be read"),
    ],
)
def test_a_broken_file_is_one_problem(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    path = write(tmp_path / name, data)
    (found,) = problems_of(path)
    assert found.startswith(str(path))
    assert said in found


@pytest.mark.parametrize("name", ["a.csv.gz", "a.ndjson.gz"])
def test_gzip_that_is_cut_off_is_one_problem(tmp_path: Path, name: str) -> None:
    rows = [row(n, AT, PAID=str(n * 7919 % 10_007)) for n in range(30_000)]
    path = (
        write_csv(tmp_path / name, rows) if "csv" in name else write_ndjson(tmp_path / name, rows)
    )
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert problems_of(path) == [
        f"{path}: the file: found gzip that is cut off or corrupt, expected a whole file"
    ]
    path.write_bytes(gzip.compress(b"x" * 50)[:8])
    assert problems_of(path)[0].startswith(f"{path}: the file: found gzip that is cut off")


def test_a_file_that_changes_is_told(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [row(1, AT)])
    with opened(path, *WORDS) as history:
        history.survey()
        path.write_text("other")
        with pytest.raises(Misconfigured, match="it has changed"):
            read_all(history)


def test_what_can_be_no_card_number_is_shown_in_the_rejects(tmp_path: Path) -> None:
    rows = [row(1, AT), row(2, "never", PAID="8.3000000000000007", SHOP="4111111111111111")]
    (found,) = rejects_of(write_csv(tmp_path / "a.csv", rows))
    assert orjson.loads(found["raw"])["PAID"] == "8.30…"
    assert orjson.loads(found["raw"])["SHOP"] == "[pan]"


def test_labels_of_no_transaction_are_counted(tmp_path: Path) -> None:
    for number, name in enumerate(("a.csv", "b.csv"), 1):
        write_csv(tmp_path / "in" / name, [row(number, AT)])
    known = [{"transaction_id": each} for each in ("1", "2", "404", "405")]
    labels = str(write_csv(tmp_path / "labels.csv", known))
    policy = LabelPolicy(1)
    wanted = FieldMap()
    with opened(
        tmp_path / "in", *WORDS, labels=labels, labels_map=wanted, policy=policy
    ) as history:
        survey = history.survey()
    assert (survey.labels, survey.unmatched_labels) == (2, 2)


@pytest.mark.parametrize("name", ["a.csv.gz", "a.ndjson.gz"])
def test_a_look_at_gzip_that_is_cut_off_is_one_problem(tmp_path: Path, name: str) -> None:
    rows = [row(n, AT, PAID=str(n * 7919 % 10_007)) for n in range(8_000)]
    write_any = write_csv if "csv" in name else write_ndjson
    path = write_any(tmp_path / name, rows)
    path.write_bytes(path.read_bytes()[:-2_000])
    with opened(path, *WORDS) as history, pytest.raises(Misconfigured, match="cut off"):
        history.outline()


def test_a_source_without_files_is_a_wrong_argument(tmp_path: Path) -> None:
    (found,) = problems_of(tmp_path / "nothing" / "*.csv")
    assert found.startswith("arguments: SOURCE: ")


def test_labels_of_two_sources_are_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [row(1, AT, BAD=1)])
    (found,) = problems_of(path, *WORDS, "label=BAD", labels=str(path), policy=LabelPolicy(1))
    assert "one source of labels" in found


def test_a_source_of_labels_is_held_against_its_columns(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [row(1, AT)])
    labels = write_csv(tmp_path / "labels.csv", [{"TX": 1, "STATE": "fraud"}])
    wanted = read_field_map(["label=STAT"], None, FORM, fields=("transaction_id", "label"))
    found = problems_of(path, *WORDS, labels=str(labels), labels_map=wanted)
    assert [each.split(": ", 2)[1] for each in found] == ["transaction_id", "label", "label"]


def test_the_arguments_are_refused_together() -> None:
    parser = argparse.ArgumentParser()
    add_history_arguments(parser)
    words = "src --map card_id=A card_id=B cardid=C nonsense merchant_id={x --time-zone Mars"
    more = "--label-delay soon --since never --max-rejects 2 --labels-map amount=A"
    with pytest.raises(Misconfigured) as refused:
        read_request(parser.parse_args([*words.split(), *more.split()]), FORM)
    assert [f"{each.key} {each.found}" for each in refused.value.problems] == [
        "--map card_id again",
        "--map cardid",
        "--map nonsense",
        "--map merchant_id={x",
        "--labels-map amount",
        "--label-delay soon",
        "--time-zone Mars",
        "--max-rejects 2.0",
        "--since never",
    ]


def test_the_arguments_make_a_request() -> None:
    parser = argparse.ArgumentParser()
    add_history_arguments(parser)
    words = "src --map card_id=A --time-zone Europe/Berlin --label-delay 7d --since 2026-05-01"
    request = read_request(parser.parse_args(words.split()), FORM)
    assert request.field_map.time_zone == "Europe/Berlin"
    assert request.policy == LabelPolicy(604_800)
    assert request.period.holds("s3://b/2026/05/01/07/x")
    assert not request.period.holds("s3://b/2026/04/30/23/x")


NASTY = [
    "",
    " ",
    "\0",
    "nan",
    "-inf",
    "infinity",
    "1e400",
    "-0",
    "99999999999999999999999999999999999999",
    "-9223372036854775808",
    "290000-01-01",
    "0001-01-01 00:00:00",
    "9999-12-31T23:59:59.999999999+23:59",
    "2026-02-30",
    "'; DROP TABLE x; --",
    '"}]',
    "\\u0000\\x00",
    "\u20ac\U0001f600",
    "{ID}",
    "null",
]
MAPPINGS = [
    "{}",
    "{time: {zone: Asia/Kathmandu}}",
    "{time: {unit: s}, amount: {unit: minor}}",
    "{time: {unit: ns}}",
    '{time: {format: "%Y-%m-%d %H:%M:%S %z"}}',
]


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_no_cell_ends_a_replay(tmp_path: Path, mapping: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(mapping)
    columns = ("ID", "AT", "CUSTOMER", "PAID", "LAT", "BAD", "KNOWN", "X'Y\"Z")
    rows = [
        {**row(n, AT), "LAT": "1", "BAD": "0", "KNOWN": AT, "X'Y\"Z": "c", column: nasty}
        for n, (column, nasty) in enumerate((c, v) for c in columns for v in NASTY)
    ]
    words = (*WORDS, "latitude=LAT", "label=BAD", "label_time=KNOWN", "channel=X'Y\"Z")
    for source in (
        write_csv(
            tmp_path / "a.csv", [{k: str(v).replace("\0", "") for k, v in r.items()} for r in rows]
        ),
        write_ndjson(tmp_path / "a.ndjson", rows),
        write_parquet(tmp_path / "a.parquet", rows),
    ):
        with opened(
            source,
            *words,
            mapping=path,
            max_rejects=1.0,
            rejects=tmp_path / "r",
            folder=tmp_path / "w",
        ) as history:
            try:
                events = read_all(history)
            except Misconfigured as error:
                assert "rows that cannot be mapped" in str(error)  # noqa: PT017 - or none is raised
                continue
        for event in events:
            orjson.loads(event)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu"])
def test_no_number_or_time_of_parquet_ends_a_replay(tmp_path: Path, zone: str) -> None:
    path = tmp_path / "map.yaml"
    path.write_text(f"time: {{zone: {zone}}}\n")
    numbers = [float("nan"), float("inf"), -0.0, 1e300, 5e-324, 2.0**60, 1.5, None]
    rows = [{**row(1, AT), "PAID": value, "LAT": value, "CUSTOMER": value} for value in numbers]
    times = [datetime(1, 1, 1), datetime(9999, 12, 31, 23), datetime(1969, 12, 31), None]  # noqa: DTZ001
    rows = [{**each, "AT": at} for each in rows for at in [datetime(2026, 5, 1), *times]]  # noqa: DTZ001
    source = write_parquet(tmp_path / "a.parquet", rows)
    words = (*WORDS, "latitude=LAT", "customer_id=CUSTOMER")
    with opened(source, *words, mapping=path, max_rejects=1.0) as history:
        for event in read_all(history):
            orjson.loads(event)
        assert 0 < history.survey().rejected < len(rows)
