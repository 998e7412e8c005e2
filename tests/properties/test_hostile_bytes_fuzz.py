"""
Bytes made to hurt a decoder: it answers with an event or Rejected, alike each time.

What a letter and an error say must never hold the card number that was planted.
"""

import gzip
import os
import re
import subprocess
import sys
from dataclasses import asdict
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumer.compression import inflate, inflate_prefix
from consumer.currency import EXPONENTS, MAX_MINOR, minor_units
from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.intake import dead_letter
from consumer.masking import mask_text
from consumer.model import Label, Position, Record, Transaction
from consumer.settings import Events
from tests.builders import SHARD
from tests.examples import examples
from tests.properties.hostile import CARD, NUMBERS, ODD_TEXTS, damaged, digits_of, packed, rewritten
from tests.properties.test_decode_fuzz import LABEL, TRANSACTION

PLAIN = DecodeRules.of(Events(extra_fields=("note",)))
HASHED = DecodeRules.of(
    Events.model_validate(
        {
            "pan": "hash",
            "pan_keys": f"k2:{'ab' * 32} k1:{'cd' * 32}",
            "extra_fields": ["note"],
            "max_size_bytes": 262_144,
        }
    )
)
RULES = st.sampled_from([PLAIN, HASHED])
EVENTS = st.sampled_from([TRANSACTION, LABEL])


def told(data: bytes, rules: DecodeRules) -> tuple[str, str] | Transaction | Label:
    try:
        return decode(data, rules)
    except Rejected as error:
        return error.code, error.message


def letter_of(data: bytes) -> str:
    """The payload that a dead letter of *data* shows."""
    record = Record(SHARD, Position(1), 0, data)
    return dead_letter(record, Rejected("bad", "bad")).payload


def check(data: bytes, rules: DecodeRules) -> None:
    """An event whose every value can be stored, or a stable code and a message without values."""
    found = told(data, rules)
    assert told(data, rules) == found
    letter = letter_of(data)
    assert letter == letter_of(data)
    letter.encode()
    if isinstance(found, tuple):
        assert re.fullmatch(r"[a-z_0-9]+", found[0])
        assert len(found[1]) < 400
        assert CARD not in digits_of(found[1])
        found[1].encode()
    else:
        check_event(found, rules)
    assert CARD not in letter


def check_event(event: Transaction | Label, rules: DecodeRules) -> None:
    """
    No card number, but where an operator chose not to look for one.

    Of identifiers only those of ``events.pan_fields`` are searched; without keys they are
    refused as a whole alone, since one inside a longer identifier may be there by chance.
    """
    text = repr(event)
    text.encode()
    assert "ab" * 32 not in text
    values = asdict(event)
    keys = values.pop("keys", {})
    identifiers = {check.field: values.pop(check.field, None) for check in rules.identifiers}
    checked = [
        *((check, identifiers[check.field]) for check in rules.identifiers),
        *((check, keys.pop(check.field, None)) for check in rules.key_identifiers),
    ]
    for check, value in checked:
        if check.guard is not None and value is not None:
            searched = rules is HASHED and check.field != "transaction_id"
            assert CARD not in value if searched else value != CARD
    assert CARD not in repr(values) + repr(keys)
    if isinstance(event, Transaction):
        assert 0 <= event.amount_minor <= MAX_MINOR
        assert 0 <= event.base_amount_minor <= MAX_MINOR
        assert len(event.digest) == 64
        orjson.dumps(dict(event.extra))


def an_event_of(transaction_id: str) -> bytes:
    return orjson.dumps(TRANSACTION | {"transaction_id": transaction_id})


@example(an_event_of(f"card_{CARD}"), PLAIN)
@example(an_event_of(f"card_{CARD}"), HASHED)
@given(EVENTS.flatmap(rewritten).flatmap(packed), RULES)
@settings(max_examples=examples(300))
def test_values_that_no_producer_means(data: bytes, rules: DecodeRules) -> None:
    check(data, rules)


@given(EVENTS.flatmap(rewritten).flatmap(packed).flatmap(damaged), RULES)
@settings(max_examples=examples(300))
def test_what_arrives_damaged(data: bytes, rules: DecodeRules) -> None:
    check(data, rules)


@given(
    EVENTS,
    st.sampled_from(["", " ", "-", ".", " - "]),
    st.sampled_from(["value", "key", "type", "label", "before", "behind", "inside"]),
    st.data(),
)
@settings(max_examples=examples(200))
def test_a_planted_card_number_is_never_repeated(
    event: dict[str, Any], separator: str, where: str, data: st.DataObject
) -> None:
    number = separator.join(CARD[place : place + 4] for place in range(0, 16, 4))
    field = data.draw(st.sampled_from(sorted(event)))
    changed = {
        "value": event | {field: number},
        "key": event | {number: 1},
        "type": event | {"type": number},
        "label": LABEL | {"label": number},
        "inside": event | {field: {number: [number]}},
    }.get(where, event)
    raw = orjson.dumps(changed)
    raw = {"before": number.encode() + raw, "behind": raw + number.encode()}.get(where, raw)
    for each in (raw, raw[:-1], gzip.compress(raw)):
        for rules in (PLAIN, HASHED):
            found = told(each, rules)
            assert CARD not in digits_of(repr(found[1]) if isinstance(found, tuple) else "")
            assert CARD not in digits_of(letter_of(each))


