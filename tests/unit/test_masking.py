"""What may be a card number is found in texts, gzip and binary, and little else is."""

import gzip
import json
from hashlib import sha256

import pytest

from consumer.masking import (
    MaskedPayload,
    holds_card_number,
    is_card_number,
    mask_payload,
    mask_text,
)

CARDS = [
    "4111111111111111",  # Visa
    "4222222222222",  # Visa, 13 digits
    "5555555555554444",  # Mastercard
    "2223003122003222",  # Mastercard, second range
    "378282246310005",  # American Express
    "30569309025904",  # Diners Club
    "6011111111111117",  # Discover
    "3530111333300000",  # JCB
    "6304000000000000",  # Maestro
    "6250947000000014",  # UnionPay
    "6250941006528599",  # UnionPay
    "2200000000000004",  # Mir
]


def spaced(card: str, separator: str) -> str:
    return separator.join(card[start : start + 4] for start in range(0, len(card), 4))


@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("separator", ["", " ", "-", ".", "_", "\u00a0", " - "])
def test_a_card_number_is_masked_however_its_digits_are_separated(
    card: str, separator: str
) -> None:
    assert mask_text(f'{{"a":"{spaced(card, separator)}","b":1}}') == '{"a":"[pan]","b":1}'


@pytest.mark.parametrize("card", CARDS)
def test_a_card_number_is_masked_as_a_json_number_and_inside_other_digits(card: str) -> None:
    assert card not in mask_text(f'{{"a":{card}}}')
    assert card not in mask_text(f"{card}=25121010000012345678")
    assert card not in mask_text(f"00{card}251212345")


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # the Luhn digit is wrong
        "7111111111111116",  # no issuer begins with 7
        "411111111111",  # 12 digits
        "2026-05-01T12:30:00.123Z",
        '{"latitude":52.370216,"longitude":4.895168}',
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "1790000000000",  # milliseconds since the epoch
    ],
)
def test_other_digits_stay_readable(text: str) -> None:
    assert mask_text(text) == text


def test_digits_of_other_scripts_and_escaped_digits_do_not_slip_through() -> None:
    wide = "".join(chr(0xFF10 + int(digit)) for digit in CARDS[0])
    escaped = "".join(f"\\u{ord(digit):04x}" for digit in CARDS[0])
    escaped_wide = "".join(f"\\u{ord(digit):04X}" for digit in wide)

    for written in (wide, escaped, escaped_wide):
        assert mask_payload(f'{{"a":"{written}"}}'.encode()).text == '{"a":"[pan]"}'


def test_overlapping_finds_leave_no_digit_of_either() -> None:
    # Both the first 16 and the last 16 digits are card numbers.
    first, second = CARDS[0], "1111111111111111"
    masked = mask_text(first + second)

    assert "4111" not in masked
    assert masked.startswith("[pan]")


def test_two_card_numbers_in_one_run_of_digits_are_masked_apart() -> None:
    masked = mask_text(CARDS[0] + "0" * 40 + CARDS[0])

    assert masked.startswith("[pan]0")
    assert masked.endswith("0[pan]")


def test_gzip_is_shown_decompressed_and_masked() -> None:
    data = gzip.compress(b'{"card":"4111111111111111"}')

    assert mask_payload(data).text == '{"card":"[pan]"}'


def test_gzip_that_breaks_off_is_shown_as_far_as_it_goes() -> None:
    data = gzip.compress(b'{"note":"hello","card":"4111111111111111"}')[:-8]

    assert mask_payload(data).text == '{"note":"hello","card":"[pan]"}'


def test_a_card_number_across_the_limit_is_not_cut_into_the_clear() -> None:
    for before in range(60, 80):
        masked = mask_payload(b"x" * before + b" 4111 1111 1111 1111", limit=80).text

        assert len(masked) <= 80
        assert "1111" not in masked


def test_a_payload_is_cut_at_the_limit() -> None:
    assert mask_payload(b"a" * 10_000, limit=100).text == "a" * 100
    assert mask_payload("€".encode() * 10_000, limit=100).text == "€" * 100


def test_binary_is_described_by_size_hash_and_what_is_printable() -> None:
    data = b"\x00\x01shop\xff\xfe"

    assert mask_payload(data).text == f"[8 bytes, sha256 {sha256(data).hexdigest()}] shop"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32-be"])
def test_a_card_number_in_binary_is_masked_and_its_hash_withheld(encoding: str) -> None:
    data = "card 4111111111111111".encode(encoding)

    assert mask_payload(data).text == f"[{len(data)} bytes, sha256 withheld] card [pan]"


def test_nothing_is_described_too() -> None:
    assert mask_payload(b"").text.startswith("[0 bytes, sha256 ")


def test_a_bomb_is_only_decompressed_as_far_as_it_is_shown() -> None:
    bomb = gzip.compress(b"a" * 50_000_000)

    assert mask_payload(bomb, limit=100).text == "a" * 100


@pytest.mark.parametrize("card", CARDS)
def test_a_value_that_is_a_card_number_as_a_whole_is_known_as_one(card: str) -> None:
    assert is_card_number(card)
    assert is_card_number(spaced(card, "-"))
    assert is_card_number(spaced(card, "."))
    assert not is_card_number("card_" + card)


@pytest.mark.parametrize("card", CARDS)
def test_a_card_number_that_stands_alone_in_a_text_is_found(card: str) -> None:
    assert holds_card_number(card)
    assert holds_card_number(f"paid with {spaced(card, ' ')}, thanks")
    assert holds_card_number(f"tok_{card}")
    assert not holds_card_number(f"a{card}b")
    assert not holds_card_number(f"9999999999{card}")


@pytest.mark.parametrize("text", ["{} 12 25", "order 77 {}", "12 {} 25", "{}-01"])
def test_a_card_number_between_other_groups_of_digits_is_found(text: str) -> None:
    assert holds_card_number(text.format(CARDS[0]))
    assert holds_card_number(text.format(spaced(CARDS[0], " ")))


def test_a_uuid_with_a_card_number_inside_is_not_refused() -> None:
    uuid = "a4111111-1111-4111-1111-411111111111"

    assert not holds_card_number(uuid)
    assert not is_card_number(uuid)


def test_what_json_would_read_as_the_card_number_is_gone_too() -> None:
    text = json.dumps({"card": CARDS[0], "nested": [{"card": spaced(CARDS[2], " ")}]})
    masked = json.loads(mask_payload(text.encode()).text)

    assert masked == {"card": "[pan]", "nested": [{"card": "[pan]"}]}


def test_a_payload_that_says_all_of_its_record_is_whole_and_not_masked() -> None:
    data = b'{"type":"transaction","note":"caf\xc3\xa9"}'
    for sent in (data, gzip.compress(data)):
        assert mask_payload(sent) == MaskedPayload(data.decode(), masked=False, whole=True)


def test_a_payload_is_masked_where_anything_was_replaced() -> None:
    for data in (b'{"card":"4111 1111 1111 1111"}', rb'{"card":"\u0034"}'):
        payload = mask_payload(data)
        assert (payload.masked, payload.whole) == (True, True)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x01\xff",
        b"a" * 101,
        gzip.compress(b"a" * 101, mtime=0),
        gzip.compress(b"whole", mtime=0)[:-4],
        gzip.compress(b"whole", mtime=0) + b"more",
    ],
)
def test_a_payload_that_is_cut_or_only_described_is_not_whole(data: bytes) -> None:
    assert not mask_payload(data, limit=100).whole
