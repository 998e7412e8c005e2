"""One transaction asked of the feature store and of the oracle, and what both say."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.plan import Plan, Windowed
from consumer.local.oracle import Event, Oracle, Question
from consumer.model import Kind, TransactionId
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


def questions_of(plan: Plan) -> list[Question]:
    keys = {entity.name: entity.key for entity in plan.entities}
    return [
        Question(
            name=feature.name,
            key_field=keys[feature.entity],
            aggregation=feature.aggregation.value,
            window_s=feature.window_s,
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


def a_request(event: Event) -> Observe:
    transaction = a_transaction(
        transaction_id=TransactionId(event.transaction_id),
        card_id=event.keys["card_id"],
        merchant_id=event.keys["merchant_id"],
        base_amount_minor=event.amount_minor,
        kind=Kind.PURCHASE if event.purchase else Kind.REFUND,
    )
    return Observe(transaction, event.time_s)


class Pair:
    """A store and an oracle that are told the same and must answer the same."""

    def __init__(self, store: RedisFeatureStore, plan: Plan, horizon_s: int) -> None:
        self.store, self.plan, self.horizon_s = store, plan, horizon_s
        self.oracle = Oracle(questions_of(plan), horizon_s=horizon_s, exponent=plan.exponent)

    def observe(self, events: Sequence[Event]) -> None:
        """Send *events* as one chunk and compare every value and every status."""
        for event, observation in zip(
            events, self.store.observe([a_request(event) for event in events]), strict=True
        ):
            found = dict(zip(self.plan.names, observation.values, strict=True))
            found.pop("amount", None)
            values, applied = self.oracle.observe(event)
            assert found == values, (event, self.different(found, values))
            statuses = tuple(applied[entity.key] for entity in self.plan.entities)
            assert observation.applied == statuses, event

    def read(self, times_s: Iterable[int], *, card: str = "c") -> None:
        """Compare what a card reads at each time, changing nothing."""
        for time_s in times_s:
            found = dict(self.store.read("card", card, time_s))
            values = self.oracle.read("card_id", card, time_s)
            assert found == values, (time_s, self.different(found, values))

    @staticmethod
    def different(found: dict[str, float], expected: dict[str, float]) -> list[object]:
        return [
            (name, found[name], value) for name, value in expected.items() if found[name] != value
        ]
