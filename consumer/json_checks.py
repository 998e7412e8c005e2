"""
What a typed JSON parser lets pass or says too much about.

msgspec follows nesting to the recursion limit, keeps the last of several equal
keys, and quotes values in its messages. An event must be shallow, must mean the
same to every parser that reads it, and a message must never repeat a value.
"""

import json
import re
from datetime import datetime
from types import NoneType

import msgspec

from consumer.errors import Rejected
from consumer.masking import mask_text
from consumer.model import Kind, LabelValue
from consumer.wire import LabelEvent, LabelKeys, TransactionEvent

# Possessive, and an open string reaches to the end: otherwise a string of escaped quotation
# marks without an end would be scanned again from each of them.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")

# Quotation marks that a field takes: two for its key, and two more where the value is a string.
_QUOTES: dict[type, int] = {
    NoneType: 0,
    msgspec.UnsetType: 0,
    str: 4,
    datetime: 4,
    Kind: 4,
    LabelValue: 4,
    int: 2,
    float: 2,
    bool: 2,
    msgspec.Raw: 2,
    LabelKeys: 2,
}

_QUOTE = ord('"')

_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<place>.*)`)?$", re.DOTALL)
_NAMED = re.compile(r"^Object (missing required|contains unknown) field `(.*)`$", re.DOTALL)
_MAX_NAME = 64


def check_depth(data: bytes, limit: int) -> None:
    """Raise Rejected (``too_deep``) where *data* nests objects and arrays deeper than *limit*."""
    # Fewer brackets than the limit cannot nest deeper, and counting is nearly free.
    if data.count(b"{") + data.count(b"[") <= limit:
        return
    depth = 0
    for bracket in _BRACKETS.finditer(_STRINGS.sub(b"", data)):
        depth += 1 if bracket.group() in b"[{" else -1
        if depth > limit:
            raise Rejected("too_deep", f"event: expected at most {limit} levels of nesting")


def check_unique_keys(data: bytes, event: TransactionEvent | LabelEvent) -> None:
    """
    Raise Rejected (``duplicate_key``) where an object of *data* has a key twice.

    *event* is what *data* was parsed into. Without escapes every quotation mark
    in valid JSON opens or closes a key or a string, so a repeated key shows as
    marks that the parsed fields do not account for. Only what is suspicious,
    an explicit null included, is parsed again.
    """
    if data.count(b'"') != _expected_quotes(event) or b"\\" in data:
        # Numbers stay text, because Python refuses to read very long ones.
        json.loads(data, object_pairs_hook=_refuse_duplicates, parse_int=str, parse_float=str)


def rejected_by_type(error: msgspec.ValidationError) -> Rejected:
    """Translate what a typed parse found, keeping the field and dropping the value."""
    found = _PLACE.match(str(error))
    what, place = (found["what"], found["place"]) if found else (str(error), None)
    named = _NAMED.match(what)
    if named:
        field = f"{place}.{named[2]}" if place else named[2]
        if named[1] == "missing required":
            return Rejected("missing_field", f"{field}: expected, but missing")
        return Rejected(
            "unknown_field", f"{mask_text(field)[:_MAX_NAME]}: not a field of this event"
        )
    return _rejected_value(place or "event", what)


def _rejected_value(field: str, what: str) -> Rejected:
    if field == "type":
        return Rejected("unknown_type", "type: expected transaction or label")
    if what.startswith("Invalid enum value"):
        expected = LabelValue if field == "label" else Kind
        return Rejected("bad_value", f"{field}: expected {' or '.join(expected)}")
    if "RFC3339" in what or "timezone" in what:
        return Rejected(
            "bad_time", f"{field}: expected RFC 3339 with an offset, such as 2026-05-01T12:30:00Z"
        )
    if "out of range" in what or "<=" in what or ">=" in what:
        return Rejected("out_of_range", f"{field}: {what[:1].lower()}{what[1:]}")
    return Rejected("wrong_type", f"{field}: {what[:1].lower()}{what[1:]}")


def _expected_quotes(event: TransactionEvent | LabelEvent) -> int:
    quotes = 4 + _field_quotes(event)  # 4 for "type" and its value
    if isinstance(event, TransactionEvent):
        for amount in (event.amount, event.base_amount):
            if amount is not msgspec.UNSET and bytes(amount)[0] == _QUOTE:
                quotes += 2
    elif event.keys is not None:
        quotes += _field_quotes(event.keys)
    return quotes


def _field_quotes(event: msgspec.Struct) -> int:
    return sum(map(_QUOTES.__getitem__, map(type, msgspec.structs.astuple(event))))


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    keys = [key for key, _ in pairs]
    for key in set(keys):
        if keys.count(key) > 1:
            raise Rejected("duplicate_key", f"{mask_text(key)[:_MAX_NAME]}: expected once")
