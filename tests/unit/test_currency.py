"""Amounts become whole minor units exactly, or not at all."""

import pytest

from consumer.currency import EXPONENTS, MAX_MINOR, minor_units
from consumer.errors import Rejected


@pytest.mark.parametrize(
    ("raw", "currency", "expected"),
    [
        (b"12.5", "EUR", 1250),
        (b'"12.50"', "EUR", 1250),
        (b"12", "EUR", 1200),
        (b"0", "EUR", 0),
        (b"0.00", "EUR", 0),
        (b"0.05", "EUR", 5),
        (b"1500", "JPY", 1500),
        (b"1500.0", "JPY", 1500),
        (b"1.2340", "KWD", 1234),
        (b"0.0001", "CLF", 1),
        (b"1.25E1", "EUR", 1250),
        (b"1e3", "EUR", 100_000),
        (b'"1E-2"', "EUR", 1),
        (b"1000e-3", "JPY", 1),
        (b"0e999", "EUR", 0),
        (b"10995116277.75", "EUR", MAX_MINOR),
        (b"12.500000000000000000", "EUR", 1250),
    ],
)
def test_an_amount_is_read_exactly(raw: bytes, currency: str, expected: int) -> None:
    assert minor_units("amount", raw, currency) == expected


@pytest.mark.parametrize(
    ("raw", "currency", "code"),
    [
        (b"12.345", "EUR", "too_many_decimals"),
        (b"0.30000000000000004", "EUR", "too_many_decimals"),
        (b"1.5", "JPY", "too_many_decimals"),
        (b"1e-3", "EUR", "too_many_decimals"),
        (b"1e-999", "EUR", "too_many_decimals"),
        (b"-1", "EUR", "out_of_range"),
        (b"-0", "EUR", "out_of_range"),
        (b'"-1.00"', "EUR", "out_of_range"),
        (b"10995116277.76", "EUR", "out_of_range"),
        (b"1e30", "EUR", "out_of_range"),
        (b"1e999", "EUR", "out_of_range"),
        (b"9" * 41, "EUR", "out_of_range"),
        (b"true", "EUR", "wrong_type"),
        (b"null", "EUR", "wrong_type"),
        (b"[1]", "EUR", "wrong_type"),
        (b'{"value":1}', "EUR", "wrong_type"),
        (b'""', "EUR", "bad_value"),
        (b'"NaN"', "EUR", "bad_value"),
        (b'"Infinity"', "EUR", "bad_value"),
        (b'"1_0"', "EUR", "bad_value"),
        (b'" 1"', "EUR", "bad_value"),
        (b'"1,50"', "EUR", "bad_value"),
        (b'"01"', "EUR", "bad_value"),
        (b'"+1"', "EUR", "bad_value"),
        (b'"1."', "EUR", "bad_value"),
        (b'"1e99999"', "EUR", "bad_value"),
        ('"١٢"'.encode(), "EUR", "bad_value"),
    ],
)
def test_an_amount_that_is_not_exact_money_is_rejected(
    raw: bytes, currency: str, code: str
) -> None:
    with pytest.raises(Rejected) as caught:
        minor_units("amount", raw, currency)

    assert caught.value.code == code
    assert caught.value.message.startswith("amount: expected")


def test_codes_that_are_not_money_have_no_exponent() -> None:
    assert not EXPONENTS.keys() & {"XAU", "XAG", "XDR", "XTS", "XXX"}
    assert EXPONENTS["EUR"] == 2
    assert EXPONENTS["JPY"] == 0
    assert EXPONENTS["BHD"] == 3
    assert EXPONENTS["UYW"] == 4
