"""
Records that no decoder may accept, one function a way of being wrong.

Each starts from a good transaction under an id of its own, so that whoever
accepted it by mistake would decide a transaction that was never made.
"""

from collections.abc import Callable

import orjson

Document = dict[str, object]

OVERSIZE_BYTES = 70_000
"""Above the default ``events.max_size_bytes``, far below what Kinesis takes."""


def _changed(**values: object) -> Callable[[Document], bytes]:
    return lambda document: orjson.dumps(document | values)


def _without(field: str) -> Callable[[Document], bytes]:
    def spoil(document: Document) -> bytes:
        return orjson.dumps({key: value for key, value in document.items() if key != field})

    return spoil


def _amount(literal: bytes) -> Callable[[Document], bytes]:
    """The amount as a bare word that JSON does not have but some writers emit."""
    return lambda document: orjson.dumps(document | {"amount": "?"}).replace(b'"?"', literal)


def _deep(document: Document) -> bytes:
    return orjson.dumps(document)[:-1] + b',"note":' + b"[" * 2_000 + b"]" * 2_000 + b"}"


def _foreign_without_conversion(document: Document) -> bytes:
    kept = {key: value for key, value in document.items() if key != "base_amount"}
    return orjson.dumps(kept | {"currency": "USD"})


SPOILERS: dict[str, Callable[[Document], bytes]] = {
    "not_json": lambda document: b"transaction " + str(document["transaction_id"]).encode(),
    "truncated": lambda document: orjson.dumps(document)[:-40],
    "not_an_object": lambda document: orjson.dumps([document]),
    "not_utf_8": lambda document: orjson.dumps(document).replace(
        b'"transaction"', b'"trans\xffction"'
    ),
    "broken_gzip": lambda document: b"\x1f\x8b\x08\x00" + orjson.dumps(document),
    "missing_id": _without("transaction_id"),
    "missing_amount": _without("amount"),
    "missing_card": _without("card_id"),
    "unknown_type": _changed(type="transfer"),
    "unknown_field": _changed(loyalty_points=12),
    "card_as_number": _changed(card_id=42),
    "card_with_spaces": _changed(card_id="card of Ms Example"),
    "amount_as_words": _changed(amount="twelve"),
    "amount_not_a_number": _amount(b"NaN"),
    "amount_infinite": _amount(b"Infinity"),
    "negative_amount": _changed(amount=-12.5),
    "too_many_decimals": _changed(amount=12.345, currency="EUR"),
    "no_such_currency": _changed(currency="EURO"),
    "no_conversion": _foreign_without_conversion,
    "time_without_offset": _changed(event_time="2026-01-01T12:00:00"),
    "time_as_words": _changed(event_time="yesterday"),
    "latitude_off_the_globe": _changed(latitude=123.4, longitude=0.0),
    "too_deep": _deep,
    "too_large": lambda document: orjson.dumps(document | {"note": "x" * OVERSIZE_BYTES}),
}
"""What can be wrong → how to make it so."""


def spoil(data: bytes, wrong: str, transaction_id: str) -> bytes:
    """The transaction *data*, renamed to *transaction_id* and spoilt in the way *wrong*."""
    return SPOILERS[wrong](orjson.loads(data) | {"transaction_id": transaction_id})
