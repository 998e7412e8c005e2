"""
Known traffic from a seed, and what must come of each record.

Few cards, merchants, terminals and devices, so that entities are shared; all ids begin
with a name of the caller's, so that traffics never touch. Ordinary transactions come in
the order of their event times; among them stand duplicates of a producer, conflicts,
refunds, late ones (within the id horizon and beyond it), some from the future, labels
(before their transaction, after it, twice, corrected) and malformed records.
"""

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256

import orjson

from consumer.local.oracle import Event, Verdict
from consumer.model import Position
from tests.multilang import Delivered

ENTITY_KEYS = ("card_id", "merchant_id", "terminal_id", "device_id")
_HOUR_S = 3_600
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Mix:
    """
    How much of what; shares are of the transactions.

    ``hot`` puts most of them on one merchant within the newest 20 hours, more than 128.
    Of ``expired`` ones the event is beyond the id horizon of 25 hours. ``crowd`` is the share
    of that merchant. Traffics that name the same ``entities`` meet in them; without a name
    each has its own.
    """

    transactions: int = 160
    cards: int = 6
    merchants: int = 4
    terminals: int = 3
    devices: int = 5
    span_s: int = 10 * _DAY_S
    hot: bool = False
    duplicates: float = 0.06
    conflicts: float = 0.025
    refunds: float = 0.05
    late: float = 0.05
    expired: float = 0.025
    ahead: float = 0.02
    labels: float = 0.12
    malformed: float = 0.03
    crowd: float = 0.9
    entities: str = ""


NEAR = Mix(transactions=120, span_s=12 * _HOUR_S, hot=True, late=0, expired=0, ahead=0, labels=0.5)
"""
All within the id horizon, so that no order makes an event too late.

A server that heals in the middle of a pipeline has refused earlier events than it took.
"""

PLAIN = Mix(duplicates=0, conflicts=0, refunds=0, late=0, expired=0, ahead=0, labels=0, malformed=0)
"""Purchases in order and nothing else."""


@dataclass(frozen=True, slots=True)
class Item:
    """
    One record to send. *error* is the code of its dead letter, if it is malformed.

    It arrives *ago_ms* before now. A *joined* one is a user record of the same aggregate of
    the KPL as the item before it, and shares its sequence number.
    """

    data: bytes
    error: str | None = None
    ago_ms: int = 0
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """An item and where the stream holds it."""

    item: Item
    position: Position
    arrival_ms: int
    shard_id: str

    @property
    def letter_id(self) -> str:
        """The id of the dead letter, if this record becomes one."""
        number, sub = self.position.sequence_number, self.position.sub_sequence_number
        return f"{self.shard_id}-{number}-{sub}"

    @property
    def event(self) -> dict[str, object]:
        """The event as it was sent."""
        found: dict[str, object] = orjson.loads(self.item.data)
        return found


def build_traffic(name: str, mix: Mix, choice: random.Random, now_ms: int) -> list[Item]:
    """Make the records of *mix* in the order of the stream; the last ones happen about *now_ms*."""
    return _Generator(name, mix, choice, now_ms).items()


