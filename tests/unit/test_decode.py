"""An event becomes one Transaction or Label, or is rejected with a stable code."""

import gzip
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from consumer.decode import DecodeRules, decode
from consumer.errors import Misconfigured, Rejected
from consumer.local.simulator.malformed import SPOILERS, spoil
from consumer.model import Kind, Label, LabelValue, Transaction
from consumer.pan import PanGuard
from consumer.settings import Events, IdPatterns

RULES = DecodeRules.of(Events())
CARD = "4111111111111111"

TRANSACTION: dict[str, Any] = {
    "type": "transaction",
    "transaction_id": "tx_1",
    "event_time": "2026-05-01T12:30:00.123Z",
    "card_id": "card_1",
    "merchant_id": "merchant_1",
    "amount": 12.5,
    "currency": "EUR",
}
FULL: dict[str, Any] = TRANSACTION | {
    "kind": "refund",
    "customer_id": "customer_1",
    "terminal_id": "terminal_1",
    "merchant_category": "5411",
    "country": "NL",
    "latitude": 52.37,
    "longitude": -4,
    "channel": "pos",
    "entry_mode": "contactless",
    "device_id": "device_1",
    "ip_address": "203.0.113.42",
}
LABEL: dict[str, Any] = {
    "type": "label",
    "transaction_id": "tx_1",
    "label": "fraud",
    "label_time": "2026-05-08T09:00:00+02:00",
    "source": "chargeback",
}


def transaction(rules: DecodeRules = RULES, /, **changes: Any) -> Transaction:
    return transaction_of(orjson.dumps(TRANSACTION | changes), rules)


def transaction_of(data: bytes, rules: DecodeRules = RULES) -> Transaction:
    event = decode(data, rules)
    assert isinstance(event, Transaction)
    return event


def label(**changes: Any) -> Label:
    event = decode(orjson.dumps(LABEL | changes), RULES)
    assert isinstance(event, Label)
    return event


def rejection(data: bytes | dict[str, Any], rules: DecodeRules = RULES) -> Rejected:
    with pytest.raises(Rejected) as caught:
        decode(data if isinstance(data, bytes) else orjson.dumps(data), rules)
    return caught.value


def test_a_full_transaction_is_read_field_by_field() -> None:
    read = transaction_of(orjson.dumps(FULL))

    assert read == Transaction(
        transaction_id=read.transaction_id,
        event_time=datetime(2026, 5, 1, 12, 30, 0, 123_000, UTC),
        card_id="card_1",
        merchant_id="merchant_1",
        amount_minor=1250,
        currency="EUR",
        base_amount_minor=1250,
        digest=read.digest,
        kind=Kind.REFUND,
        customer_id="customer_1",
        terminal_id="terminal_1",
        merchant_category="5411",
        country="NL",
        latitude=52.37,
        longitude=-4.0,
        channel="pos",
        entry_mode="contactless",
        device_id="device_1",
        ip_address="203.0.113.42",
    )
    assert read.transaction_id == "tx_1"
    assert re.fullmatch(r"[0-9a-f]{64}", read.digest)


def test_a_short_transaction_is_a_purchase_with_everything_else_absent() -> None:
    read = transaction()

    assert read.kind is Kind.PURCHASE
    assert read.customer_id is None
    assert read.latitude is None
    assert read.extra == {}


def test_gzip_is_read_like_plain_json() -> None:
    data = orjson.dumps(FULL)

    assert decode(gzip.compress(data), RULES) == decode(data, RULES)


def test_the_digest_is_that_of_the_content_not_of_the_writing() -> None:
    data = orjson.dumps(FULL)
    reordered = json.dumps(dict(reversed(FULL.items())), indent=2).encode()
    other_forms = orjson.dumps(
        FULL
        | {
            "event_time": "2026-05-01T14:30:00.1239+02:00",
            "amount": "12.500",
            "base_amount": 1.25e1,
            "longitude": -4.0,
            "ip_address": "::ffff:203.0.113.42",
        }
    )

    assert decode(reordered, RULES) == decode(data, RULES)
    assert decode(other_forms, RULES) == decode(data, RULES)
    assert transaction(kind="purchase", country=None).digest == transaction().digest
    assert transaction(latitude=-0.0).digest == transaction(latitude=0).digest


