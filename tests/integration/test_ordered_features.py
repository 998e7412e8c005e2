"""Transactions and labels in one order, and a store that writes without reading."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.specification import load_plan, parse_plan
from consumer.local.redis_server import RedisServer
from consumer.model import Applied, Kind, LabelEffect, TransactionId
from consumer.ports import Observe, Step
from consumer.settings import SHIPPED
from tests.builders import NOON, a_transaction

NOON_S = int(NOON.timestamp())
DAY_S = 86_400
PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}, device: {key: device_id}}
features:
  - {name: card_count, entity: card, aggregation: count, windows: [30d]}
  - {name: frauds, entity: card, aggregation: fraud_count, windows: [30d]}
  - {name: device_count, entity: device, aggregation: count, windows: [1d]}
""",
    source="test",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    folder: Path = tmp_path_factory.mktemp("redis")
    with RedisServer(modules=False, directory=folder) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    client = connect(server.url, connect_timeout_s=2, timeout_s=10)
    client.flushall()
    yield client
    client.close()


def label_of(number: int, time_s: int) -> LabelEffect:
    return LabelEffect(
        transaction_id=TransactionId(f"tx_{number}"),
        label_id=f"{number:08x}",
        fraud=True,
        label_time_ms=(time_s + DAY_S) * 1000,
        event_time_s=time_s,
        keys={"card_id": "card_1"},
    )


def test_a_label_counts_for_the_transactions_after_it_alone(client: redis.Redis) -> None:
    store = RedisFeatureStore(client, PLAN, id_horizon_s=90_000)
    steps: list[Step] = [
        Observe(a_transaction(1, device_id="phone"), NOON_S),
        Observe(a_transaction(2), NOON_S + 10),
        label_of(1, NOON_S),
        Observe(a_transaction(3, device_id="phone"), NOON_S + 20),
    ]
    found = store.work(steps)
    assert [each.values for each in found] == [(1, 0, 1), (2, 0, 0), (3, 1, 2)]
    assert found[1].applied == (Applied.APPLIED, Applied.READ)
    assert store.work([]) == []


def test_a_store_that_does_not_answer_leaves_the_state_of_one_that_does(
    client: redis.Redis,
) -> None:
    plan = load_plan(SHIPPED / "features.yaml", "EUR")
    chance = random.Random(5)
    steps: list[Step] = []
    time_s = NOON_S
    for number in range(600):
        time_s += chance.randrange(4_000)
        transaction = a_transaction(
            number,
            card_id=f"card_{chance.randrange(4)}",
            merchant_id=f"merchant_{chance.randrange(2)}",
            terminal_id=f"terminal_{chance.randrange(3)}",
            device_id=f"phone_{chance.randrange(9)}" if chance.random() < 0.7 else None,
            latitude=chance.uniform(-60, 60),
            longitude=chance.uniform(-60, 60),
            base_amount_minor=chance.randrange(100_000),
            kind=chance.choice([Kind.PURCHASE, Kind.PURCHASE, Kind.REFUND]),
        )
        steps.append(Observe(transaction, time_s))
        if chance.random() < 0.1:
            steps.append(label_of(number, time_s))

    def left_by(*, answers: bool) -> tuple[list[tuple[Applied, ...]], dict[bytes, bytes]]:
        client.flushall()
        store = RedisFeatureStore(client, plan, id_horizon_s=90_000, answers=answers)
        store.prepare()
        applied = [each.applied for each in store.work(steps)]
        return applied, {key: client.dump(key) or b"" for key in client.scan_iter("f:*")}

    answered, silent = left_by(answers=True), left_by(answers=False)
    assert silent == answered
    assert len(answered[1]) > 10