class _Generator:
    """Items with a sortable place: that of a transaction, or so many transactions behind it."""

    def __init__(self, name: str, mix: Mix, choice: random.Random, now_ms: int) -> None:
        self._name = name
        self._mix = mix
        self._choice = choice
        self._now = datetime.fromtimestamp(now_ms // 1000, UTC)
        self._placed: list[tuple[float, Item]] = []

    def items(self) -> list[Item]:
        for number, time_s in enumerate(self._times()):
            self._add_transaction(number, time_s)
        for number in range(round(self._mix.malformed * self._mix.transactions)):
            self._place(self._choice.uniform(0, self._mix.transactions), *self._malformed(number))
        return [item for _, item in sorted(self._placed, key=lambda placed: placed[0])]

    def _times(self) -> list[int]:
        """Seconds before now, oldest first, some in bursts."""
        mix, choice = self._mix, self._choice
        times: list[float] = []
        while len(times) < mix.transactions:
            reach_s = mix.span_s
            if mix.hot and choice.random() < 0.85:
                reach_s = min(18 * _HOUR_S, reach_s)
            start_s = choice.uniform(1_200, reach_s)
            for _ in range(choice.choice((1, 1, 1, 2, 5))):
                times.append(start_s)
                start_s = max(start_s - choice.expovariate(1 / 90), 900)
        return sorted((round(time) for time in times[: mix.transactions]), reverse=True)

    def _add_transaction(self, number: int, ago_s: int) -> None:
        mix, choice = self._mix, self._choice
        event = self._purchase(number, ago_s)
        odd = choice.random()
        near_end = number > 0.95 * mix.transactions
        ordinary = False
        if odd < mix.late:
            event["event_time"] = self._time(ago_s + choice.randint(60, 20 * _HOUR_S))
        elif odd < mix.late + mix.expired:
            event["event_time"] = self._time(ago_s + choice.randint(26 * _HOUR_S, 60 * _HOUR_S))
        elif near_end and odd < mix.late + mix.expired + 20 * mix.ahead:
            # Only at the end: clamped to the arrival, it makes everything far before it late.
            event["event_time"] = self._time(-choice.randint(_HOUR_S, 5 * _HOUR_S))
        elif choice.random() < mix.refunds:
            event["kind"] = choice.choice(("refund", "reversal"))
        else:
            ordinary = True
        self._place(number, event)
        if choice.random() < mix.duplicates:
            self._place(number + choice.uniform(0.1, 40), event)
        if choice.random() < mix.conflicts:
            changed = choice.choice(({"amount": "4999.99"}, {"card_id": self._pick("card", 99)}))
            self._place(number + choice.uniform(0.1, 40), {**event, **changed})
        if ordinary and choice.random() < mix.labels:
            self._add_labels(number, event, ago_s)

    def _add_labels(self, number: int, event: Mapping[str, object], ago_s: int) -> None:
        choice = self._choice
        told_s = choice.uniform(0, ago_s)
        label = {
            "type": "label",
            "transaction_id": event["transaction_id"],
            "label": choice.choice(("fraud", "fraud", "legitimate")),
            "label_time": self._time(told_s),
            "source": choice.choice(("chargeback", "analyst")),
        }
        place = number + choice.choice((-20, 0.2, 3, 40)) * choice.random()
        self._place(place, label)
        more = choice.random()
        if more < 0.3:
            self._place(place + choice.uniform(0.1, 20), label)
        elif more < 0.6:
            other = "legitimate" if label["label"] == "fraud" else "fraud"
            # In either order the newer one stands, and of two of one time the same one always.
            later_s = choice.choice((1, 1, 0))
            corrected = {**label, "label": other, "label_time": self._time(told_s - later_s)}
            self._place(place + choice.uniform(-15, 15), corrected)

    def _purchase(self, number: int, ago_s: int) -> dict[str, object]:
        mix, choice = self._mix, self._choice
        merchant = 0 if mix.hot and choice.random() < mix.crowd else choice.randrange(mix.merchants)
        event: dict[str, object] = {
            "type": "transaction",
            "transaction_id": f"{self._name}-{number}",
            "event_time": self._time(ago_s),
            "card_id": self._pick("card", choice.randrange(mix.cards)),
            "merchant_id": self._pick("merchant", merchant),
            "amount": f"{choice.lognormvariate(3.3, 1):.2f}",
            "currency": "EUR",
            "channel": choice.choice(("pos", "ecommerce")),
        }
        if choice.random() < 0.8:
            event["terminal_id"] = self._pick("terminal", choice.randrange(mix.terminals))
        if choice.random() < 0.7:
            event["device_id"] = self._pick("device", choice.randrange(mix.devices))
        if choice.random() < 0.5:
            event["latitude"] = round(choice.uniform(47, 54), 4)
            event["longitude"] = round(choice.uniform(6, 14), 4)
        return event

    def _malformed(self, number: int) -> tuple[dict[str, object] | bytes, str]:
        event = self._purchase(900_000 + number, 1_000)
        kind = number % 6
        if kind == 0:
            return orjson.dumps(event)[:-5], "not_json"
        if kind == 1:
            del event["amount"]
            return event, "missing_field"
        if kind == 2:
            return {**event, "card_id": "4111111111111111"}, "card_number"
        if kind == 3:
            return {**event, "currency": "XXY"}, "unknown_currency"
        if kind == 4:
            return {**event, "nonsense": 1}, "unknown_field"
        return {**event, "event_time": "yesterday"}, "bad_time"

    def _place(self, place: float, event: object, error: str | None = None) -> None:
        data = event if isinstance(event, bytes) else orjson.dumps(event)
        self._placed.append((place, Item(data, error)))

    def _time(self, ago_s: float) -> str:
        return (self._now - timedelta(seconds=ago_s)).isoformat(timespec="milliseconds")

    def _pick(self, kind: str, number: int) -> str:
        return f"{self._mix.entities or self._name}-{kind}-{number}"


def place(items: Iterable[Item], shard_id: str, now_ms: int, first: int = 1) -> list[Placed]:
    """*items* at growing positions of *shard_id*, each with its own age at *now_ms*."""
    placed: list[Placed] = []
    position = Position(first - 1)
    for item in items:
        number, sub = position.sequence_number, position.sub_sequence_number
        position = Position(number, sub + 1) if item.joined else Position(number + 1)
        placed.append(Placed(item, position, now_ms - item.ago_ms, shard_id))
    return placed


def deliver(placed: Iterable[Placed]) -> list[Delivered]:
    """*placed* as the KCL hands it over."""
    return [Delivered(each.item.data, each.position, each.arrival_ms) for each in placed]


@dataclass(frozen=True, slots=True)
class Due:
    """
    What is due of one transaction id: the record that decides it and its newest label.

    *elsewhere* are records of other shards that may come first and decide it instead.
    """

    placed: Placed
    event: Mapping[str, object]
    label: Mapping[str, object] | None = None
    elsewhere: tuple[Placed, ...] = ()


@dataclass(slots=True)
class Ledger:
    """
    What must come of the records of one shard, read in their order.

    ``due`` by transaction id; ``letters`` by id with their error code; ``unmatched`` the
    transaction ids whose label waits for ever; ``story`` what the oracle is to be told;
    ``shared`` the ids that another shard holds too: the record that comes first answers for
    their rows.
    """

    placed: Sequence[Placed]
    due: dict[str, Due] = field(default_factory=dict)
    letters: dict[str, str] = field(default_factory=dict)
    story: list[tuple[Placed, Event | Verdict]] = field(default_factory=list)
    shared: set[str] = field(default_factory=set)
    _waiting: dict[str, list[Mapping[str, object]]] = field(default_factory=dict)

    @classmethod
    def of(cls, placed: Sequence[Placed]) -> "Ledger":
        """Read *placed*, in the order of the shard."""
        ledger = cls(placed)
        for each in placed:
            ledger.read(each)
        return ledger

    def read(self, placed: Placed) -> None:
        """Read the next record, for a shard that still grows."""
        if placed.item.error is not None:
            self.letters[placed.letter_id] = placed.item.error
        elif placed.event["type"] == "transaction":
            self._transaction(placed)
        else:
            self._label(placed)

    @property
    def unmatched(self) -> dict[str, Mapping[str, object]]:
        """The newest label of each transaction that has not come."""
        return {name: max(labels, key=_rank) for name, labels in self._waiting.items()}

    def without(self, gone: Collection[str]) -> "Ledger":
        """What must come if nobody had heard of the transactions *gone*."""
        if not gone:
            return self
        return Ledger.of(
            [
                each
                for each in self.placed
                if each.item.error is not None or each.event["transaction_id"] not in gone
            ]
        )

    def share(self, other: "Ledger") -> None:
        """Let the transactions that *other* repeats be decided by whichever record comes first."""
        for name in self.due.keys() & other.due.keys():
            due = self.due[name]
            self.due[name] = replace(due, elsewhere=(*due.elsewhere, other.due.pop(name).placed))
            self.shared.add(name)
            other.shared.add(name)
        other.story = [
            (placed, told) for placed, told in other.story if told.transaction_id not in self.shared
        ]

    def _transaction(self, placed: Placed) -> None:
        event = placed.event
        name = str(event["transaction_id"])
        self.story.append((placed, as_observed(placed)))
        known = self.due.get(name)
        if known is not None:
            if known.event != event:
                self.letters[placed.letter_id] = "conflict"
            return
        self.due[name] = Due(placed, event)
        for label in self._waiting.pop(name, ()):
            self._match(placed, label)

    def _label(self, placed: Placed) -> None:
        label = placed.event
        name = str(label["transaction_id"])
        if name in self.due:
            self._match(placed, label)
        else:
            self._waiting.setdefault(name, []).append(label)

    def _match(self, placed: Placed, label: Mapping[str, object]) -> None:
        name = str(label["transaction_id"])
        due = self.due[name]
        if due.label is None or _rank(label) > _rank(due.label):
            self.due[name] = replace(due, label=label)
        event = as_observed(due.placed)
        if event.purchase:
            told_ms, label_id = _rank(label)
            fraud = label["label"] == "fraud"
            verdict = Verdict(name, label_id, fraud, told_ms, event.time_s, event.keys)
            self.story.append((placed, verdict))


def as_observed(placed: Placed) -> Event:
    """What the oracle is told of a transaction."""
    event = placed.event
    event_ms = event_time_ms(event)
    located = "latitude" in event
    return Event(
        str(event["transaction_id"]),
        min(event_ms, placed.arrival_ms) // 1000,
        int(Decimal(str(event["amount"])) * 100),
        {name: str(event[name]) for name in ENTITY_KEYS if name in event},
        purchase=event.get("kind", "purchase") == "purchase",
        place=(float(str(event["latitude"])), float(str(event["longitude"]))) if located else None,
    )


def event_time_ms(event: Mapping[str, object]) -> int:
    """When *event* happened, in milliseconds since the epoch."""
    return _milliseconds(str(event["event_time"]))


def _rank(label: Mapping[str, object]) -> tuple[int, str]:
    """When a label was told, and the hash of what it says: of several the highest stands."""
    told_ms = _milliseconds(str(label["label_time"]))
    said = (label["transaction_id"], label["source"], label["label"], told_ms)
    return told_ms, sha256(orjson.dumps(said)).hexdigest()


def _milliseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
