"""
Transactions and labels as the bytes a producer sends, with what is known about
them beside.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from itertools import repeat

import msgspec
import numpy as np
import orjson

from consumer.local.simulator.catalogue import CASH_MACHINE, CATEGORIES, EURO, Currency
from consumer.local.simulator.columns import (
    NOTHING,
    Columns,
    Entry,
    Ints,
    Mask,
    Pattern,
    mixed,
    tokens,
)
from consumer.local.simulator.population import CITIES, Population
from consumer.model import Kind, LabelValue

_ENTRY_MODES = [entry.name.lower() for entry in Entry]
_PATTERN_NAMES = ["" if pattern is Pattern.NONE else pattern.name.lower() for pattern in Pattern]
_LABEL_KEYS = ("card_id", "merchant_id", "customer_id", "terminal_id", "device_id", "ip_address")
_DEVICE_SALT = np.uint64(0xD5E7)
_TEST_NETWORK = (198, 18)
"""198.18.0.0/15 belongs to nobody: it is set aside for benchmarks (RFC 2544)."""


class RecordKind(StrEnum):
    """What a record is sent as."""

    TRANSACTION = "transaction"
    DUPLICATE = "duplicate"
    LABEL = "label"
    MALFORMED = "malformed"


class Event(msgspec.Struct, frozen=True):
    """
    One record to send, and the truth about it.

    ``data`` and ``partition_key`` go to the stream. ``time_ms`` is its place in
    the order of time: the event time, or the label time of a label.
    ``amount_minor`` is in minor units of ``currency``, ``base_amount_minor`` in
    euro cents. ``held_ms`` is how much simulated time the record is held back,
    0 when it is sent in turn. ``malformed`` names what is wrong with the bytes,
    empty when nothing is; ``pattern`` names the fraud, empty when it is none.
    """

    data: bytes
    partition_key: str
    record: RecordKind
    time_ms: int
    transaction_id: str
    event_time_ms: int
    card_id: str
    merchant_id: str
    amount_minor: int
    currency: str
    base_amount_minor: int
    kind: Kind
    fraud: bool
    pattern: str
    held_ms: int = 0
    malformed: str = ""

    @property
    def late(self) -> bool:
        """Whether it is sent after newer events of its card."""
        return self.held_ms > 0


class _Shop(msgspec.Struct, frozen=True):
    """What every event of one merchant repeats."""

    merchant_id: str
    category: str
    country: str
    latitude: float
    longitude: float
    channel: str
    online: bool
    currency: Currency

    def charged(self, cents: int) -> tuple[int, float]:
        """Euro *cents* in this merchant's currency: in minor units, and as an event writes it."""
        if self.currency is EURO:
            return cents, cents / 100
        scale = 10**self.currency.exponent
        minor = round(cents * self.currency.per_euro * scale / 100)
        return minor, minor / scale if scale > 1 else minor


class _Row(msgspec.Struct, frozen=True):
    """One transaction out of the columns."""

    transaction_id: str
    time: str
    time_ms: int
    card: int
    merchant: int
    terminal: int
    cents: int
    entry: int
    device: str
    address: str
    pattern: int
    refund: bool
    held_ms: int


@dataclass(frozen=True, slots=True)
class Labels:
    """Parallel arrays in order of time: which transaction (row) was labelled when, and as what."""

    row: Ints
    time_ms: Ints
    fraud: Mask
    by_analyst: Mask

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: Ints | Mask) -> "Labels":
        """The labels that *which* selects, in its order."""
        return Labels(*(getattr(self, field.name)[which] for field in fields(self)))


