"""The published schema is that of the types, and agrees with what decode accepts."""

from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator
from jsonschema.protocols import Validator

from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.schema import build_schema, file_name, published_schema
from consumer.settings import Events

RULES = DecodeRules.of(Events())
TRANSACTION: dict[str, Any] = {
    "type": "transaction",
    "transaction_id": "tx_1",
    "event_time": "2026-05-01T12:30:00Z",
    "card_id": "card_1",
    "merchant_id": "merchant_1",
    "amount": 12.5,
    "currency": "EUR",
}
LABEL: dict[str, Any] = {
    "type": "label",
    "transaction_id": "tx_1",
    "label": "fraud",
    "label_time": "2026-05-08T09:00:00Z",
    "source": "chargeback",
}


def validator(event: str) -> Validator:
    schema = orjson.loads(published_schema(event))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


@pytest.mark.parametrize("event", ["transaction", "label"])
def test_the_packaged_schema_is_the_one_that_the_types_give(event: str) -> None:
    assert published_schema(event) == build_schema(event), "run: python -m consumer.schema"


@pytest.mark.parametrize("event", ["transaction", "label"])
def test_a_schema_carries_its_version_in_id_and_file_name(event: str) -> None:
    assert orjson.loads(published_schema(event))["$id"] == f"urn:fraudstream:event:{event}:v1"
    assert file_name(event) == f"{event}.v1.json"


VALID = [
    {},
    {"amount": "12.50"},
    {"amount": 0},
    {"amount": 1e3},
    {"currency": "USD", "base_amount": "11.20"},
    {"base_amount": None},
    {"kind": "refund"},
    {"customer_id": None, "latitude": None},
    {"latitude": -90, "longitude": 180},
    {"ip_address": "203.0.113.42"},
    {"ip_address": "2001:db8::1"},
    {"merchant_category": "5411", "country": "NL", "channel": "pos"},
]
INVALID = [
    {"amount": -1},
    {"amount": None},
    {"amount": "NaN"},
    {"amount": "1,50"},
    {"amount": "01"},
    {"currency": "XAU"},
    {"currency": "eur"},
    {"kind": "gift"},
    {"kind": None},
    {"card_id": 42},
    {"card_id": "card 1"},
    {"card_id": "a" * 65},
    {"event_time": "2026-05-01T12:30:00"},
    {"event_time": 1_790_000_000},
    {"latitude": 91},
    {"longitude": "4.8"},
    {"ip_address": "203.0.113.256"},
    {"merchant_category": "541"},
    {"country": "nl"},
    {"channel": "point of sale"},
    {"loyalty": 1},
    {"type": "label"},
]


@pytest.mark.parametrize("change", VALID)
def test_schema_and_decode_accept_the_same_transactions(change: dict[str, Any]) -> None:
    validator("transaction").validate(TRANSACTION | change)
    decode(orjson.dumps(TRANSACTION | change), RULES)


@pytest.mark.parametrize("change", INVALID)
def test_schema_and_decode_refuse_the_same_transactions(change: dict[str, Any]) -> None:
    assert not validator("transaction").is_valid(TRANSACTION | change)
    with pytest.raises(Rejected):
        decode(orjson.dumps(TRANSACTION | change), RULES)


@pytest.mark.parametrize(
    "change", [{}, {"keys": {"card_id": "card_1"}}, {"keys": None}, {"label": "legitimate"}]
)
def test_schema_and_decode_accept_the_same_labels(change: dict[str, Any]) -> None:
    validator("label").validate(LABEL | change)
    decode(orjson.dumps(LABEL | change), RULES)


@pytest.mark.parametrize(
    "change", [{"label": "maybe"}, {"source": "a b"}, {"keys": {"country": "NL"}}, {"amount": 1}]
)
def test_schema_and_decode_refuse_the_same_labels(change: dict[str, Any]) -> None:
    assert not validator("label").is_valid(LABEL | change)
    with pytest.raises(Rejected):
        decode(orjson.dumps(LABEL | change), RULES)
