"""One transaction asked of the feature store and of the oracle, and what both say."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path

from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.plan import Plan, Windowed
from consumer.local.oracle import Event, Oracle, Question, Verdict
from consumer.model import Kind, LabelEffect, TransactionId
from consumer.ports import Observe
from tests.builders import a_transaction

SHIPPED = (Path(__file__).parents[2] / "config" / "features.yaml").read_text("utf-8")

# Windows next to each other on every grid; a minute is the finest there is.
FINE = """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: "count_{window}", entity: card, aggregation: count, windows: [1m, 5m, 1h, 1d]}
  - {name: "sum_{window}", entity: card, aggregation: sum, windows: [1m, 2h, 30d]}
  - {name: "mean_{window}", entity: card, aggregation: mean, windows: [15m]}
  - {name: "max_{window}", entity: card, aggregation: max, windows: [1m, 3h, 1d]}
  - {name: gap, entity: card, aggregation: time_since_last}
"""

# Only long windows: everything within the horizon that rows lack comes from raw events.
COARSE = """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: "count_{window}", entity: card, aggregation: count, windows: [30d]}
  - {name: "max_{window}", entity: card, aggregation: max, windows: [10m, 30d]}
  - {name: gap, entity: card, aggregation: time_since_last}
"""

# Every track that a state can have.
RICH = """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: "count_{window}", entity: card, aggregation: count, windows: [10m, 1d]}
  - {name: "std_{window}", entity: card, aggregation: std, windows: [10m, 30d]}
  - {name: "min_{window}", entity: card, aggregation: min, windows: [1m, 3h, 30d]}
  - {name: "max_{window}", entity: card, aggregation: max, windows: [1d]}
  - {name: "old_sum_{window}", entity: card, aggregation: sum, delay: 2h, windows: [1h, 7d]}
  - {name: "old_std_{window}", entity: card, aggregation: std, delay: 2h, windows: [1d]}
  - {name: "rate_{window}", entity: card, aggregation: fraud_rate, delay: 7d, windows: [1d, 30d]}
  - {name: "frauds_{window}", entity: card, aggregation: fraud_count, windows: [1m, 1d, 7d]}
  - {name: "fine_{window}", entity: card, aggregation: count, windows: [7d], grid: 1m}
  - {name: "shops_{window}", entity: card, aggregation: distinct(merchant_id), windows: [1h, 7d]}
  - {name: "phones_{window}", entity: card, aggregation: distinct(device_id), windows: [1d]}
  - {name: gap, entity: card, aggregation: time_since_last}
  - {name: age, entity: card, aggregation: first_seen}
  - {name: km, entity: card, aggregation: distance}
  - {name: kmh, entity: card, aggregation: speed}
"""
RICH_ONE_BY_ONE = [
    RICH,
    *[
        RICH.partition("features:")[0] + "features:\n" + line + "\n"
        for line in RICH.partition("features:\n")[2].splitlines()
    ],
]


def questions_of(plan: Plan) -> list[Question]:
    keys = {entity.name: entity.key for entity in plan.entities}
    return [
        Question(
            name=feature.name,
            key_field=keys[feature.entity],
            aggregation=feature.aggregation.value,
            window_s=feature.window_s,
            delay_s=feature.delay_s,
            grid_s=feature.grid_s,
            field=feature.field,
        )
        for feature in plan.features
        if isinstance(feature, Windowed)
    ]


def an_event(
    name: str,
    time_s: int,
    amount_minor: int = 100,
    *,
    card: str = "c",
    merchant: str = "m",
    purchase: bool = True,
) -> Event:
    return Event(name, time_s, amount_minor, {"card_id": card, "merchant_id": merchant}, purchase)


def somewhere(event: Event, place: tuple[float, float] | None, device: str = "") -> Event:
    """The same event at a place and with a device."""
    keys = {**event.keys, "device_id": device} if device else event.keys
    return replace(event, keys=keys, place=place)


def a_request(event: Event) -> Observe:
    transaction = a_transaction(
        transaction_id=TransactionId(event.transaction_id),
        card_id=event.keys["card_id"],
        merchant_id=event.keys["merchant_id"],
        base_amount_minor=event.amount_minor,
        kind=Kind.PURCHASE if event.purchase else Kind.REFUND,
        device_id=event.keys.get("device_id"),
        latitude=event.place[0] if event.place else None,
        longitude=event.place[1] if event.place else None,
    )
    return Observe(transaction, event.time_s)


def an_effect(verdict: Verdict) -> LabelEffect:
    return LabelEffect(
        transaction_id=TransactionId(verdict.transaction_id),
        label_id=verdict.label_id,
        fraud=verdict.fraud,
        label_time_ms=verdict.label_time_ms,
        event_time_s=verdict.time_s,
        keys=verdict.keys,
    )


class Pair:
    """A store and an oracle that are told the same and must answer the same."""

    def __init__(self, store: RedisFeatureStore, plan: Plan, horizon_s: int) -> None:
        self.store, self.plan, self.horizon_s = store, plan, horizon_s
        questions = questions_of(plan)
        self.oracle = Oracle(questions, horizon_s=horizon_s, exponent=plan.exponent)
        self.asked = {question.name for question in questions}
        self.values = {each.name for each in questions if each.aggregation == "distinct"}
        self.deviations = {each.name for each in questions if each.aggregation == "std"}
        self.may_be_hot = True

    def label(self, verdicts: Sequence[Verdict]) -> None:
        """Tell both of labels."""
        self.store.label([an_effect(verdict) for verdict in verdicts])
        for verdict in verdicts:
            self.oracle.label(verdict)

    def observe(self, events: Sequence[Event]) -> None:
        """Send *events* as one chunk and compare every value and every status."""
        for event, observation in zip(
            events, self.store.observe([a_request(event) for event in events]), strict=True
        ):
            found = dict(zip(self.plan.names, observation.values, strict=True))
            found = {name: found[name] for name in found if name in self.asked}
            late = event.time_s < (self.oracle.newest_s("card_id", event.keys["card_id"]) or 0)
            values, applied = self.oracle.observe(event)
            self._forgive(found, values, late=late)
            assert found == values, (event, self.different(found, values))
            statuses = tuple(applied[entity.key] for entity in self.plan.entities)
            assert observation.applied == statuses, event

    def read(self, times_s: Iterable[int], *, card: str = "c") -> None:
        """Compare what a card reads at each time, changing nothing."""
        for time_s in times_s:
            found = dict(self.store.read("card", card, time_s))
            values = self.oracle.read("card_id", card, time_s)
            self._forgive(found, values, late=time_s < (self.oracle.newest_s("card_id", card) or 0))
            assert found == values, (time_s, self.different(found, values))

    def _forgive(self, found: dict[str, float], values: dict[str, float], *, late: bool) -> None:
        """
        Leave out what is not promised to the last digit.

        A hot entity's distinct values are promised to reads on time alone, and standard
        deviations to 10⁻⁹.
        """
        for name in self.deviations & values.keys():
            if isclose(found[name], values[name], rel_tol=1e-9):
                found[name] = values[name]
        if late and self.may_be_hot:
            for name in self.values & values.keys():
                found[name] = values[name]

    @staticmethod
    def different(found: dict[str, float], expected: dict[str, float]) -> list[object]:
        return [
            (name, found[name], value) for name, value in expected.items() if found[name] != value
        ]
