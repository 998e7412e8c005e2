"""
What the fields of an event must satisfy beyond their types.

Each function raises Rejected with the field and what was expected of it; none
repeats the value, which may be a card number.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv6Address
from types import MappingProxyType

import msgspec

from consumer.errors import Rejected
from consumer.masking import mask_text
from consumer.pan import PanGuard
from consumer.wire import COUNTRY_PATTERN, MERCHANT_CATEGORY_PATTERN, WORD_PATTERN

# Entity state counts in unsigned 32-bit seconds, and windows reach 30 days back.
_OLDEST = datetime(1970, 2, 1, tzinfo=UTC)
_NEWEST = datetime(2105, 1, 1, tzinfo=UTC)

_COUNTRY = re.compile(COUNTRY_PATTERN)
_MERCHANT_CATEGORY = re.compile(MERCHANT_CATEGORY_PATTERN)
_WORD = re.compile(WORD_PATTERN)
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")
_MAX_TEXT = 256

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class IdentifierCheck:
    """
    What one identifier must satisfy.

    ``field`` is the attribute, ``name`` that of messages (``keys.card_id``). ``guard``
    takes name and value and returns what may be stored; None where card numbers are
    not looked for.
    """

    field: str
    name: str
    pattern: re.Pattern[str]
    guard: Callable[[str, str], str] | None


def check_identifiers(
    event: msgspec.Struct, checks: Sequence[IdentifierCheck], guard: PanGuard
) -> Mapping[str, str]:
    """
    Check the identifiers of *event* and replace card numbers in it by their tokens.

    Returns field → what was replaced. Raises ``bad_identifier`` and ``card_number``.
    """
    replaced: dict[str, str] | None = None
    for check in checks:
        value = getattr(event, check.field)
        if value is None:
            continue
        if not check.pattern.fullmatch(value) and not guard.is_token(value):
            expected = f"expected to match {check.pattern.pattern}"
            raise Rejected("bad_identifier", f"{check.name}: {expected}")
        if check.guard is not None:
            safe = check.guard(check.name, value)
            if safe is not value:
                setattr(event, check.field, safe)
                replaced = {} if replaced is None else replaced
                replaced[check.field] = value
    return _NOTHING if replaced is None else replaced


def check_word(name: str, value: str | None) -> None:
    """Check one of the short words, such as a channel: ``bad_value``, ``card_number``."""
    if value is None:
        return
    if _WORD.fullmatch(value) is None:
        raise Rejected("bad_value", f"{name}: expected to match {WORD_PATTERN}")
    # No such word is a random token, so that the generous reading can do no harm here.
    if mask_text(value) != value:
        raise Rejected("card_number", f"{name}: expected a word, found what may be a card number")


def check_codes(country: str | None, merchant_category: str | None) -> None:
    """Check the form of a country and a merchant category: ``bad_value``."""
    if country is not None and _COUNTRY.fullmatch(country) is None:
        raise Rejected("bad_value", "country: expected two capital letters (ISO 3166 alpha-2)")
    if merchant_category is not None and _MERCHANT_CATEGORY.fullmatch(merchant_category) is None:
        raise Rejected("bad_value", "merchant_category: expected four digits (ISO 18245)")


def check_text(name: str, value: str) -> None:
    """Check a text that settings allow beside the known fields: ``bad_value``."""
    if len(value) > _MAX_TEXT or not value.isprintable():
        raise Rejected("bad_value", f"{name}: expected at most {_MAX_TEXT} printable characters")


def utc(name: str, time: datetime) -> datetime:
    """Bring an aware time to UTC and whole milliseconds: ``out_of_range`` beyond 1970-02…2104."""
    if not _OLDEST <= time < _NEWEST:
        raise Rejected("out_of_range", f"{name}: expected a time from 1970-02-01 until 2104-12-31")
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    surplus = time.microsecond % 1_000
    return time.replace(microsecond=time.microsecond - surplus) if surplus else time


def canonical_address(name: str, text: str) -> str:
    """Bring an IP address to its one shortest form: ``bad_value``."""
    # Dotted decimal without leading zeros has no other form, and is five times faster to match.
    if _IPV4.fullmatch(text):
        return text
    try:
        address = IPv6Address(text)
    except ValueError:
        raise Rejected("bad_value", f"{name}: expected an IPv4 or IPv6 address") from None
    if address.scope_id is not None:
        raise Rejected("bad_value", f"{name}: expected an address without a zone")
    # ::ffff:192.0.2.1 is 192.0.2.1 as a dual-stack server sees it.
    return str(address.ipv4_mapped or address)