@pytest.mark.parametrize(
    "change",
    [
        {name: value}
        for name, value in {
            "transaction_id": "tx_2",
            "event_time": "2026-05-01T12:30:00.124Z",
            "card_id": "card_2",
            "merchant_id": "merchant_2",
            "amount": 12.51,
            "kind": "purchase",
            "customer_id": "customer_2",
            "terminal_id": "terminal_2",
            "merchant_category": "5412",
            "country": "BE",
            "latitude": 52.38,
            "longitude": 4.0,
            "channel": "atm",
            "entry_mode": "chip",
            "device_id": "device_2",
            "ip_address": "203.0.113.43",
        }.items()
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_is_part_of_the_digest(change: dict[str, object]) -> None:
    digest = transaction_of(orjson.dumps(FULL)).digest

    assert transaction_of(orjson.dumps(FULL | change)).digest != digest


def test_currency_and_conversion_are_part_of_the_digest() -> None:
    digests = {
        transaction().digest,
        transaction(currency="USD", base_amount=12.5).digest,
        transaction(currency="USD", base_amount=12.4).digest,
        transaction(currency="GBP", base_amount=12.5).digest,
    }

    assert len(digests) == 4


def test_the_digest_does_not_change_from_release_to_release() -> None:
    assert transaction_of(orjson.dumps(FULL)).digest == (
        "310bc5e1e05271f73e375bd6105b0af3adec8dac561f7d0723b066495fbd057f"
    )


def test_amounts_in_another_currency_carry_their_conversion() -> None:
    read = transaction(amount="1500", currency="JPY", base_amount="9.30")

    assert read.amount_minor == 1500
    assert read.base_amount_minor == 930


def test_without_a_conversion_another_currency_is_rejected() -> None:
    assert rejection(TRANSACTION | {"currency": "USD"}).code == "no_conversion"
    assert rejection(TRANSACTION | {"currency": "USD", "base_amount": None}).code == "no_conversion"


def test_a_conversion_that_contradicts_the_amount_is_rejected() -> None:
    assert transaction(base_amount="12.50").base_amount_minor == 1250
    assert rejection(TRANSACTION | {"base_amount": 12.51}).code == "bad_value"


def test_no_amount_passes_through_a_float() -> None:
    # 90071992547409.93 is not a double: through one it would end in 94.
    data = orjson.dumps(TRANSACTION).replace(b"12.5", b"9007199254.993")

    assert rejection(data).code == "too_many_decimals"
    assert transaction_of(data.replace(b".993", b".99")).amount_minor == 900_719_925_499
    assert transaction(amount="0.29").amount_minor == 29


def test_times_are_utc_in_whole_milliseconds() -> None:
    read = transaction(event_time="2026-05-01T00:30:00.0009+01:00")

    assert read.event_time == datetime(2026, 4, 30, 23, 30, tzinfo=UTC)
    assert read.event_time.tzinfo is UTC


@pytest.mark.parametrize("rounded", ["2026-05-01T12:30:00.1234567Z", "2026-05-01T12:30:00.123999Z"])
def test_fractions_below_a_millisecond_are_cut(rounded: str) -> None:
    assert transaction(event_time=rounded) == transaction()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"event_time": "2026-05-01T12:30:00"}, "bad_time"),
        ({"event_time": "2026-05-01"}, "bad_time"),
        ({"event_time": "2026-02-30T00:00:00Z"}, "bad_time"),
        ({"event_time": 1_790_000_000}, "wrong_type"),
        ({"event_time": "1970-01-31T23:59:59Z"}, "out_of_range"),
        ({"event_time": "2105-01-01T00:00:00Z"}, "out_of_range"),
        ({"event_time": "0001-01-01T00:00:00+23:59"}, "out_of_range"),
        ({"event_time": "9999-12-31T23:59:59-23:59"}, "out_of_range"),
        ({"amount": -1}, "out_of_range"),
        ({"amount": None}, "wrong_type"),
        ({"amount": True}, "wrong_type"),
        ({"currency": "EURO"}, "unknown_currency"),
        ({"currency": "eur"}, "unknown_currency"),
        ({"currency": "XAU"}, "unknown_currency"),
        ({"kind": "gift"}, "bad_value"),
        ({"kind": None}, "wrong_type"),
        ({"card_id": 42}, "wrong_type"),
        ({"card_id": None}, "wrong_type"),
        ({"card_id": ""}, "bad_identifier"),
        ({"card_id": "a" * 65}, "bad_identifier"),
        ({"card_id": "card 1"}, "bad_identifier"),
        ({"card_id": "card_1\n"}, "bad_identifier"),
        ({"card_id": CARD}, "card_number"),
        ({"card_id": "4111-1111-1111-1111"}, "card_number"),
        ({"customer_id": CARD}, "card_number"),
        ({"merchant_category": "541"}, "bad_value"),
        ({"merchant_category": 5411}, "wrong_type"),
        ({"merchant_category": "५४११"}, "bad_value"),
        ({"country": "NLD"}, "bad_value"),
        ({"country": "nl"}, "bad_value"),
        ({"country": "NL\n"}, "bad_value"),
        ({"latitude": 90.01}, "out_of_range"),
        ({"latitude": "52.37"}, "wrong_type"),
        ({"longitude": -180.01}, "out_of_range"),
        ({"longitude": True}, "wrong_type"),
        ({"channel": "point of sale"}, "bad_value"),
        ({"channel": f"pos{CARD}"}, "card_number"),
        ({"entry_mode": f"pan_{CARD}"}, "card_number"),
        ({"ip_address": "203.0.113.256"}, "bad_value"),
        ({"ip_address": "203.0.113.042"}, "bad_value"),
        ({"ip_address": "203.0.113.42\n"}, "bad_value"),
        ({"ip_address": "fe80::1%eth0"}, "bad_value"),
        ({"ip_address": 1}, "wrong_type"),
        ({"loyalty": 1}, "unknown_field"),
        ({"label": "fraud"}, "unknown_field"),
        ({"type": "transfer"}, "unknown_type"),
        ({"type": None}, "unknown_type"),
    ],
)
def test_a_wrong_field_is_rejected_by_name(change: dict[str, Any], code: str) -> None:
    found = rejection(TRANSACTION | change)

    assert found.code == code
    assert found.message.startswith(next(iter(change)))
    assert "expected" in found.message or code == "unknown_field"


