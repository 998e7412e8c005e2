"""
Names what an event says, however it was written.

1.5 and 1.50, a Z and a +00:00, an order of keys or an IPv6 address in long form
make no difference, since both hashes are taken of normalised values: money in
minor units, time in milliseconds since the epoch. Absent fields are left out, so
that a field which joins the contract later leaves older digests as they are.
"""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256

import orjson
from msgspec import UNSET

from consumer.model import Kind, LabelValue, TransactionId
from consumer.wire import TransactionEvent

Scalar = str | int | float | bool

_MAX_EXACT = 2**53


def transaction_digest(
    event: TransactionEvent,
    amount_minor: int,
    converted_minor: int | None,
    extra: Mapping[str, Scalar],
) -> str:
    """
    SHA-256 (hex) of a transaction whose time and address are normalised.

    *converted_minor* is the amount in the base currency where the event had to
    say it. In the base currency itself it would only repeat the amount.
    """
    content = {
        "amount_minor": amount_minor,
        "base_amount_minor": converted_minor,
        "card_id": event.card_id,
        "channel": event.channel,
        "country": event.country,
        "currency": event.currency,
        "customer_id": event.customer_id,
        "device_id": event.device_id,
        "entry_mode": event.entry_mode,
        "event_time_ms": _milliseconds(event.event_time),
        "extra": {name: _number(extra[name]) for name in sorted(extra)} if extra else None,
        "ip_address": event.ip_address,
        "kind": Kind.PURCHASE if event.kind is UNSET else event.kind,
        "latitude": _number(event.latitude),
        "longitude": _number(event.longitude),
        "merchant_category": event.merchant_category,
        "merchant_id": event.merchant_id,
        "terminal_id": event.terminal_id,
        "transaction_id": event.transaction_id,
    }
    present = {name: value for name, value in content.items() if value is not None}
    return sha256(orjson.dumps(present)).hexdigest()


def label_id(
    transaction_id: TransactionId, source: str, label: LabelValue, label_time: datetime
) -> str:
    """SHA-256 (hex) of who says what of which transaction, and when."""
    said = (transaction_id, source, label, _milliseconds(label_time))
    return sha256(orjson.dumps(said)).hexdigest()


def _number(value: Scalar | None) -> Scalar | None:
    """*value*, a whole float as the integer that JSON does not tell it from."""
    if type(value) is float and value.is_integer() and abs(value) < _MAX_EXACT:
        return int(value)
    return value


def _milliseconds(time: datetime) -> int:
    # Exact: a double holds milliseconds of this era with eleven bits to spare.
    return round(time.timestamp() * 1_000)