@given(st.one_of(NUMBERS, ODD_TEXTS).map(str.encode), st.sampled_from(sorted(EXPONENTS)))
@example(b"1e999", "EUR")
@example(b"0e-999", "EUR")
@example(b'"\xd9\xa1"', "EUR")
@example(b"1" * 41, "JPY")
@settings(max_examples=examples(200))
def test_money_is_read_or_rejected(raw: bytes, currency: str) -> None:
    try:
        minor = minor_units("amount", raw, currency)
    except Rejected as error:
        said = error.message
    else:
        assert 0 <= minor <= MAX_MINOR
        return
    assert said.startswith("amount: expected ")


@given(st.binary(max_size=200), st.integers(1, 300), st.data())
@settings(max_examples=examples(200))
def test_gzip_gives_what_was_packed_or_nothing(
    data: bytes, limit: int, drawn: st.DataObject
) -> None:
    archive = drawn.draw(packed(data).flatmap(damaged))
    assert len(inflate_prefix(archive, limit)) <= limit
    try:
        size = len(inflate(archive, limit))
    except Rejected as error:
        code = error.code
    else:
        assert size <= limit
        return
    assert code in {"bad_gzip", "too_large"}


@given(st.text(), st.one_of(ODD_TEXTS, NUMBERS))
@settings(max_examples=examples(100))
def test_masking_twice_is_masking_once(before: str, odd: str) -> None:
    masked = mask_text(before + odd)
    assert mask_text(masked) == masked


DEEP = [
    b"[",
    b'{"a":',
    b'["\\"',
    b'{"":[',
    b"\x00[",
    b'"\\"',
    b'"\\',
    b"\\",
    b"{,",
    b"[" + b" " * 50,
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [65_536, 262_144, 1_048_576])
@pytest.mark.parametrize("piece", DEEP)
def test_a_megabyte_of_one_thing_is_rejected_before_it_is_a_burden(piece: bytes, size: int) -> None:
    data = (piece * (size // len(piece) + 1))[:size]
    note = orjson.dumps(TRANSACTION)[:-1] + b',"x":' + data
    for each in (data, note, gzip.compress(data), gzip.compress(note)):
        for rules in (PLAIN, HASHED):
            assert isinstance(told(each, rules), tuple)


@pytest.mark.parametrize("digits", ["0", "4", "1", "41", "4111111111111111"])
def test_a_megabyte_of_digits_is_masked_in_bounded_steps(digits: str) -> None:
    data = (digits * 1_048_576)[:1_048_576].encode()
    for each in (data, b'{"card_id":"' + data, gzip.compress(data), b"\xff" + data):
        assert CARD not in letter_of(each)
        assert isinstance(told(each, HASHED), tuple)


_IN_A_SMALL_PROCESS = """
import resource, sys
from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.intake import dead_letter
from consumer.model import Position, Record, ShardId
from consumer.settings import Events
data, rules = open(sys.argv[1], "rb").read(), DecodeRules.of(Events())
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
decoding, writing = (used + int(size) for size in sys.argv[2:])
resource.setrlimit(resource.RLIMIT_AS, (decoding, writing))
try:
    decode(data, rules)
except Rejected as error:
    resource.setrlimit(resource.RLIMIT_AS, (writing, writing))
    print(error.code, dead_letter(Record(ShardId("s"), Position(1), 0, data), error).error)
"""
# Beside a record of 10 MiB, the most that Kinesis carries: for decoding it, and for the
# letter, in which a pattern may go back over every digit that is shown.
DECODING_BYTES, WRITING_BYTES = 8 * 1_048_576, 64 * 1_048_576


@pytest.mark.parametrize("kind", ["bomb", "bombs", "nested bomb", "spaces", "brackets", "digits"])
def test_a_record_of_ten_megabytes_takes_no_more_than_eight_beside_it(
    kind: str, tmp_path: Any
) -> None:
    size = 10 * 1_048_576
    zeros = gzip.compress(bytes(64 * 1_048_576), mtime=0)
    data = {
        "bomb": zeros,
        "bombs": zeros * (size // len(zeros)),
        "nested bomb": gzip.compress(zeros * 100),
        "spaces": b" " * size,
        "brackets": b"[" * size,
        "digits": b"4" * size,
    }[kind]
    if kind == "bomb":
        data += os.urandom(size - len(data))
    record = tmp_path / "record"
    record.write_bytes(data[:size])
    command = [sys.executable, "-c", _IN_A_SMALL_PROCESS, str(record)]
    command += [str(DECODING_BYTES), str(WRITING_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "too_large too_large\n", done.stderr
