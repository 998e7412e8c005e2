"""
Events as they travel: one JSON object a record, typed field by field.

These types are the contract with producers. ``decode`` parses into them,
``schema`` publishes them as JSON Schema, and nothing else sees them: inside the
package an event is a ``model.Transaction`` or a ``model.Label``.

Ranges and enumerations stand in the types, where msgspec checks them while it
parses. Patterns stand in ``extra_json_schema``, which is published but not
enforced here: msgspec *searches* a pattern, so that ``^…$`` would let a trailing
newline pass. ``decode`` matches each of them in full.
"""

from datetime import datetime
from typing import Annotated

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from consumer.currency import EXPONENTS
from consumer.model import Kind, LabelValue

ID_PATTERN = r"^[A-Za-z0-9_.:-]{1,64}$"
"""The default of ``events.id_pattern``, as published in the schema."""

COUNTRY_PATTERN = r"^[A-Z]{2}$"
MERCHANT_CATEGORY_PATTERN = r"^[0-9]{4}$"
WORD_PATTERN = r"^[A-Za-z][A-Za-z0-9_-]{0,31}$"
AMOUNT_PATTERN = r"^(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$"
"""The grammar of a JSON number without a sign, which amounts follow as text too."""

Id = Annotated[str, Meta(extra_json_schema={"pattern": ID_PATTERN})]
Word = Annotated[str, Meta(extra_json_schema={"pattern": WORD_PATTERN})]
Time = Annotated[datetime, Meta(tz=True)]
_AMOUNT_FORMS: list[object] = [
    {"type": "number", "minimum": 0},
    {"type": "string", "pattern": AMOUNT_PATTERN, "maxLength": 40},
]
# Raw, so that no amount is ever a float.
Amount = Annotated[Raw, Meta(extra_json_schema={"anyOf": _AMOUNT_FORMS})]
OptionalAmount = Annotated[
    Raw, Meta(extra_json_schema={"anyOf": [*_AMOUNT_FORMS, {"type": "null"}]})
]


class TransactionEvent(
    Struct, tag_field="type", tag="transaction", forbid_unknown_fields=True, kw_only=True
):
    """A card transaction that wants a decision."""

    transaction_id: Annotated[
        Id, Meta(description="Names the transaction for ever; the same id is the same transaction")
    ]
    event_time: Annotated[
        Time, Meta(description="When the card was used: RFC 3339 with offset, kept to the ms")
    ]
    card_id: Annotated[Id, Meta(description="Token of the card, never its number")]
    merchant_id: Annotated[Id, Meta(description="Who is paid")]
    amount: Annotated[
        Amount, Meta(description="Money in `currency`, a JSON number or the same as text")
    ]
    currency: Annotated[
        str,
        Meta(
            description="ISO 4217 code",
            extra_json_schema={"enum": sorted(EXPONENTS)},
        ),
    ]
    base_amount: (
        Annotated[
            OptionalAmount,
            Meta(description="The same money in the base currency; else a table of rates converts"),
        ]
        | UnsetType
    ) = UNSET
    kind: (
        Annotated[
            Kind,
            Meta(
                description="Only purchases enter spend",
                extra_json_schema={"default": Kind.PURCHASE.value},
            ),
        ]
        | UnsetType
    ) = UNSET
    customer_id: Annotated[Id, Meta(description="Whose card it is")] | None = None
    terminal_id: Annotated[Id, Meta(description="Where the card was read")] | None = None
    merchant_category: (
        Annotated[
            str,
            Meta(
                description="ISO 18245 merchant category code",
                extra_json_schema={"pattern": MERCHANT_CATEGORY_PATTERN},
            ),
        ]
        | None
    ) = None
    country: (
        Annotated[
            str,
            Meta(
                description="ISO 3166 alpha-2 code of the place of payment",
                extra_json_schema={"pattern": COUNTRY_PATTERN},
            ),
        ]
        | None
    ) = None
    latitude: (
        Annotated[float, Meta(ge=-90, le=90, description="Degrees north of the place")] | None
    ) = None
    longitude: (
        Annotated[float, Meta(ge=-180, le=180, description="Degrees east of the place")] | None
    ) = None
    channel: Annotated[Word, Meta(description="For example pos, ecommerce, atm")] | None = None
    entry_mode: Annotated[Word, Meta(description="For example chip, contactless, keyed")] | None = (
        None
    )
    device_id: Annotated[Id, Meta(description="Device of the cardholder")] | None = None
    ip_address: (
        Annotated[
            str,
            Meta(
                description="IPv4 or IPv6 address of the device",
                extra_json_schema={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
            ),
        ]
        | None
    ) = None


class LabelKeys(Struct, forbid_unknown_fields=True, kw_only=True):
    """The entities of the labelled transaction, for when its document has expired."""

    card_id: Id | None = None
    merchant_id: Id | None = None
    customer_id: Id | None = None
    terminal_id: Id | None = None
    device_id: Id | None = None
    ip_address: (
        Annotated[str, Meta(extra_json_schema={"anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]})]
        | None
    ) = None


class LabelEvent(Struct, tag_field="type", tag="label", forbid_unknown_fields=True, kw_only=True):
    """What became known about a transaction."""

    transaction_id: Annotated[Id, Meta(description="The transaction that is labelled")]
    label: Annotated[LabelValue, Meta(description="What it turned out to be")]
    label_time: Annotated[
        Time, Meta(description="When that became known; the newest label of a transaction wins")
    ]
    source: Annotated[Word, Meta(description="Who says so, for example chargeback, analyst")]
    event_time: Annotated[Time, Meta(description="`event_time` of the transaction")] | None = None
    keys: LabelKeys | None = None
