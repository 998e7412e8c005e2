"""
Bytes of a record to a checked Transaction or Label, or Rejected.

The order is: size and compression, depth, one typed parse, then what types
cannot say. Everything that a later stage relies on is settled here: money in
minor units and in the base currency, times in UTC, identifiers of the declared
pattern, no card number.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import msgspec

from consumer import settings
from consumer.canonical import Scalar, label_id, transaction_digest
from consumer.compression import GZIP_MAGIC, inflate
from consumer.currency import EXPONENTS, minor_units
from consumer.errors import Misconfigured, Problem, Rejected
from consumer.field_checks import (
    IdentifierCheck,
    canonical_address,
    check_codes,
    check_identifiers,
    check_text,
    check_word,
    utc,
)
from consumer.json_checks import check_depth, check_unique_keys, rejected_by_type
from consumer.model import Kind, Label, Transaction, TransactionId
from consumer.pan import PanGuard
from consumer.rates import Rates
from consumer.wire import LabelEvent, LabelKeys, TransactionEvent

_MAX_INT = 2**53 - 1
"""Beyond it a number is not the same to every reader of JSON (RFC 8259, section 6)."""

_ExtraType = str | Annotated[int, msgspec.Meta(ge=-_MAX_INT, le=_MAX_INT)] | float | bool | None
_EXTRA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_NULL = b"null"
_IDENTIFIERS = (
    "transaction_id",
    "card_id",
    "merchant_id",
    "customer_id",
    "terminal_id",
    "device_id",
)


@dataclass(frozen=True, slots=True)
class DecodeRules:
    """
    What ``decode`` accepts, compiled once.

    ``extra_fields`` are pairs of attribute and name on the wire, which may be no
    Python identifier. ``identifiers`` and ``key_identifiers`` are the checks of a
    transaction, whose first is of the ``transaction_id``, and of the keys of a label.
    """

    decoder: "msgspec.json.Decoder[TransactionEvent | LabelEvent]"
    identifiers: tuple[IdentifierCheck, ...]
    key_identifiers: tuple[IdentifierCheck, ...]
    guard: PanGuard
    base_currency: str
    rates: Rates | None
    extra_fields: tuple[tuple[str, str], ...]
    max_size_bytes: int
    max_depth: int

    @classmethod
    def of(cls, events: settings.Events) -> "DecodeRules":
        """
        Compile *events*, reading its keys and rates.

        Raises Misconfigured with everything that is wrong in it.
        """
        problems = list(_problems(events))
        guard, rates = PanGuard(), None
        try:
            guard = PanGuard.of(events)
        except Misconfigured as error:
            problems += error.problems
        try:
            # Without a base currency there is nothing to hold the rates against.
            if events.rates is not None and events.base_currency in EXPONENTS:
                rates = Rates(events.rates, events.base_currency, events.rates_max_age_days)
        except Misconfigured as error:
            problems += error.problems
        if problems:
            raise Misconfigured(problems)
        extra_fields = tuple((f"extra_{n}", name) for n, name in enumerate(events.extra_fields))
        return cls(
            decoder=msgspec.json.Decoder(_transaction_type(extra_fields) | LabelEvent),
            identifiers=_identifier_checks(events, guard, _IDENTIFIERS, ""),
            key_identifiers=_identifier_checks(events, guard, _IDENTIFIERS[1:], "keys."),
            guard=guard,
            base_currency=events.base_currency,
            rates=rates,
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


def _identifier_checks(
    events: settings.Events, guard: PanGuard, fields: Sequence[str], place: str
) -> tuple[IdentifierCheck, ...]:
    checks = []
    for field in fields:
        # A hash depends on the key of the day, and an id has to be the same for ever.
        look = guard.refuse_identifier if field == "transaction_id" else guard.check_identifier
        pattern = getattr(events.id_patterns, field) or events.id_pattern
        guarded = look if field in events.pan_fields else None
        checks.append(IdentifierCheck(field, f"{place}{field}", re.compile(pattern), guarded))
    return tuple(checks)


def _transaction(event: TransactionEvent, rules: DecodeRules) -> Transaction:
    replaced = _check(event, rules)
    event.event_time = utc("event_time", event.event_time)
    if event.ip_address is not None:
        event.ip_address = canonical_address("ip_address", event.ip_address)
    amount_minor = minor_units("amount", bytes(event.amount), event.currency)
    converted_minor = _converted_minor(event, amount_minor, rules.base_currency)
    extra, written = _extra(event, rules) if rules.extra_fields else ({}, {})
    base_amount_minor = amount_minor if converted_minor is None else converted_minor
    if converted_minor is None and event.currency != rules.base_currency:
        base_amount_minor = _converted_by_rate(event, amount_minor, rules)
    former_digests: tuple[str, ...] = ()
    if replaced or written:
        former_digests = _former_digests(
            event, amount_minor, converted_minor, (extra, replaced, written), rules.guard
        )
    return Transaction(
        transaction_id=TransactionId(event.transaction_id),
        event_time=event.event_time,
        card_id=event.card_id,
        merchant_id=event.merchant_id,
        amount_minor=amount_minor,
        currency=event.currency,
        base_amount_minor=base_amount_minor,
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
        former_digests=former_digests,
    )


def _check(event: TransactionEvent, rules: DecodeRules) -> Mapping[str, str]:
    """Check what types cannot say; return the identifiers that were replaced, as written."""
    replaced = check_identifiers(event, rules.identifiers, rules.guard)
    check_codes(event.country, event.merchant_category)
    check_word("channel", event.channel)
    check_word("entry_mode", event.entry_mode)
    if event.currency not in EXPONENTS:
        raise Rejected("unknown_currency", "currency: expected an ISO 4217 code in upper case")
    return replaced


def _converted_minor(event: TransactionEvent, amount_minor: int, base: str) -> int | None:
    """Return the amount in *base* that an event in another currency brings, else None."""
    raw = _NULL if event.base_amount is msgspec.UNSET else bytes(event.base_amount)
    if raw == _NULL:
        return None
    base_minor = minor_units("base_amount", raw, base)
    if event.currency != base:
        return base_minor
    if base_minor != amount_minor:
        raise Rejected("bad_value", f"base_amount: expected to equal amount, both are in {base}")
    return None


def _converted_by_rate(event: TransactionEvent, amount_minor: int, rules: DecodeRules) -> int:
    """
    Return the amount in the base currency by the rate table.

    It is no part of the digest: the same event after a correction of the table is
    still the same event.
    """
    if rules.rates is not None:
        converted = rules.rates.table.convert(amount_minor, event.currency, event.event_time)
        if converted is not None:
            return converted
    table = "" if rules.rates is None else " and events.rates has no rate for its day"
    base = rules.base_currency
    raise Rejected("no_conversion", f"base_amount: expected, as the currency is not {base}{table}")


def _extra(
    event: TransactionEvent, rules: DecodeRules
) -> tuple[Mapping[str, Scalar], Mapping[str, str]]:
    """Return the further fields, and those in which card numbers were replaced, as written."""
    extra: dict[str, Scalar] = {}
    written: dict[str, str] = {}
    for attribute, name in rules.extra_fields:
        value = cast("Scalar | None", getattr(event, attribute))
        if value is None:
            continue
        extra[name] = safe = _safe_extra(name, value, rules.guard)
        if safe != value:
            written[name] = value if isinstance(value, str) else str(int(value))
    return extra, written


def _safe_extra(name: str, value: Scalar, guard: PanGuard) -> Scalar:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        check_text(name, value)
        return guard.check_text(name, value)
    return guard.check_number(name, value)


def _former_digests(
    event: TransactionEvent,
    amount_minor: int,
    converted_minor: int | None,
    content: tuple[Mapping[str, Scalar], Mapping[str, str], Mapping[str, str]],
    guard: PanGuard,
) -> tuple[str, ...]:
    """
    Digest *event* as it would have been under each former key.

    *content* are the further fields, then the identifiers and the further fields
    that were replaced, as written. A rotation of keys must not turn the redelivery
    of a decided transaction into a conflict.
    """
    extra, identifiers, texts = content
    former = []
    for key in guard.keys[1:]:
        other = msgspec.structs.replace(
            event, **{name: guard.token(value, key) for name, value in identifiers.items()}
        )
        other_extra = {**extra, **{name: guard.token(value, key) for name, value in texts.items()}}
        former.append(transaction_digest(other, amount_minor, converted_minor, other_extra))
    return tuple(former)


def _label(event: LabelEvent, rules: DecodeRules) -> Label:
    check_identifiers(event, rules.identifiers[:1], rules.guard)
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
        keys={} if event.keys is None else _label_keys(event.keys, rules),
    )


def _label_keys(keys: LabelKeys, rules: DecodeRules) -> Mapping[str, str]:
    check_identifiers(keys, rules.key_identifiers, rules.guard)
    if keys.ip_address is not None:
        keys.ip_address = canonical_address("keys.ip_address", keys.ip_address)
    given = msgspec.structs.asdict(keys)
    return {name: value for name, value in given.items() if value is not None}


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
