"""Exchange rates: which one applies, to the minor unit, and what a table may say."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.currency import MAX_MINOR
from consumer.errors import Misconfigured, Rejected
from consumer.rates import Rates, RateTable

TABLE = """date,currency,rate
2026-05-01,USD,0.92
2026-05-04,USD,0.93
2026-05-01,JPY,0.0062
2026-05-01,KWD,3.01
2026-05-01,VND,0.000037
"""
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def table(tmp_path: Path, text: str = TABLE, name: str = "rates.csv", days: int = 7) -> RateTable:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return RateTable.read(path, "EUR", days)


def problems(tmp_path: Path, text: str, name: str = "rates.csv") -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        table(tmp_path, text, name)
    return [str(problem).replace(str(tmp_path / name), "FILE") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("amount_minor", "currency", "base_minor"),
    [
        (100, "USD", 92),
        (1_000, "JPY", 620),  # yen have no decimals: 1000 yen are 6.20
        (1_000, "KWD", 301),  # dinars have three: one dinar is 3.01
        (10_000, "VND", 37),
        (0, "USD", 0),
        (MAX_MINOR, "VND", 4_068_193_023),
    ],
)
def test_money_is_converted_between_currencies_of_any_decimals(
    tmp_path: Path, amount_minor: int, currency: str, base_minor: int
) -> None:
    assert table(tmp_path).convert(amount_minor, currency, NOON) == base_minor


def test_half_a_minor_unit_is_rounded_up(tmp_path: Path) -> None:
    halves = table(tmp_path, "date,currency,rate\n2026-05-01,USD,0.5\n")
    assert [halves.convert(minor, "USD", NOON) for minor in (1, 2, 3, 5)] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("day", "base_minor"),
    [(1, 92), (3, 92), (4, 93), (11, 93), (12, None)],
)
def test_a_rate_stands_until_the_next_one_and_no_longer_than_the_limit(
    tmp_path: Path, day: int, base_minor: int | None
) -> None:
    assert table(tmp_path).convert(100, "USD", NOON.replace(day=day)) == base_minor


def test_before_the_first_rate_and_for_an_unknown_currency_there_is_none(tmp_path: Path) -> None:
    assert table(tmp_path).convert(100, "USD", datetime(2026, 4, 30, 23, 59, tzinfo=UTC)) is None
    assert table(tmp_path).convert(100, "GBP", NOON) is None


def test_more_money_than_can_be_counted_is_rejected(tmp_path: Path) -> None:
    dear = table(tmp_path, "date,currency,rate\n2026-05-01,USD,2\n")
    with pytest.raises(Rejected, match="amount: expected at most") as caught:
        dear.convert(MAX_MINOR, "USD", NOON)
    assert caught.value.code == "out_of_range"


@given(
    st.integers(0, 10**9),
    st.decimals("0.000001", "100", places=6),
)
def test_a_conversion_is_that_of_decimal_arithmetic(
    tmp_path_factory: pytest.TempPathFactory, amount_minor: int, rate: Decimal
) -> None:
    expected = (amount_minor * rate).quantize(Decimal(1), ROUND_HALF_UP)
    text = f"date,currency,rate\n2026-05-01,USD,{rate}\n"
    read = table(tmp_path_factory.getbasetemp(), text)
    assert read.convert(amount_minor, "USD", NOON) == int(expected)


def test_yaml_says_the_same_and_its_rates_are_no_floats(tmp_path: Path) -> None:
    text = """
- {date: 2026-05-01, currency: USD, rate: 0.920000000001}
- date: "2026-05-02"
  currency: USD
  rate: "0.93"
"""
    read = table(tmp_path, text, "rates.yaml")
    assert read.convert(10**12, "USD", NOON) == 920_000_000_001
    assert read.convert(100, "USD", NOON.replace(day=2)) == 93


@pytest.mark.parametrize("text", ["", "[]"])
def test_an_empty_list_in_yaml_is_no_rates(tmp_path: Path, text: str) -> None:
    assert table(tmp_path, text, "rates.yml").convert(100, "USD", NOON) is None


def test_every_wrong_line_is_named(tmp_path: Path) -> None:
    text = """date,currency,rate
2026-05-01,EUR,1
2026-05-01,XAU,2
05/01/2026,USD,1
2026-05-01,USD,0
2026-05-01,USD,-1
2026-05-01,USD,"1,2"
2026-05-01,GBP,1.15

2026-05-01,GBP,1.16
"""
    assert problems(tmp_path, text) == [
        "FILE:2: currency: found 'EUR', expected an ISO 4217 code other than EUR",
        "FILE:3: currency: found 'XAU', expected an ISO 4217 code other than EUR",
        "FILE:4: date: found '05/01/2026', expected a day such as 2026-05-01",
        "FILE:5: rate: found '0', expected what one USD is worth in EUR, such as 0.92",
        "FILE:6: rate: found '-1', expected what one USD is worth in EUR, such as 0.92",
        "FILE:7: rate: found '1,2', expected what one USD is worth in EUR, such as 0.92",
        "FILE:10: date: found 2026-05-01 again, expected one rate a day of GBP",
    ]


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("", "r.csv", "a first line of ''"),
        ("currency,date,rate\n", "r.csv", "a first line of 'currency,date,rate'"),
        ("date,currency,rate\n2026-05-01,USD\n", "r.csv", "2 values on line 2"),
        ("a: b", "r.yaml", "no list"),
        ("- a\n", "r.yaml", "another entry on line 1"),
        ("- {date: 2026-05-01, currency: USD}\n", "r.yaml", "another entry on line 1"),
        ("- [", "r.yaml", "expected the node content"),
        ("[" * 5_000, "r.yaml", "deeper nesting"),
        (f"date,currency,rate\n{'x' * 200_000},USD,1\n", "r.csv", "field larger than field limit"),
    ],
)
def test_a_file_of_another_form_is_refused(
    tmp_path: Path, text: str, name: str, found: str
) -> None:
    (problem,) = problems(tmp_path, text, name)
    assert found in problem


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        RateTable.read(tmp_path / "none.csv", "EUR", 7)
    (tmp_path / "latin.csv").write_bytes(b"\xe9")
    with pytest.raises(Misconfigured, match="byte 0 that is not UTF-8"):
        RateTable.read(tmp_path / "latin.csv", "EUR", 7)


def replace(path: Path, text: str) -> None:
    other = path.with_suffix(".new")
    other.write_text(text, "utf-8")
    other.replace(path)


def test_a_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "rates.csv"
    replace(path, TABLE)
    rates = Rates(path, "EUR", 7)
    before = rates.table
    rates.refresh()
    assert rates.table is before
    replace(path, TABLE + "2026-05-05,USD,0.95\n")
    rates.refresh()
    assert rates.table.convert(100, "USD", NOON.replace(day=5)) == 95


@pytest.mark.parametrize("text", ["date\n", None])
def test_a_replacement_that_is_wrong_leaves_the_former_rates(
    tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "rates.csv"
    replace(path, TABLE)
    rates = Rates(path, "EUR", 7)
    if text is None:
        path.unlink()
    else:
        replace(path, text)
    rates.refresh()
    assert rates.table.convert(100, "USD", NOON) == 92
