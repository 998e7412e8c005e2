"""
Finds what looks like a card number, and keeps it out of everything that is stored.

A card number here is 13 to 19 digits that begin like an issuer's (ISO/IEC 7812,
with the lengths that the schemes issue) and end in a right Luhn digit. Masking
is generous: any stretch of digits is searched, whatever separates them, since a
mask too many costs nothing. Refusing is exact: only digits that stand alone
count, since random identifiers (UUIDs) hold such stretches by chance and a
refusal loses a transaction.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from consumer.compression import GZIP_MAGIC, inflate, inflate_prefix
from consumer.errors import Rejected

MASK = "[pan]"

_SHORTEST, _LONGEST = 13, 19
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""Each digit times two, its own digits added up."""

_PRINTABLE = range(0x20, 0x7F)
"""Of ASCII, space to tilde."""

_ISSUERS = (
    (r"4", (13, 16, 18, 19)),  # Visa
    (r"5[1-5]", (16,)),  # Mastercard
    (r"2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)", (16,)),  # Mastercard
    (r"3[47]", (15,)),  # American Express
    (r"3(?:0[0-59]|[689])", (14, 15, 16, 17, 18, 19)),  # Diners Club
    (r"35(?:2[89]|[3-8])", (16, 17, 18, 19)),  # JCB
    (r"220[0-4]", (16, 17, 18, 19)),  # Mir
    (r"(?:50|5[6-8]|6)", tuple(range(13, 20))),  # Maestro, Discover, UnionPay, RuPay
    (r"8[12]", (16, 17, 18, 19)),  # UnionPay, RuPay
    (r"9792", (16,)),  # Troy
    (r"1", (15,)),  # UATP
)
_ISSUER = re.compile("|".join(f"({prefix})" for prefix, _ in _ISSUERS))
_LENGTHS = tuple(lengths for _, lengths in _ISSUERS)

# Between two digits may stand up to three of anything but letters and the punctuation that
# separates values and times in JSON. \d takes the decimal digits of every script.
_GENEROUS = re.compile(r'\d(?:(?:[^\w",:{}\[\]]|_){0,3}\d){12,}')
# Neither inside a longer word or number nor between the groups of a UUID.
_ALONE = re.compile(
    r"(?<![0-9A-Za-z.])(?<![0-9A-Fa-f]{4}-)\d(?:[ .-]?\d){12,}(?![0-9A-Za-z])(?!-[0-9A-Fa-f]{4})"
)
_WHOLE = re.compile(r"\d(?:[\W_]?\d){12,18}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")


