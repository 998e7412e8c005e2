"""A decided transaction as its analytics row tells it, to be judged again."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite, nan
from typing import Any, Final

from consumer.currency import EXPONENTS
from consumer.document import OPTIONAL_FIELDS
from consumer.model import Kind, Scores, Transaction, TransactionId
from consumer.rules.facts import Case

COLUMNS: Final = (
    "transaction_id",
    "event_time",
    "arrival_time",
    "card_id",
    "merchant_id",
    "amount",
    "currency",
    "base_amount",
    "kind",
    *OPTIONAL_FIELDS,
    "fraud_score",
    "anomaly_score",
    "degraded",
)
"""What is read of a row beside ``f_<feature>`` and ``x_<field>``."""

REQUIRED: Final = ("transaction_id", "event_time", "card_id", "merchant_id", "amount", "currency")


def read_case(row: Mapping[str, Any], features: Sequence[str], exponent: int) -> Case:
    """
    Read *row*, one of ``row.build_row`` or of a replay, in the types of JSON or of Arrow.

    *features* are the names of the vector; one that the row lacks is NaN, of which nothing is
    true. *exponent* is the number of decimals of the base currency. Raises ValueError, saying
    what is wrong, for what is no such row.
    """
    for name in REQUIRED:
        if row.get(name) in (None, ""):
            message = f"no {name}"
            raise ValueError(message)
    event_time = _time(row, "event_time")
    arrival = _time(row, "arrival_time") if row.get("arrival_time") else event_time
    currency = str(row["currency"])
    if currency not in EXPONENTS:
        message = f"currency {currency!r}"
        raise ValueError(message)
    amount_minor = _minor(row, "amount", EXPONENTS[currency])
    base = row.get("base_amount")
    transaction = Transaction(
        transaction_id=TransactionId(str(row["transaction_id"])),
        event_time=event_time,
        card_id=str(row["card_id"]),
        merchant_id=str(row["merchant_id"]),
        amount_minor=amount_minor,
        currency=currency,
        base_amount_minor=amount_minor if base is None else _minor(row, "base_amount", exponent),
        digest="",
        kind=Kind(row.get("kind") or Kind.PURCHASE),
        extra={
            name.removeprefix("x_"): value
            for name, value in row.items()
            if name.startswith("x_") and value is not None
        },
        **_optional(row),
    )
    values = tuple(_number(row, f"f_{name}", nan) for name in features)
    return Case(transaction, values, _scores(row), int(min(event_time, arrival).timestamp()))


def _optional(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in OPTIONAL_FIELDS}


def _scores(row: Mapping[str, Any]) -> Scores:
    fraud, anomaly = (
        None if row.get(name) is None else _number(row, name, nan)
        for name in ("fraud_score", "anomaly_score")
    )
    return Scores(fraud, anomaly, tuple(row.get("degraded") or ()))


def _time(row: Mapping[str, Any], name: str) -> datetime:
    value = row[name]
    found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _minor(row: Mapping[str, Any], name: str, exponent: int) -> int:
    amount = _number(row, name, nan)
    if not isfinite(amount):
        message = f"{name} {row.get(name)!r}"
        raise ValueError(message)
    units: int = 10**exponent
    return round(amount * units)


def _number(row: Mapping[str, Any], name: str, absent: float) -> float:
    value = row.get(name)
    if value is None:
        return absent
    if isinstance(value, bool) or not isinstance(value, int | float):
        message = f"{name} {value!r}, which is no number"
        raise ValueError(message)  # noqa: TRY004 - of a row, whose values are data
    return float(value)