@dataclass(frozen=True)
class Encoder:
    """
    Writes rows of *columns* as events; row numbers make the transaction ids.

    ``key`` keeps the ids of one simulation apart from those of another.
    """

    population: Population
    columns: Columns
    key: int

    def transaction_ids(self, rows: Ints) -> list[str]:
        """The ids of *rows*; rows beyond the last give ids that no transaction has."""
        return tokens("tx_", np.array([self.key], dtype=np.uint64) + rows.astype(np.uint64))

    def transactions(self, rows: Ints, held_ms: Ints | None = None) -> Iterator[Event]:
        """Each of *rows* as a transaction, in the given order, *held_ms* noted beside."""
        picked = self.columns.take(rows)
        return map(
            self._transaction,
            map(
                _Row,
                self.transaction_ids(rows),
                rfc3339(picked.time_ms),
                picked.time_ms.tolist(),
                picked.card.tolist(),
                picked.merchant.tolist(),
                picked.terminal.tolist(),
                picked.cents.tolist(),
                picked.entry.tolist(),
                _devices(picked.device),
                _addresses(picked.card, picked.device),
                picked.pattern.tolist(),
                picked.refund.tolist(),
                repeat(0) if held_ms is None else held_ms.tolist(),
            ),
        )

    def _transaction(self, row: _Row) -> Event:
        shop = self._shops[row.merchant]
        card_id = self.population.card_ids[row.card]
        amount_minor, amount = shop.charged(row.cents)
        kind = Kind.REFUND if row.refund else Kind.PURCHASE
        document: dict[str, object] = {
            "type": "transaction",
            "transaction_id": row.transaction_id,
            "event_time": row.time,
            "card_id": card_id,
            "merchant_id": shop.merchant_id,
            "amount": amount,
            "currency": shop.currency.code,
            "customer_id": self.population.customer_ids[row.card],
            "merchant_category": shop.category,
            "country": shop.country,
            "channel": shop.channel,
            "entry_mode": _ENTRY_MODES[row.entry],
            "kind": kind.value,
        }
        if shop.currency is not EURO:
            document["base_amount"] = row.cents / 100
        if shop.online:
            document["device_id"] = row.device
            document["ip_address"] = row.address
        else:
            document["terminal_id"] = _terminal_id(shop.merchant_id, row.terminal)
            document["latitude"] = shop.latitude
            document["longitude"] = shop.longitude
        return Event(
            data=orjson.dumps(document),
            partition_key=card_id,
            record=RecordKind.TRANSACTION,
            time_ms=row.time_ms,
            transaction_id=row.transaction_id,
            event_time_ms=row.time_ms,
            card_id=card_id,
            merchant_id=shop.merchant_id,
            amount_minor=amount_minor,
            currency=shop.currency.code,
            base_amount_minor=row.cents,
            kind=kind,
            fraud=row.pattern != Pattern.NONE,
            pattern=_PATTERN_NAMES[row.pattern],
            held_ms=row.held_ms,
        )

    def labels(self, labels: Labels) -> Iterator[Event]:
        """Each of *labels* as an event, in the given order."""
        return map(
            self._label,
            self.transactions(labels.row),
            labels.time_ms.tolist(),
            rfc3339(labels.time_ms),
            np.where(labels.fraud, LabelValue.FRAUD.value, LabelValue.LEGITIMATE.value).tolist(),
            np.where(labels.by_analyst, "analyst", "chargeback").tolist(),
        )

    def _label(self, about: Event, time_ms: int, time: str, label: str, source: str) -> Event:
        transaction = orjson.loads(about.data)
        document = {
            "type": "label",
            "transaction_id": about.transaction_id,
            "label": label,
            "label_time": time,
            "source": source,
            "event_time": transaction["event_time"],
            "keys": {key: transaction[key] for key in _LABEL_KEYS if key in transaction},
        }
        return msgspec.structs.replace(
            about, data=orjson.dumps(document), record=RecordKind.LABEL, time_ms=time_ms
        )

    @cached_property
    def _shops(self) -> list[_Shop]:
        merchants = self.population.merchants
        return [
            _Shop(
                merchant_id=merchant_id,
                category=CATEGORIES[int(merchants.category[index])].mcc,
                country=CITIES[int(merchants.city[index])].country,
                latitude=float(merchants.latitude[index]),
                longitude=float(merchants.longitude[index]),
                channel=_channel(self.population, index),
                online=index >= merchants.shops,
                currency=self.population.currency(index),
            )
            for index, merchant_id in enumerate(self.population.merchant_ids)
        ]


def rfc3339(time_ms: Ints) -> list[str]:
    """Milliseconds since the epoch as UTC text: ``2026-11-23T20:13:05.120Z``."""
    moments = time_ms.astype("datetime64[ms]")
    text: list[str] = np.datetime_as_string(moments, timezone="UTC").tolist()
    return text


def _channel(population: Population, merchant: int) -> str:
    if merchant >= population.merchants.shops:
        return "ecommerce"
    category = CATEGORIES[int(population.merchants.category[merchant])]
    return "atm" if category.mcc == CASH_MACHINE else "pos"


def _terminal_id(merchant_id: str, terminal: int) -> str:
    return f"{merchant_id}_terminal_{terminal + 1}"


def _devices(device: Ints) -> list[str]:
    """Names of device numbers, empty for none."""
    names = np.array(tokens("device_", device.astype(np.uint64) + _DEVICE_SALT))
    named: list[str] = np.where(device == NOTHING, "", names).tolist()
    return named


def _addresses(card: Ints, device: Ints) -> list[str]:
    """The address each device calls from; cards of one household do not share it."""
    low = (
        mixed(device.astype(np.uint64) ^ (card.astype(np.uint64) << np.uint64(20))) >> np.uint64(47)
    ).tolist()
    first, second = _TEST_NETWORK
    return [f"{first}.{second + (n >> 16)}.{(n >> 8) & 255}.{n & 255}" for n in low]