@pytest.mark.parametrize(
    "field",
    ["type", "transaction_id", "event_time", "card_id", "merchant_id", "amount", "currency"],
)
def test_a_missing_field_is_rejected_by_name(field: str) -> None:
    found = rejection({name: value for name, value in TRANSACTION.items() if name != field})

    assert (found.code, found.message) == ("missing_field", f"{field}: expected, but missing")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_json"),
        (b"transaction", "not_json"),
        (b"\xef\xbb\xbf" + orjson.dumps(TRANSACTION), "not_json"),
        (orjson.dumps(TRANSACTION)[:-1], "not_json"),
        (orjson.dumps(TRANSACTION) * 2, "not_json"),
        (orjson.dumps(TRANSACTION).replace(b"12.5", b"NaN"), "not_json"),
        (orjson.dumps(TRANSACTION).replace(b"12.5", b"-Infinity"), "not_json"),
        (orjson.dumps(TRANSACTION).replace(b"12.5", b"012"), "not_json"),
        (orjson.dumps(FULL).replace(b"52.37", b"1e400"), "out_of_range"),
        (orjson.dumps(FULL).replace(b"52.37", b"9" * 400), "out_of_range"),
        (orjson.dumps(TRANSACTION).replace(b"card_1", b"\\ud800"), "not_json"),
        (orjson.dumps(TRANSACTION).replace(b"card_1", b"c\xff"), "not_utf8"),
        (orjson.dumps(TRANSACTION).replace(b"12.5", b'"\xff"'), "not_utf8"),
        (orjson.dumps(TRANSACTION).decode().encode("utf-16"), "not_utf8"),
        (b"null", "wrong_type"),
        (b"12", "wrong_type"),
        (orjson.dumps([TRANSACTION]), "wrong_type"),
        (b"[" * 60_000, "too_deep"),
        (b'{"a":' * 9 + b"1" + b"}" * 9, "too_deep"),
        (b" " * 65_537, "too_large"),
        (gzip.compress(orjson.dumps(TRANSACTION) + b" " * 70_000), "too_large"),
        (gzip.compress(orjson.dumps(TRANSACTION))[:-1], "bad_gzip"),
        (b"\x1f\x8b", "bad_gzip"),
    ],
)
def test_what_is_no_event_at_all_is_rejected(data: bytes, code: str) -> None:
    assert rejection(data).code == code


def test_brackets_in_a_text_are_no_depth() -> None:
    rules = DecodeRules.of(Events(extra_fields=("note",)))

    assert transaction(rules, note="[[[[[[[[[[[[{{{{").extra == {"note": "[[[[[[[[[[[[{{{{"}
    assert transaction(rules, note='\\"[[[[[[[[[[[[').extra == {"note": '\\"[[[[[[[[[[[['}


