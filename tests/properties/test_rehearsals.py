"""A rehearsal on a real Redis: the very vector that would follow, and not a byte changed."""

from collections.abc import Iterator
from random import Random

import pytest
import redis

from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.specification import parse_plan
from consumer.local.redis_server import RedisServer
from consumer.model import Kind, LabelEffect, TransactionId
from consumer.ports import Observe
from tests.builders import NOON, a_transaction

HORIZON_S = 3_600
NOON_S = int(NOON.timestamp())
PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}, merchant: {key: merchant_id}}
features:
  - {name: amount, field: amount}
  - {name: "count_{window}", entity: card, aggregation: count, windows: [10m, 1h]}
  - {name: std_1h, entity: card, aggregation: std, windows: [1h]}
  - {name: max_1h, entity: card, aggregation: max, windows: [1h]}
  - {name: min_10m, entity: card, aggregation: min, windows: [10m]}
  - {name: shops_1h, entity: card, aggregation: distinct(merchant_id), windows: [1h]}
  - {name: speed, entity: card, aggregation: speed}
  - {name: gap, entity: card, aggregation: time_since_last}
  - {name: age, entity: card, aggregation: first_seen}
  - {name: frauds, entity: merchant, aggregation: fraud_rate, windows: [1h], delay: 10m}
""",
    source="rehearsed",
)


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with RedisServer(modules=False) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=10)
        yield client
        client.close()


def dump(client: redis.Redis) -> dict[bytes, bytes]:
    """All entity state as the server keeps it."""
    keys = sorted(command(client, "KEYS", "f:*"))
    return {key: command(client, "DUMP", key) for key in keys}


def drawn(random: Random, number: int) -> Observe:
    late_s = random.choice((0, 0, 0, 30, 700, HORIZON_S + 50))
    known = random.random() < 0.1 and number > 1
    transaction = a_transaction(
        number,
        transaction_id=TransactionId(f"tx_{random.randrange(1, number) if known else number}"),
        card_id=f"card_{random.randrange(2)}",
        merchant_id=f"merchant_{random.randrange(3)}",
        base_amount_minor=random.randrange(1, 100_000),
        kind=random.choice((Kind.PURCHASE, Kind.PURCHASE, Kind.REFUND)),
        latitude=random.uniform(-90, 90) if random.random() < 0.8 else None,
        longitude=10.0,
    )
    return Observe(transaction, NOON_S + 20 * number - late_s)


def a_fraud(request: Observe) -> LabelEffect:
    transaction = request.transaction
    return LabelEffect(
        transaction_id=transaction.transaction_id,
        label_id=f"label_{transaction.transaction_id}",
        fraud=True,
        label_time_ms=request.time_s * 1000,
        event_time_s=request.time_s,
        keys={"card_id": transaction.card_id, "merchant_id": transaction.merchant_id},
    )


@pytest.mark.parametrize("hot_after", [10_000, 5], ids=["cold", "hot"])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_rehearsed_is_what_follows(client: redis.Redis, seed: int, hot_after: int) -> None:
    client.flushall()
    client.function_flush()
    store = RedisFeatureStore(client, PLAN, id_horizon_s=HORIZON_S, hot_after=hot_after)
    random = Random(seed)
    for number in range(1, 150):
        request = drawn(random, number)
        before = dump(client)
        (rehearsed,) = store.rehearse([request])
        assert dump(client) == before
        (observed,) = store.observe([request])
        assert rehearsed == observed
        if random.random() < 0.2:
            store.label([a_fraud(request)])
