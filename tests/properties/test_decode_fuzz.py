"""Whatever the bytes are, decode answers with an event or Rejected, and a letter can be written."""

import gzip
import re
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.currency import EXPONENTS, MAX_MINOR
from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.masking import mask_payload
from consumer.model import Label, Transaction
from consumer.settings import Events

RULES = DecodeRules.of(Events(extra_fields=("note",)))
TRANSACTION: dict[str, Any] = {
    "type": "transaction",
    "transaction_id": "tx_1",
    "event_time": "2026-05-01T12:30:00.123Z",
    "card_id": "card_1",
    "merchant_id": "merchant_1",
    "amount": 12.5,
    "currency": "EUR",
    "kind": "purchase",
    "latitude": 52.37,
    "longitude": 4.89,
    "ip_address": "203.0.113.42",
    "note": "a \u20ac and a \\ and a [",
}
LABEL: dict[str, Any] = {
    "type": "label",
    "transaction_id": "tx_1",
    "label": "fraud",
    "label_time": "2026-05-08T09:00:00Z",
    "source": "chargeback",
    "keys": {"card_id": "card_1"},
}
EVENTS = st.sampled_from([TRANSACTION, LABEL])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=40),
    st.sampled_from(["", "NaN", "1e5", "12.50", "4111111111111111", "2026-05-01T12:30:00Z"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


def decoded(data: bytes) -> Transaction | Label | Rejected:
    """What becomes of *data*; whatever it is, its letter can be written and a code is stable."""
    assert len(mask_payload(data).text) <= 65_536
    try:
        return decode(data, RULES)
    except Rejected as error:
        rejected = error
    assert re.fullmatch(r"[a-z_0-9]+", rejected.code)
    assert "4111111111111111" not in rejected.message
    return rejected


def dumps(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits or a lone surrogate, which JSON text may hold
        return repr(value).encode("utf-8", "surrogatepass")


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    decoded(data)
    decoded(b"\x1f\x8b" + data)
    decoded(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + data)


@given(VALUES)
def test_any_json(value: object) -> None:
    assert isinstance(decoded(dumps(value)), Rejected)


@given(EVENTS, st.data())
def test_an_event_with_bytes_changed(event: dict[str, Any], data: st.DataObject) -> None:
    raw = bytearray(orjson.dumps(event))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    found = decoded(bytes(raw))

    if isinstance(found, Transaction):
        assert 0 <= found.amount_minor <= MAX_MINOR
        assert found.currency in EXPONENTS


@given(EVENTS, st.data())
def test_an_event_with_a_field_changed(event: dict[str, Any], data: st.DataObject) -> None:
    field = data.draw(st.sampled_from([*event, "unknown"]))

    decoded(dumps(event | {field: data.draw(VALUES)}))


@given(EVENTS, st.data())
def test_an_event_with_a_field_repeated(event: dict[str, Any], data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(event)))
    again = data.draw(st.one_of(st.just(event[field]), SCALARS))
    spaces = data.draw(st.sampled_from([b"", b" ", b"\n\t"]))
    repeated = orjson.dumps(field) + spaces + b":" + spaces + dumps(again)

    assert isinstance(decoded(orjson.dumps(event)[:-1] + b"," + repeated + b"}"), Rejected)


@given(EVENTS, st.sampled_from([b"[", b'{"a":', b'[{"a":']), st.integers(1, 10_000))
def test_deep_nesting(event: dict[str, Any], opening: bytes, depth: int) -> None:
    assert isinstance(decoded(opening * depth), Rejected)
    nested = orjson.dumps(event)[:-1] + b',"note":' + opening * depth + b"}"
    assert isinstance(decoded(nested), Rejected)


@given(st.integers(1, 60_000), st.sampled_from(["amount", "latitude", "note", "transaction_id"]))
@settings(max_examples=50)
def test_huge_numbers(digits: int, field: str) -> None:
    raw = orjson.dumps(TRANSACTION | {field: "?"}).replace(b'"?"', b"9" * digits)
    found = decoded(raw)

    assert isinstance(found, Rejected) or (field != "transaction_id" and digits <= 16)


@given(
    st.integers(0, MAX_MINOR),
    st.sampled_from(sorted(EXPONENTS)),
    st.integers(0, 3),
    st.sampled_from(["number", "text", "exponent"]),
)
def test_every_amount_is_read_back_exactly(
    minor: int, currency: str, zeros: int, form: str
) -> None:
    exponent = EXPONENTS[currency]
    if form == "exponent":
        text = f"{minor}e-{exponent}"
    else:
        digits = f"{minor:0{exponent + 1}}"
        whole, fraction = digits[: len(digits) - exponent], digits[len(digits) - exponent :]
        fraction += "0" * zeros
        text = f"{whole}.{fraction}" if fraction else whole
    written = f'"{text}"' if form == "text" else text
    event = TRANSACTION | {"amount": "?", "currency": currency, "base_amount": "?"}
    found = decoded(
        orjson.dumps(event if currency != "EUR" else event | {"base_amount": None})
        .replace(b'"amount":"?"', b'"amount":' + written.encode())
        .replace(b'"base_amount":"?"', b'"base_amount":1')
    )

    assert isinstance(found, Transaction)
    assert found.amount_minor == minor


@pytest.mark.parametrize("members", [1, 40])
def test_a_gzip_bomb_takes_bounded_memory(members: int) -> None:
    bomb = gzip.compress(b'{"type":' + b" " * 40_000_000) * members
    tracemalloc.start()
    found = decoded(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert isinstance(found, Rejected)
    assert found.code == "too_large"
    assert peak < 2_000_000