@pytest.mark.parametrize(
    "more",
    [
        b',"card_id":"card_2"',
        b',"card_id":"card_1"',
        b',"amount":1',
        b',"amount" : 1',
        b',"\\u0061mount":1',
        b',"kind":"refund","kind":"purchase"',
        b',"latitude":null,"latitude":null',
        b',"type":"transaction"',
    ],
)
def test_a_key_that_comes_twice_is_rejected(more: bytes) -> None:
    found = rejection(orjson.dumps(TRANSACTION)[:-1] + more + b"}")

    assert found.code == "duplicate_key"


def test_a_key_that_comes_twice_in_the_keys_of_a_label_is_rejected() -> None:
    data = orjson.dumps(LABEL)[:-1] + b',"keys":{"card_id":"a","card_id":"b"}}'

    assert rejection(data).code == "duplicate_key"


def test_escapes_are_read_as_what_they_mean() -> None:
    data = orjson.dumps(TRANSACTION).replace(b"card_1", b"c\\u0061rd_1")

    assert transaction_of(data) == transaction()


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("203.0.113.42", "203.0.113.42"),
        ("::ffff:203.0.113.42", "203.0.113.42"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("255.255.255.255", "255.255.255.255"),
    ],
)
def test_an_address_has_one_form(written: str, canonical: str) -> None:
    assert transaction(ip_address=written).ip_address == canonical


@pytest.mark.parametrize("name", ["type", "kind", "label", "card_id", CARD, "amount", "source"])
@pytest.mark.parametrize("event", [TRANSACTION, LABEL], ids=["transaction", "label"])
def test_a_card_number_never_stands_in_the_message(event: dict[str, Any], name: str) -> None:
    found = rejection(event | {name: CARD})

    assert CARD not in str(found)
    assert found.__cause__ is None
    assert found.__context__ is None or found.__suppress_context__


def test_further_fields_are_taken_when_they_are_listed() -> None:
    rules = DecodeRules.of(Events(extra_fields=("basket-size", "loyalty.tier", "gift", "ratio")))
    read = transaction(rules, **{"basket-size": 3, "loyalty.tier": "gold", "gift": True})

    assert read.extra == {"basket-size": 3, "loyalty.tier": "gold", "gift": True}
    assert read.digest != transaction().digest
    assert transaction(rules, ratio=2.0).digest == transaction(rules, ratio=2).digest
    assert transaction(rules, ratio=None).digest == transaction().digest
    assert transaction(rules).digest == transaction().digest


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ([1], "wrong_type"),
        ({"a": 1}, "wrong_type"),
        (2**53, "out_of_range"),
        ("x" * 257, "bad_value"),
        ("a\x00b", "bad_value"),
        (f"paid with {CARD}", "card_number"),
    ],
)
def test_further_fields_are_short_scalars_without_card_numbers(value: object, code: str) -> None:
    rules = DecodeRules.of(Events(extra_fields=("note",)))

    assert rejection(TRANSACTION | {"note": value}, rules).code == code


KEYS = SecretStr("k2:" + "ab" * 32 + ",k1:" + "cd" * 32)
HASHING = Events(pan="hash", pan_keys=KEYS, extra_fields=("note", "reference"))
TOKEN = PanGuard.of(HASHING).token(CARD)


def test_an_identifier_may_have_a_pattern_of_its_own() -> None:
    patterns = IdPatterns(card_id="tok_[0-9a-f]{8}", device_id=".*")
    rules = DecodeRules.of(Events(id_patterns=patterns))

    assert transaction(rules, card_id="tok_0123abcd", device_id="a b").device_id == "a b"
    found = rejection(TRANSACTION | {"card_id": "card_1"}, rules)
    assert (found.code, found.message) == (
        "bad_identifier",
        "card_id: expected to match tok_[0-9a-f]{8}",
    )
    keys = {"keys": {"card_id": "card_1"}}
    assert rejection(LABEL | keys, rules).message.startswith("keys.card_id: expected to match tok_")


def test_a_card_number_becomes_its_token_everywhere() -> None:
    rules = DecodeRules.of(HASHING)
    read = transaction(
        rules, card_id=CARD, customer_id=CARD, note=f"for {CARD}", reference=int(CARD)
    )

    assert read.card_id == read.customer_id == TOKEN
    assert read.extra == {"note": f"for {TOKEN}", "reference": TOKEN}
    assert CARD not in repr(read)
    about = decode(orjson.dumps(LABEL | {"keys": {"card_id": "4111-1111-1111-1111"}}), rules)
    assert isinstance(about, Label)
    assert about.keys == {"card_id": TOKEN}


