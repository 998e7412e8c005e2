"""No card number stays readable in a dead letter, wherever and however it is written."""

import gzip
import re

from hypothesis import given
from hypothesis import strategies as st

from consumer.masking import mask_payload

ISSUERS = st.sampled_from(
    [
        *(("4", 13), ("4", 16), ("4", 19), ("51", 16), ("2221", 16), ("2720", 16), ("34", 15)),
        *(("37", 15), ("36", 14), ("300", 14), ("3528", 16), ("6011", 16), ("62", 19), ("50", 13)),
    ]
)
# Text without digits, with what JSON and logs put around values.
AROUND = st.text(alphabet=st.sampled_from('abcXYZ {}[]":,=;|/\\\n\t€é'), max_size=30)
SEPARATORS = st.sampled_from(["", " ", "-", ".", "_", "\u00a0", "\u2009", " -", "/"])


def luhn_digit(digits: str) -> str:
    """The check digit as the standard describes it, right to left."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


@st.composite
def card_numbers(draw: st.DrawFn) -> str:
    prefix, size = draw(ISSUERS)
    middle = size - len(prefix) - 1
    digits = prefix + draw(st.text(alphabet="0123456789", min_size=middle, max_size=middle))
    return digits + luhn_digit(digits)


@given(card_numbers(), AROUND, AROUND, SEPARATORS, st.integers(1, 8))
def test_a_card_number_is_masked_in_text_gzip_and_binary(
    card: str, before: str, after: str, separator: str, group: int
) -> None:
    groups = [card[start : start + group] for start in range(0, len(card), group)]
    text = before + separator.join(groups) + after
    for data in (
        text.encode(),
        gzip.compress(text.encode()),
        gzip.compress(text.encode())[:-6],
        b"\xff" + text.encode(),
        text.encode("utf-16"),
    ):
        masked = mask_payload(data).text

        # A hash may have replaced nothing: it is withheld wherever something was masked.
        assert card not in re.sub(r"\D", "", masked)
        assert "[pan]" in masked


@given(st.text(alphabet="0123456789 ", max_size=60), card_numbers())
def test_digits_around_a_card_number_do_not_hide_it(around: str, card: str) -> None:
    assert card not in mask_payload((around + card + around).encode()).text
