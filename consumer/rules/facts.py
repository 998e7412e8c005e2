"""What a rule can know of a transaction: every name with its type, unit and an example."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from consumer.currency import EXPONENTS
from consumer.model import Scores, Transaction
from consumer.rules.cel import Type

Value = str | float | bool | datetime | None
Reader = Callable[[Transaction], Value]


@dataclass(frozen=True, slots=True)
class Case:
    """
    One transaction with all that rules judge it by.

    ``values`` is its feature vector in the order of the plan's names; ``time_s`` its feature
    time in seconds since the epoch, at which entries of lists count as expired or not.
    ``warming`` names the features that are not full at that time.
    """

    transaction: Transaction
    values: Sequence[float]
    scores: Scores
    time_s: int
    warming: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Fact:
    """A name that rules may use. ``optional`` ones are asked for by ``has()`` first."""

    name: str
    type: Type
    unit: str
    example: str | float
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """
    Every name, and how to read the fields of an event.

    ``features`` are in the order of the vector, ``base_currency`` is that of ``tx.base_amount``.
    """

    base_currency: str
    fields: Mapping[str, Fact]
    readers: Mapping[str, Reader]
    features: Sequence[Fact]
    scores: Sequence[Fact]


SCORES = (
    Fact("scores.fraud", Type.NUMBER, "probability, 0 to 1", 0.03, optional=True),
    Fact("scores.anomaly", Type.NUMBER, "score, 0 upwards", 0.8, optional=True),
)

_REQUIRED_TEXT = {
    "transaction_id": "tx_20260601_000001",
    "card_id": "card_7f3a",
    "merchant_id": "merchant_0042",
    "currency": "EUR",
    "kind": "purchase",
}
_OPTIONAL_TEXT = {
    "customer_id": "customer_19",
    "terminal_id": "terminal_3",
    "merchant_category": "5411",
    "country": "DE",
    "channel": "ecommerce",
    "entry_mode": "chip",
    "device_id": "device_5",
    "ip_address": "203.0.113.7",
}
_OPTIONAL_NUMBER = {"latitude": 52.52, "longitude": 13.405}


def build_catalogue(
    features: Sequence[Fact], base_currency: str, extra_fields: Sequence[str] = ()
) -> Catalogue:
    """The catalogue of a specification's *features* and of events with *extra_fields*."""
    facts = [Fact(f"tx.{name}", Type.TEXT, "", example) for name, example in _REQUIRED_TEXT.items()]
    facts += [
        Fact("tx.event_time", Type.TIME, "UTC", "2026-06-01T12:00:00Z"),
        Fact("tx.amount", Type.NUMBER, "major units of tx.currency", 12.5),
        Fact("tx.base_amount", Type.NUMBER, f"{base_currency}, major units", 12.5),
    ]
    facts += [
        Fact(f"tx.{name}", Type.TEXT, "", example, optional=True)
        for name, example in _OPTIONAL_TEXT.items()
    ]
    facts += [
        Fact(f"tx.{name}", Type.NUMBER, "degrees", example, optional=True)
        for name, example in _OPTIONAL_NUMBER.items()
    ]
    facts += [Fact(f"tx.{name}", Type.ANY, "", "", optional=True) for name in extra_fields]
    fields = {fact.name.removeprefix("tx."): fact for fact in facts}
    readers = {
        name: _extra_reader(name) if name in extra_fields else _reader(name) for name in fields
    }
    readers["amount"] = _amount
    readers["base_amount"] = _base_amount(10 ** EXPONENTS[base_currency])
    return Catalogue(base_currency, fields, readers, tuple(features), SCORES)


def _reader(name: str) -> Reader:
    def read(transaction: Transaction) -> Value:
        value: Value = getattr(transaction, name)
        return value

    return read


def _extra_reader(name: str) -> Reader:
    def read(transaction: Transaction) -> Value:
        return transaction.extra.get(name)

    return read


def _amount(transaction: Transaction) -> float:
    units: int = 10 ** EXPONENTS[transaction.currency]
    return transaction.amount_minor / units


def _base_amount(units: int) -> Reader:
    def read(transaction: Transaction) -> float:
        return transaction.base_amount_minor / units

    return read