def test_a_token_may_be_sent_back_whatever_the_pattern() -> None:
    rules = DecodeRules.of(
        Events(pan="hash", pan_keys=KEYS, id_patterns=IdPatterns(card_id="[0-9]{16}"))
    )

    assert transaction(rules, card_id=TOKEN).card_id == TOKEN
    assert transaction(rules, card_id=CARD).card_id == TOKEN


def test_after_a_rotation_a_transaction_is_known_by_its_former_digest() -> None:
    old = DecodeRules.of(Events(pan="hash", pan_keys=SecretStr("k1:" + "cd" * 32)))
    new = DecodeRules.of(Events(pan="hash", pan_keys=KEYS))
    noted = DecodeRules.of(HASHING)

    assert transaction(new, card_id=CARD).former_digests == (transaction(old, card_id=CARD).digest,)
    assert transaction(new, card_id=CARD).digest != transaction(old, card_id=CARD).digest
    assert transaction(new).former_digests == ()
    assert transaction(new).digest == transaction().digest
    said = transaction(noted, note=CARD, reference=int(CARD))
    assert len(said.former_digests) == 1
    assert said.former_digests[0] != said.digest


IDENTIFIERS = (
    "transaction_id",
    "card_id",
    "merchant_id",
    "customer_id",
    "terminal_id",
    "device_id",
)


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_no_identifier_may_be_a_card_number_unless_the_settings_leave_it_out(name: str) -> None:
    found = rejection(TRANSACTION | {name: CARD})

    assert found.code == "card_number"
    assert found.message == (
        f"{name}: expected a token, found what may be a card number; "
        f"honest numbers that look so need {name} out of events.pan_fields"
    )
    others = tuple(field for field in IDENTIFIERS if field != name)
    rules = DecodeRules.of(Events().model_copy(update={"pan_fields": others}))
    assert getattr(transaction(rules, **{name: CARD}), name) == CARD


@pytest.mark.parametrize("name", IDENTIFIERS[1:])
def test_no_key_of_a_label_may_be_a_card_number(name: str) -> None:
    found = rejection(LABEL | {"keys": {name: CARD}})

    assert found.code == "card_number"
    assert found.message.startswith(f"keys.{name}: expected a token")
    assert found.message.endswith(f"need {name} out of events.pan_fields")


def test_identifiers_are_searched_for_card_numbers_by_setting() -> None:
    everywhere = ("transaction_id", "merchant_id", "terminal_id", "device_id")
    rules = DecodeRules.of(HASHING.model_copy(update={"pan_fields": everywhere}))
    read = transaction(rules, merchant_id=CARD, terminal_id=CARD, device_id=CARD, card_id=CARD)

    assert (read.merchant_id, read.terminal_id, read.device_id) == (TOKEN, TOKEN, TOKEN)
    assert read.card_id == CARD
    # A transaction is named for ever, and a hash would change with the key.
    assert rejection(TRANSACTION | {"transaction_id": CARD}, rules).code == "card_number"
    assert rejection(LABEL | {"transaction_id": CARD}, rules).code == "card_number"


def test_without_a_key_free_text_is_masked_where_it_is_not_refused() -> None:
    rules = DecodeRules.of(Events(extra_fields=("note", "reference")))

    assert transaction(rules, note=f"a{CARD}b").extra == {"note": "a[pan]b"}
    assert rejection(TRANSACTION | {"reference": int(CARD)}, rules).code == "card_number"
    assert rejection(TRANSACTION | {"note": f"{CARD} 12 25"}, rules).code == "card_number"


@pytest.fixture
def rates(tmp_path: Path) -> Events:
    path = tmp_path / "rates.csv"
    path.write_text("date,currency,rate\n2026-04-30,USD,0.92\n", "utf-8")
    return Events(rates=path)


def test_without_a_conversion_of_its_own_money_is_converted_by_the_table(rates: Events) -> None:
    rules = DecodeRules.of(rates)

    assert transaction(rules, currency="USD").base_amount_minor == 1150
    assert transaction(rules, currency="USD", base_amount=None).base_amount_minor == 1150
    assert transaction(rules, currency="USD", base_amount="11.20").base_amount_minor == 1120
    assert transaction(rules).base_amount_minor == 1250


