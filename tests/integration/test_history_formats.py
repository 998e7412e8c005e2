"""One history in every format, and what each cell becomes."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumer.decode import DecodeRules, decode
from consumer.model import Label, Transaction
from consumer.replay.mapping import EventForm, LabelPolicy
from consumer.row import COLUMNS
from consumer.settings import Events
from tests.histories import (
    WORDS,
    opened,
    places,
    read_events,
    row,
    write,
    write_csv,
    write_ndjson,
    write_parquet,
)

ROWS = [row(1, "2026-05-01 12:00:00"), row(2, "2026-05-01 12:00:01.250", PAID="7")]
EXPECTED = [
    {
        "type": "transaction",
        "transaction_id": "1",
        "event_time": "2026-05-01T12:00:00Z",
        "card_id": "7",
        "merchant_id": "3",
        "amount": 12.5,
        "currency": "EUR",
    },
    {
        "type": "transaction",
        "transaction_id": "2",
        "event_time": "2026-05-01T12:00:01.25Z",
        "card_id": "7",
        "merchant_id": "3",
        "amount": 7,
        "currency": "EUR",
    },
]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a"])
def test_a_csv_becomes_events(tmp_path: Path, name: str) -> None:
    assert read_events(write_csv(tmp_path / name, ROWS), *WORDS) == EXPECTED


@pytest.mark.parametrize("name", ["a.ndjson", "a.jsonl.gz", "a.json", "a"])
def test_ndjson_becomes_events(tmp_path: Path, name: str) -> None:
    assert read_events(write_ndjson(tmp_path / name, ROWS), *WORDS) == EXPECTED


def test_ndjson_may_have_numbers_where_a_csv_has_text(tmp_path: Path) -> None:
    rows = [{**each, "ID": n, "CUSTOMER": 7, "SHOP": 3.0} for n, each in enumerate(ROWS, 1)]
    rows = [{**each, "PAID": float(str(each["PAID"]))} for each in rows]
    found = read_events(write_ndjson(tmp_path / "a.ndjson", rows), *WORDS)
    assert [each["merchant_id"] for each in found] == ["3.0", "3.0"]
    assert [each["amount"] for each in found] == [12.5, 7.0]
    assert [each["card_id"] for each in found] == ["7", "7"]


def test_parquet_becomes_events_whatever_its_types(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "ID": 1,
            "AT": datetime(2026, 5, 1, 12, tzinfo=UTC),
            "CUSTOMER": 7.0,
            "SHOP": b"3",
            "PAID": Decimal("12.50"),
        },
        {
            "ID": 2,
            "AT": datetime(2026, 5, 1, 12, 0, 1, 250_999, tzinfo=UTC),
            "CUSTOMER": 7.0,
            "SHOP": b"3",
            "PAID": Decimal("7.00"),
        },
    ]
    assert read_events(write_parquet(tmp_path / "a", rows), *WORDS) == EXPECTED


def test_semicolons_tabs_and_bars_divide_too(tmp_path: Path) -> None:
    for delimiter in ";\t|":
        path = write_csv(tmp_path / "a.csv", ROWS, delimiter)
        assert read_events(path, *WORDS) == EXPECTED


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ROWS)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_events(path, *WORDS) == EXPECTED
    lines = write_ndjson(tmp_path / "a.ndjson", ROWS)
    lines.write_bytes(b"\xef\xbb\xbf" + lines.read_bytes())
    assert read_events(lines, *WORDS) == EXPECTED


def test_quoted_newlines_are_cells_and_rows_keep_the_line_they_begin_at(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "NOTE": 'two\nlines, "quoted"'}, {**ROWS[1], "NOTE": ""}]
    path = write_csv(tmp_path / "a.csv", rows)
    assert read_events(path, *WORDS) == EXPECTED
    with opened(path, *WORDS) as history:
        assert places(history.read()) == [f"{path}, line 2", f"{path}, line 4"]


def test_a_place_names_the_row_of_parquet_and_the_line_of_ndjson(tmp_path: Path) -> None:
    table = write_parquet(tmp_path / "a.parquet", ROWS)
    with opened(table, *WORDS) as history:
        assert places(history.read()) == [f"{table}, row 1", f"{table}, row 2"]
    lines = write_ndjson(tmp_path / "a.ndjson", ROWS)
    lines.write_bytes(b"\n" + lines.read_bytes())
    with opened(lines, *WORDS) as history:
        assert places(history.read()) == [f"{lines}, line 2", f"{lines}, line 3"]


def test_columns_of_an_events_own_names_need_no_mapping(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [{**each, "kind": "refund"} for each in EXPECTED])
    assert read_events(path) == [{**each, "kind": "refund"} for each in EXPECTED]
    assert read_events(path, "kind=") == EXPECTED


def test_what_is_empty_is_left_out(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "LAT": None, "WHERE": "  "}, {**ROWS[1], "LAT": 48.1, "WHERE": "DE"}]
    words = (*WORDS, "latitude=LAT", "country=WHERE")
    for path in (
        write_csv(tmp_path / "a.csv", rows),
        write_ndjson(tmp_path / "a.ndjson", rows),
        write_parquet(tmp_path / "a.parquet", rows),
    ):
        second = {**EXPECTED[1], "latitude": 48.1, "country": "DE"}
        assert read_events(path, *words) == [EXPECTED[0], second]


def test_templates_and_constants_make_ids(tmp_path: Path) -> None:
    words = (*WORDS[:2], "card_id=c-{CUSTOMER}-{SHOP}", *WORDS[3:], "channel==pos")
    path = write_parquet(tmp_path / "a.parquet", [{**ROWS[0], "CUSTOMER": 7}])
    assert read_events(path, *words) == [{**EXPECTED[0], "card_id": "c-7-3", "channel": "pos"}]


def test_a_category_gets_its_zeros_back(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [{**ROWS[0], "MCC": 742}])
    assert read_events(path, *WORDS, "merchant_category=MCC")[0]["merchant_category"] == "0742"


@pytest.mark.parametrize(
    ("at", "zone", "expected"),
    [
        ("2026-05-01 12:00:00", "Europe/Berlin", "2026-05-01T10:00:00Z"),
        ("2026-05-01T12:00:00.5+02:00", "America/New_York", "2026-05-01T10:00:00.5Z"),
        ("2026-05-01T12:00:00Z", "Europe/Berlin", "2026-05-01T12:00:00Z"),
        ("2026-05-01", "Europe/Berlin", "2026-04-30T22:00:00Z"),
        # An hour that comes twice is the later one, an hour that is left out the one after.
        ("2026-10-25 02:30:00", "Europe/Berlin", "2026-10-25T01:30:00Z"),
        ("2026-03-29 02:30:00", "Europe/Berlin", "2026-03-29T01:30:00Z"),
    ],
)
def test_a_time_without_an_offset_is_of_the_time_zone(
    tmp_path: Path, at: str, zone: str, expected: str
) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text(f"time: {{zone: {zone}}}\n")
    path = write_csv(tmp_path / "a.csv", [row(1, at)])
    assert read_events(path, *WORDS, mapping=mapping)[0]["event_time"] == expected


def test_a_column_of_times_without_offset_is_of_the_time_zone(tmp_path: Path) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text("time: {zone: Europe/Berlin}\n")
    naive = datetime(2026, 5, 1, 12)  # noqa: DTZ001 - what is tried
    for at, expected in (
        (naive, "2026-05-01T10:00:00Z"),
        (date(2026, 5, 1), "2026-04-30T22:00:00Z"),
    ):
        path = write_parquet(tmp_path / "a.parquet", [{**ROWS[0], "AT": at}])
        assert read_events(path, *WORDS, mapping=mapping)[0]["event_time"] == expected


@pytest.mark.parametrize(
    ("unit", "at"),
    [
        ("s", 1777636800),
        ("s", 1777636800.5),
        ("ms", 1777636800500),
        ("us", 1777636800500999),
        ("ns", 1777636800500999999),
    ],
)
def test_numbers_count_from_the_epoch(tmp_path: Path, unit: str, at: float) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text(f"time: {{unit: {unit}}}\n")
    expected = "2026-05-01T12:00:00Z" if at == 1777636800 else "2026-05-01T12:00:00.5Z"
    for path in (
        write_parquet(tmp_path / "a.parquet", [{**ROWS[0], "AT": at}]),
        write_csv(tmp_path / "a.csv", [{**ROWS[0], "AT": at}]),
    ):
        assert read_events(path, *WORDS, mapping=mapping)[0]["event_time"] == expected


def test_a_format_of_ones_own_is_read(tmp_path: Path) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text('time: {format: "%d.%m.%Y %H:%M", zone: Europe/Berlin}\n')
    path = write_csv(tmp_path / "a.csv", [row(1, "01.05.2026 12:30")])
    assert read_events(path, *WORDS, mapping=mapping)[0]["event_time"] == "2026-05-01T10:30:00Z"


@pytest.mark.parametrize(
    ("currency", "minor", "amount"),
    [("EUR", 1250, "12.50"), ("JPY", 1250, "1250"), ("KWD", 5, "0.005"), ("EUR", 7, "0.07")],
)
def test_minor_units_follow_the_currency(
    tmp_path: Path, currency: str, minor: int, amount: str
) -> None:
    mapping = tmp_path / "map.yaml"
    mapping.write_text("amount: {unit: minor}\n")
    path = write_parquet(tmp_path / "a.parquet", [{**ROWS[0], "PAID": minor, "MONEY": currency}])
    words = (*WORDS[:-1], "currency=MONEY")
    with opened(path, *words, mapping=mapping) as history:
        event = next(history.read()).events[0]
    assert f'"amount":{amount},'.encode() in event


@pytest.mark.parametrize(
    ("paid", "amount"),
    [(8.11 * 5 / 5 + 1e-15 * 8, 8.11), (0.1 + 0.2, 0.3), (2.675 * 100, 267.5), (1.2345, 1.2345)],
)
def test_what_arithmetic_with_doubles_left_behind_is_no_further_decimal(
    tmp_path: Path, paid: float, amount: float
) -> None:
    for path in (
        write_parquet(tmp_path / "a.parquet", [{**ROWS[0], "PAID": paid}]),
        # pyarrow writes all seventeen digits of a double.
        write_csv(tmp_path / "a.csv", [{**ROWS[0], "PAID": f"{paid:.17g}"}]),
        write_ndjson(tmp_path / "a.ndjson", [{**ROWS[0], "PAID": paid}]),
        write_ndjson(tmp_path / "b.ndjson", [{**ROWS[0], "PAID": f"{paid:.17g}"}]),
    ):
        assert read_events(path, *WORDS)[0]["amount"] == amount


def test_further_fields_keep_their_types(tmp_path: Path) -> None:
    form = EventForm("EUR", ("basket", "gift", "note.1"))
    rows = [{**ROWS[0], "basket": 3, "gift": True, "note.1": 'a "b"'}]
    for path in (
        write_ndjson(tmp_path / "a.ndjson", rows),
        write_parquet(tmp_path / "a.parquet", rows),
    ):
        found = read_events(path, *WORDS, form=form)[0]
        assert (found["basket"], found["gift"], found["note.1"]) == (3, True, 'a "b"')


def test_events_pass_as_they_are(tmp_path: Path) -> None:
    label = {
        "type": "label",
        "transaction_id": "1",
        "label": "fraud",
        "label_time": "2026-05-01T12:00:01.250Z",
        "source": "chargeback",
    }
    written = [orjson.dumps(each) for each in (EXPECTED[1], label, EXPECTED[0])]
    path = write(tmp_path / "a.ndjson.gz", b"\n".join(written))
    with opened(path) as history:
        found = list(history.read())
    assert [event for each in found for event in each.events] == [
        written[2],
        written[1],
        written[0],
    ]
    assert [kind for each in found for kind in each.kinds] == [True, False, True]


FIREHOSE_ROW: dict[str, Any] = {
    **dict.fromkeys(COLUMNS),
    "transaction_id": "tx_1",
    "prediction_id": "p" * 32,
    "event_time": "2026-05-01 12:00:00.250",
    "card_id": "card_7",
    "merchant_id": "shop_3",
    "amount": 12.5,
    "currency": "EUR",
    "base_amount": 12.5,
    "kind": "purchase",
    "latitude": 35.6812,
    "decision": "approve",
    "reasons": [],
    "digest": "d",
    "f_card_count_1h": 3,
    "x_basket": 4,
    "x_other": "not listed",
}


def test_rows_of_firehose_become_their_events_again(tmp_path: Path) -> None:
    form = EventForm("EUR", ("basket",))
    # Firehose stores at least once: the row twice, in objects under time prefixes, without suffix.
    for hour in ("2026/05/01/12", "2026/05/01/13"):
        write_ndjson(tmp_path / hour / "delivery-1", [FIREHOSE_ROW])
    events = read_events(tmp_path, form=form)
    assert events == [
        {
            "type": "transaction",
            "transaction_id": "tx_1",
            "event_time": "2026-05-01T12:00:00.25Z",
            "card_id": "card_7",
            "merchant_id": "shop_3",
            "amount": 12.5,
            "currency": "EUR",
            "base_amount": 12.5,
            "kind": "purchase",
            "latitude": 35.6812,
            "basket": 4,
        }
    ]
    rules = DecodeRules.of(Events(extra_fields=("basket",)))
    assert isinstance(decode(orjson.dumps(events[0]), rules), Transaction)


def test_what_a_mapping_makes_is_decoded_like_any_event(tmp_path: Path) -> None:
    rules = DecodeRules.of(Events())
    path = write_csv(tmp_path / "a.csv", [{**each, "BAD": "1"} for each in ROWS])
    with opened(path, *WORDS, "label=BAD", policy=LabelPolicy(60)) as history:
        found = [decode(event, rules) for each in history.read() for event in each.events]
    assert [type(each) for each in found] == [Transaction, Transaction, Label, Label]
