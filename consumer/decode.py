"""
Bytes of a record to a checked Transaction or Label, or Rejected.

The order is: size and compression, depth, one typed parse, then what types
cannot say. Everything that a later stage relies on is settled here: money in
minor units, times in UTC, identifiers of the declared pattern, no card number.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, cast

import msgspec

from consumer import settings
from consumer.canonical import Scalar, label_id, transaction_digest
from consumer.compression import GZIP_MAGIC, inflate
from consumer.currency import EXPONENTS, minor_units
from consumer.errors import Misconfigured, Problem, Rejected
from consumer.field_checks import (
    canonical_address,
    check_codes,
    check_identifiers,
    check_text,
    check_word,
    utc,
)
from consumer.json_checks import check_depth, check_unique_keys, rejected_by_type
from consumer.model import Kind, Label, Transaction, TransactionId
from consumer.wire import LabelEvent, TransactionEvent

_MAX_INT = 2**53 - 1
"""Beyond it a number is not the same to every reader of JSON (RFC 8259, section 6)."""

_ExtraType = str | Annotated[int, msgspec.Meta(ge=-_MAX_INT, le=_MAX_INT)] | float | bool | None
_EXTRA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_NULL = b"null"


@dataclass(frozen=True, slots=True)
class DecodeRules:
    """
    What ``decode`` accepts, compiled once.

    ``extra_fields`` are pairs of attribute and name on the wire, which may be no
    Python identifier.
    """

    decoder: "msgspec.json.Decoder[TransactionEvent | LabelEvent]"
    id_pattern: re.Pattern[str]
    base_currency: str
    extra_fields: tuple[tuple[str, str], ...]
    max_size_bytes: int
    max_depth: int

    @classmethod
    def of(cls, events: settings.Events) -> "DecodeRules":
        """Compile *events*. Raises Misconfigured with everything that is wrong in it."""
        problems = list(_problems(events))
        if problems:
            raise Misconfigured(problems)
        extra_fields = tuple((f"extra_{n}", name) for n, name in enumerate(events.extra_fields))
        return cls(
            decoder=msgspec.json.Decoder(_transaction_type(extra_fields) | LabelEvent),
            id_pattern=re.compile(events.id_pattern),
            base_currency=events.base_currency,
            extra_fields=extra_fields,
            max_size_bytes=events.max_size_bytes,
            max_depth=events.max_depth,
        )


def decode(data: bytes, rules: DecodeRules) -> Transaction | Label:
    """
    Decode one record, plain JSON or gzip.

    Raises Rejected, and nothing else, whatever the bytes are.
    """
    if data[:2] == GZIP_MAGIC:
        data = inflate(data, rules.max_size_bytes)
    elif len(data) > rules.max_size_bytes:
        raise Rejected("too_large", f"event: expected at most {rules.max_size_bytes} bytes")
    check_depth(data, rules.max_depth)
    event = _parse(data, rules)
    check_unique_keys(data, event)
    if isinstance(event, TransactionEvent):
        return _transaction(event, rules)
    return _label(event, rules)


def _transaction_type(extra_fields: tuple[tuple[str, str], ...]) -> type[TransactionEvent]:
    extended = msgspec.defstruct(
        "TransactionEvent",
        [(attribute, _ExtraType, None) for attribute, _ in extra_fields],
        bases=(TransactionEvent,),
        tag="transaction",
        rename=dict(extra_fields),
        kw_only=True,
    )
    return cast("type[TransactionEvent]", extended)


def _parse(data: bytes, rules: DecodeRules) -> TransactionEvent | LabelEvent:
    # "from None": the parser's own errors quote values, and a traceback may be logged.
    try:
        if not data.isascii():
            # The parser checks the encoding only of what it turns into strings.
            data.decode()
        return rules.decoder.decode(data)
    except msgspec.ValidationError as error:
        raise rejected_by_type(error) from None
    except UnicodeDecodeError:
        raise Rejected("not_utf8", "event: expected UTF-8") from None
    except msgspec.DecodeError:
        raise Rejected("not_json", "event: expected one JSON object (RFC 8259)") from None


def _transaction(event: TransactionEvent, rules: DecodeRules) -> Transaction:
    _check(event, rules)
    event.event_time = utc("event_time", event.event_time)
    if event.ip_address is not None:
        event.ip_address = canonical_address("ip_address", event.ip_address)
    amount_minor = minor_units("amount", bytes(event.amount), event.currency)
    converted_minor = _converted_minor(event, amount_minor, rules.base_currency)
    extra = _extra(event, rules.extra_fields) if rules.extra_fields else {}
    return Transaction(
        transaction_id=TransactionId(event.transaction_id),
        event_time=event.event_time,
        card_id=event.card_id,
        merchant_id=event.merchant_id,
        amount_minor=amount_minor,
        currency=event.currency,
        base_amount_minor=amount_minor if converted_minor is None else converted_minor,
        digest=transaction_digest(event, amount_minor, converted_minor, extra),
        kind=Kind.PURCHASE if event.kind is msgspec.UNSET else event.kind,
        customer_id=event.customer_id,
        terminal_id=event.terminal_id,
        merchant_category=event.merchant_category,
        country=event.country,
        latitude=event.latitude,
        longitude=event.longitude,
        channel=event.channel,
        entry_mode=event.entry_mode,
        device_id=event.device_id,
        ip_address=event.ip_address,
        extra=extra,
    )


def _check(event: TransactionEvent, rules: DecodeRules) -> None:
    identifiers = (
        ("transaction_id", event.transaction_id),
        ("card_id", event.card_id),
        ("merchant_id", event.merchant_id),
        ("customer_id", event.customer_id),
        ("terminal_id", event.terminal_id),
        ("device_id", event.device_id),
    )
    check_identifiers(identifiers, rules.id_pattern)
    check_codes(event.country, event.merchant_category)
    check_word("channel", event.channel)
    check_word("entry_mode", event.entry_mode)
    if event.currency not in EXPONENTS:
        raise Rejected("unknown_currency", "currency: expected an ISO 4217 code in upper case")


def _converted_minor(event: TransactionEvent, amount_minor: int, base: str) -> int | None:
    """Return the amount in *base* where the event is in another currency, else None."""
    raw = _NULL if event.base_amount is msgspec.UNSET else bytes(event.base_amount)
    if raw == _NULL:
        if event.currency == base:
            return None
        raise Rejected("no_conversion", f"base_amount: expected, as the currency is not {base}")
    base_minor = minor_units("base_amount", raw, base)
    if event.currency != base:
        return base_minor
    if base_minor != amount_minor:
        raise Rejected("bad_value", f"base_amount: expected to equal amount, both are in {base}")
    return None


def _extra(
    event: TransactionEvent, extra_fields: tuple[tuple[str, str], ...]
) -> Mapping[str, Scalar]:
    extra: dict[str, Scalar] = {}
    for attribute, name in extra_fields:
        value = cast("Scalar | None", getattr(event, attribute))
        if isinstance(value, str):
            check_text(name, value)
        if value is not None:
            extra[name] = value
    return extra


def _label(event: LabelEvent, rules: DecodeRules) -> Label:
    check_identifiers((("transaction_id", event.transaction_id),), rules.id_pattern)
    check_word("source", event.source)
    transaction_id = TransactionId(event.transaction_id)
    label_time = utc("label_time", event.label_time)
    return Label(
        label_id=label_id(transaction_id, event.source, event.label, label_time),
        transaction_id=transaction_id,
        label=event.label,
        label_time=label_time,
        source=event.source,
        event_time=None if event.event_time is None else utc("event_time", event.event_time),
        keys=_label_keys(event, rules),
    )


def _label_keys(event: LabelEvent, rules: DecodeRules) -> Mapping[str, str]:
    if event.keys is None:
        return {}
    keys = {
        name: value
        for name, value in msgspec.structs.asdict(event.keys).items()
        if value is not None
    }
    address = keys.pop("ip_address", None)
    check_identifiers(((f"keys.{name}", value) for name, value in keys.items()), rules.id_pattern)
    if address is not None:
        keys["ip_address"] = canonical_address("keys.ip_address", address)
    return keys


def _problems(events: settings.Events) -> Iterator[Problem]:
    """Yield what the types of the settings cannot rule out."""
    if events.base_currency not in EXPONENTS:
        yield Problem("settings", "events.base_currency", events.base_currency, "an ISO 4217 code")
    known = {"type", *TransactionEvent.__struct_fields__}
    for name in events.extra_fields:
        if name in known:
            yield Problem("settings", "events.extra_fields", name, "names of further fields, once")
        elif _EXTRA_NAME.fullmatch(name) is None:
            expected = f"names that match {_EXTRA_NAME.pattern}"
            yield Problem("settings", "events.extra_fields", repr(name), expected)
        known.add(name)