def printable(text: str) -> str:
    """*text* without the control characters that a terminal would obey, but for ends of lines."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def holds_card_number(text: str) -> bool:
    """
    Tell whether a card number stands alone somewhere in *text*, spaced or hyphened or not.

    It does where a group of digits begins and one ends: an expiry date may follow it.
    """
    if len(text) < _SHORTEST:
        return False
    for found in _ALONE.finditer(text):
        run = found.group()
        digits = [int(sign) for sign in run if sign.isdecimal()]
        # Where groups end, counted in digits; each but the last is where one begins.
        ends = {0}
        seen = 0
        for sign in run:
            if sign.isdecimal():
                seen += 1
            else:
                ends.add(seen)
        ends.add(seen)
        if any(first in ends and first + size in ends for first, size in _windows(digits)):
            return True
    return False


def is_card_number(text: str) -> bool:
    """
    Tell whether *text* is a card number and nothing else, whatever separates its digits.

    Of identifiers no more can be asked: one in 70,000 random tokens such as
    ``card_`` and 16 hexadecimal digits has the form of a card number behind its
    prefix, and would be refused for ever.
    """
    if len(text) < _SHORTEST or _WHOLE.fullmatch(text) is None:
        return False
    digits = [int(sign) for sign in text if sign.isdecimal()]
    return (0, len(digits)) in _windows(digits)


def mask_text(text: str) -> str:
    """Replace every stretch of *text* that may be a card number by ``[pan]``."""
    return replace_card_numbers(text, lambda _: MASK)


def replace_card_numbers(text: str, replace: Callable[[str], str]) -> str:
    """Replace every stretch of *text* that may be a card number by what *replace* makes of it."""
    if len(text) < _SHORTEST:
        return text
    pieces: list[str] = []
    end = 0
    for start, stop in _spans(text):
        pieces += text[end:start], replace(text[start:stop])
        end = stop
    if not end:
        return text
    pieces.append(text[end:])
    return "".join(pieces)


@dataclass(frozen=True, slots=True)
class MaskedPayload:
    """
    What may be shown of a record.

    ``masked``: something was replaced in the text. ``whole``: nothing else is missing,
    so that what is not masked says all that the record said.
    """

    text: str
    masked: bool
    whole: bool


def mask_payload(data: bytes, limit: int = 65_536) -> MaskedPayload:
    r"""
    Describe a record for its dead letter in at most *limit* characters, card numbers masked.

    Text is kept as it is, gzip is shown decompressed, both cut at *limit*, the
    default of ``events.max_size_bytes``. Digits escaped as ``\u0034`` are written out
    first, or they would slip through. Anything else is told by its size, its hash and
    what is printable in it. Base64 is never used: it would hide a card number from
    every search.
    """
    # One card number more than is shown, so that none is cut in two and stays in clear.
    reach = limit + 6 * 3 * _LONGEST
    shown = inflate_prefix(data, reach) if data[:2] == GZIP_MAGIC else data[:reach]
    complete = len(shown) < reach
    text = _text(shown, complete=complete) if shown else None
    if text is None:
        return _describe_binary(data, shown or data[:reach], limit)
    masked = mask_text(_ESCAPE.sub(_unescape_digit, text))
    whole = complete and len(masked) <= limit and _is_intact(data, reach)
    return MaskedPayload(masked[:limit], masked=masked != text, whole=whole)


def _is_intact(data: bytes, reach: int) -> bool:
    """Whether *data* is no gzip, or one to its end, so that nothing is lost by unpacking it."""
    try:
        return data[:2] != GZIP_MAGIC or bool(inflate(data, reach))
    except Rejected:
        return False


def _text(data: bytes, *, complete: bool) -> str | None:
    """Return *data* as text where all of it is printable; its end may be cut in a character."""
    for cut in (0,) if complete else (0, 1, 2, 3):
        try:
            text = data[: len(data) - cut].decode()
        except UnicodeDecodeError:
            continue
        return text if all(sign.isprintable() or sign in "\t\r\n" for sign in text) else None
    return None


def _describe_binary(data: bytes, shown: bytes, limit: int) -> MaskedPayload:
    # What is not printable is dropped, not replaced: in UTF-16 it stands between the digits.
    printable = "".join(chr(byte) for byte in shown if byte in _PRINTABLE)
    masked = mask_text(printable)
    # The hash of little more than a card number could be reversed by trying them all.
    digest = sha256(data).hexdigest() if masked == printable else "withheld"
    text = f"[{len(data)} bytes, sha256 {digest}] {masked}"[:limit]
    return MaskedPayload(text, masked=masked != printable, whole=False)


def _unescape_digit(found: re.Match[str]) -> str:
    sign = chr(int(found.group(1), 16))
    return sign if sign.isdecimal() else found.group()


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield where *text* may hold a card number, overlapping finds joined."""
    for run in _GENEROUS.finditer(text):
        places = [place for place in range(*run.span()) if text[place].isdecimal()]
        span: tuple[int, int] | None = None
        for first, size in _windows([int(text[place]) for place in places]):
            start, stop = places[first], places[first + size - 1] + 1
            if span is None or start >= span[1]:
                if span:
                    yield span
                span = (start, stop)
            else:
                span = (span[0], max(span[1], stop))
        if span:
            yield span


def _windows(digits: list[int]) -> Iterator[tuple[int, int]]:
    """
    Yield (first digit, length) of every card number in *digits*, in order.

    The Luhn sum of a window is a difference of two running sums, one of which
    doubles the even places and the other the odd ones, so that a window costs
    the same whatever its length.
    """
    sums = [[0], [0]]
    for place, digit in enumerate(digits):
        doubled = _DOUBLED[digit]
        sums[0].append(sums[0][-1] + (doubled if place % 2 == 0 else digit))
        sums[1].append(sums[1][-1] + (digit if place % 2 == 0 else doubled))
    text = "".join(map(str, digits))
    for first in range(len(digits) - _SHORTEST + 1):
        issuer = _ISSUER.match(text, first)
        if issuer is None or issuer.lastindex is None:
            continue
        for size in _LENGTHS[issuer.lastindex - 1]:
            stop = first + size
            # The last digit is never doubled, so the one before it decides the parity.
            if stop <= len(digits) and (sums[stop % 2][stop] - sums[stop % 2][first]) % 10 == 0:
                yield first, size