def test_the_digest_does_not_depend_on_the_table(rates: Events) -> None:
    before = transaction(DecodeRules.of(rates), currency="USD")
    assert rates.rates is not None
    rates.rates.write_text("date,currency,rate\n2026-05-01,USD,0.95\n", "utf-8")
    after = transaction(DecodeRules.of(rates), currency="USD")

    assert before.base_amount_minor != after.base_amount_minor
    assert before.digest == after.digest
    assert before.digest != transaction(currency="USD", base_amount="11.50").digest


def test_a_day_without_a_rate_is_rejected(rates: Events) -> None:
    late = {"currency": "USD", "event_time": "2026-05-08T00:00:00Z"}
    found = rejection(TRANSACTION | late, DecodeRules.of(rates))

    assert found.code == "no_conversion"
    assert "events.rates has no rate for its day" in found.message
    longer = rates.model_copy(update={"rates_max_age_days": 8})
    assert transaction(DecodeRules.of(longer), **late).base_amount_minor == 1150


def test_keys_and_rates_that_are_wrong_are_said_with_the_rest(tmp_path: Path) -> None:
    events = Events(pan="hash", rates=tmp_path / "none.csv", extra_fields=("a b",))
    with pytest.raises(Misconfigured) as caught:
        DecodeRules.of(events)

    keys = ["events.extra_fields", "events.pan", "events.rates"]
    assert [problem.key for problem in caught.value.problems] == keys


def test_what_the_settings_of_events_get_wrong_is_said_all_at_once() -> None:
    events = Events(base_currency="XXX", extra_fields=("kind", "a b", "note", "note"))
    with pytest.raises(Misconfigured) as caught:
        DecodeRules.of(events)

    assert [problem.key for problem in caught.value.problems] == [
        "events.base_currency",
        "events.extra_fields",
        "events.extra_fields",
        "events.extra_fields",
    ]


def test_a_label_is_read_field_by_field() -> None:
    keys = {"card_id": "card_1", "device_id": "device_1", "ip_address": "::FFFF:203.0.113.42"}
    read = label(event_time="2026-05-01T12:30:00.123Z", keys=keys)

    assert read.transaction_id == "tx_1"
    assert read.label is LabelValue.FRAUD
    assert read.label_time == datetime(2026, 5, 8, 7, tzinfo=UTC)
    assert read.source == "chargeback"
    assert read.event_time == datetime(2026, 5, 1, 12, 30, 0, 123_000, UTC)
    assert read.keys == keys | {"ip_address": "203.0.113.42"}


def test_the_same_statement_is_one_label_however_often_it_is_sent() -> None:
    assert label(label_time="2026-05-08T07:00:00Z").label_id == label().label_id
    assert label(keys={"card_id": "card_1"}).label_id == label().label_id
    others = [
        {"transaction_id": "tx_2"},
        {"label": "legitimate"},
        {"source": "analyst"},
        {"label_time": "2026-05-08T07:00:00.001Z"},
    ]
    assert len({label().label_id, *(label(**change).label_id for change in others)}) == 5


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"label": "maybe"}, "bad_value", "label"),
        ({"label_time": "yesterday"}, "bad_time", "label_time"),
        ({"label_time": "1969-01-01T00:00:00Z"}, "out_of_range", "label_time"),
        ({"event_time": "1969-01-01T00:00:00Z"}, "out_of_range", "event_time"),
        ({"source": "a b"}, "bad_value", "source"),
        ({"transaction_id": "a b"}, "bad_identifier", "transaction_id"),
        ({"amount": 1}, "unknown_field", "amount"),
        ({"keys": []}, "wrong_type", "keys"),
        ({"keys": {"country": "NL"}}, "unknown_field", "keys.country"),
        ({"keys": {"card_id": 1}}, "wrong_type", "keys.card_id"),
        ({"keys": {"card_id": "a b"}}, "bad_identifier", "keys.card_id"),
        ({"keys": {"card_id": CARD}}, "card_number", "keys.card_id"),
        ({"keys": {"ip_address": "here"}}, "bad_value", "keys.ip_address"),
    ],
)
def test_a_wrong_label_is_rejected_by_name(change: dict[str, Any], code: str, field: str) -> None:
    found = rejection(LABEL | change)

    assert found.code == code
    assert found.message.startswith(f"{field}: ")


@pytest.mark.parametrize("wrong", sorted(SPOILERS))
def test_every_way_of_being_wrong_that_the_simulator_knows_is_rejected(wrong: str) -> None:
    data = spoil(orjson.dumps(FULL), wrong, "tx_2")

    assert rejection(data).message
