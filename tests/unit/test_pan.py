"""Card numbers are refused, or become tokens that only the key can make."""

import hashlib
import hmac
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from consumer.errors import Misconfigured, Rejected
from consumer.masking import is_card_number
from consumer.pan import PanGuard, PanKey
from consumer.settings import Events

CARD = "4111111111111111"
NEW = "2026b:" + "ab" * 32
OLD = "2025a:" + "cd" * 32
GUARD = PanGuard.of(Events(pan="hash", pan_keys=SecretStr(f"{NEW},{OLD}")))
REFUSING = PanGuard()


def token(card: str = CARD, key: str = NEW) -> str:
    key_id, _, secret = key.partition(":")
    hashed = hmac.new(bytes.fromhex(secret), card.encode(), hashlib.sha256).hexdigest()
    return f"pan:{key_id}:{hashed[:32]}"


@pytest.mark.parametrize(
    "written",
    [CARD, "4111-1111-1111-1111", "4111 1111 1111 1111", "\uff14" + "\uff11" * 15],
)
def test_a_card_has_one_token_however_its_number_is_written(written: str) -> None:
    assert GUARD.check_identifier("card_id", written) == token()
    assert (
        GUARD.check_text("note", f"paid with {written}, thanks") == f"paid with {token()}, thanks"
    )


def test_another_card_or_key_has_another_token() -> None:
    assert len({token(), token("5555555555554444"), token(key=OLD)}) == 3


def test_a_token_says_nothing_without_the_key() -> None:
    assert hashlib.sha256(CARD.encode()).hexdigest()[:32] not in token()
    assert not is_card_number(token())


@pytest.mark.parametrize("value", ["card_7f3a", "f47ac10b-58cc-4372-a567-0e02b2c3d479", ""])
def test_what_holds_no_card_number_stays_the_same_object(value: str) -> None:
    assert GUARD.check_identifier("card_id", value) is value
    assert GUARD.check_text("note", value) is value
    assert REFUSING.check_text("note", value) is value


def test_a_card_number_inside_an_identifier_or_a_word_is_replaced_too() -> None:
    assert GUARD.check_identifier("card_id", f"card_{CARD}") == f"card_{token()}"
    assert CARD not in GUARD.check_text("note", f"PAN{CARD}EXP1225")


@pytest.mark.parametrize("written", [CARD, f"paid with {CARD}", f"{CARD} 12 25", f"12 {CARD}"])
def test_without_a_key_a_card_number_in_a_text_is_refused(written: str) -> None:
    with pytest.raises(Rejected) as caught:
        REFUSING.check_text("note", written)
    assert caught.value.code == "card_number"
    assert "1111" not in caught.value.message


def test_without_a_key_what_may_be_one_by_chance_is_masked() -> None:
    assert REFUSING.check_text("note", f"session a{CARD}b") == "session a[pan]b"


def test_without_a_key_only_whole_identifiers_are_refused() -> None:
    assert REFUSING.check_identifier("card_id", f"card_{CARD}") == f"card_{CARD}"
    with pytest.raises(Rejected, match="card_id: expected a token"):
        REFUSING.check_identifier("card_id", CARD)


@pytest.mark.parametrize("value", [int(CARD), float(CARD)])
def test_a_number_with_the_digits_of_a_card_is_one(value: float) -> None:
    assert GUARD.check_number("reference", value) == token()
    with pytest.raises(Rejected, match="reference: expected a token"):
        REFUSING.check_number("reference", value)


@pytest.mark.parametrize("value", [0, 12, 12.5, -4111111111111112, 4111111111111112, 1e300])
def test_other_numbers_stay(value: float) -> None:
    assert GUARD.check_number("reference", value) == value
    assert REFUSING.check_number("reference", value) == value


def test_look_ups_know_the_former_keys() -> None:
    assert GUARD.token(CARD) == token()
    assert GUARD.tokens("4111 1111 1111 1111") == (token(), token(key=OLD))
    assert GUARD.tokens("card_7f3a") == ("card_7f3a",)
    assert REFUSING.tokens(CARD) == (CARD,)
    assert REFUSING.token(CARD) == CARD


def test_a_token_is_an_identifier_whatever_the_pattern() -> None:
    assert GUARD.is_token(token(key=OLD))
    assert not GUARD.is_token(token() + "0")
    assert not GUARD.is_token("pan:2026b:" + "AB" * 16)
    assert not REFUSING.is_token(token())


@given(st.text("0123456789 -.", max_size=40))
def test_what_was_replaced_is_not_replaced_again(text: str) -> None:
    once = GUARD.check_text("note", text)
    # Digits of a token can look like a card number by chance; its beginning cannot be lost.
    if "pan:" not in once:
        assert once == text
    assert GUARD.token(CARD) == token()


@given(
    st.text("0123456789 -.ab", max_size=20),
    st.sampled_from([CARD, "5555555555554444", "378282246310005", "4222222222222"]),
    st.text("0123456789 -.ab", max_size=20),
    st.sampled_from(["", " ", "-"]),
)
def test_no_card_number_is_left_in_a_text_whatever_stands_around_it(
    before: str, card: str, after: str, separator: str
) -> None:
    written = separator.join(card[start : start + 4] for start in range(0, len(card), 4))
    assert written not in GUARD.check_text("note", before + written + after)
    assert written not in GUARD.check_identifier("card_id", before + written + after)
    with suppress(Rejected):
        assert written not in REFUSING.check_text("note", before + written + after)


def test_keys_come_from_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"{NEW}\n{OLD}\n")
    assert PanGuard.of(Events(pan="hash", pan_keys_file=path)).tokens(CARD) == GUARD.tokens(CARD)


def test_rejecting_needs_no_key_and_ignores_those_that_are_there() -> None:
    assert PanGuard.of(Events()).keys == ()
    assert PanGuard.of(Events(pan_keys=SecretStr(NEW))).keys == ()


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (None, "hash with neither of"),
        ("", "no key"),
        ("secret", "something else in place 1"),
        (f"{NEW} 2025a:abcd", "something else in place 2"),
        (f"{NEW},{NEW}", "an id that stands twice"),
        ("a key:" + "ab" * 32, "something else in place 1"),
    ],
)
def test_hashing_without_good_keys_is_refused_without_repeating_them(
    keys: str | None, found: str
) -> None:
    events = Events(pan="hash", pan_keys=None if keys is None else SecretStr(keys))
    with pytest.raises(Misconfigured, match=found) as caught:
        PanGuard.of(events)
    assert "abab" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_keys_in_two_places_or_in_no_file_are_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    with pytest.raises(Misconfigured, match="hash with both of"):
        PanGuard.of(Events(pan="hash", pan_keys=SecretStr(NEW), pan_keys_file=missing))
    with pytest.raises(Misconfigured, match="No such file"):
        PanGuard.of(Events(pan="hash", pan_keys_file=missing))
    missing.write_bytes(b"\xff")
    with pytest.raises(Misconfigured, match="not ASCII"):
        PanGuard.of(Events(pan="hash", pan_keys_file=missing))


def test_a_key_does_not_show_itself() -> None:
    assert "abab" not in repr(GUARD.keys)
    assert "abab" not in repr(PanKey("a", bytes.fromhex("ab" * 32)))
