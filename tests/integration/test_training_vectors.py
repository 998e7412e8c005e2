"""Training sees the very vectors that live traffic is decided on."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.local.redis_server import RedisServer
from consumer.model import Transaction
from consumer.ports import Observe
from consumer.settings import Settings
from consumer.training.dataset import collect
from tests.builders import a_transaction


@pytest.fixture
def client(tmp_path: Path) -> Iterator[redis.Redis]:
    with RedisServer(directory=tmp_path, modules=False) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=5)
        yield client
        client.close()


@pytest.fixture
def plan() -> Plan:
    settings = Settings()
    return load_plan(settings.features.path, settings.events.base_currency)


def history(count: int) -> list[Transaction]:
    """A few cards and merchants over ten days, with seeded amounts."""
    random = np.random.default_rng(11)
    start = a_transaction(0).event_time
    times = np.sort(random.integers(0, 10 * 86_400, count))
    return [
        a_transaction(
            number,
            event_time=start + timedelta(seconds=int(time)),
            card_id=f"card_{random.integers(12)}",
            merchant_id=f"merchant_{random.integers(5)}",
            base_amount_minor=int(random.integers(1, 100_000)),
        )
        for number, time in enumerate(times)
    ]


def test_training_and_live_traffic_have_equal_vectors(client: redis.Redis, plan: Plan) -> None:
    transactions = history(1_200)
    live = RedisFeatureStore(client, plan, id_horizon_s=90_000)
    live.prepare()
    requests = [Observe(each, int(each.event_time.timestamp())) for each in transactions]
    decided_on = [live.observe([request])[0].values for request in requests]

    client.flushall()
    training = RedisFeatureStore(client, plan, id_horizon_s=90_000)
    training.prepare()
    vectors = collect(transactions, training, plan.names, plan.hash, lambda _: None)

    assert vectors.names == plan.names
    assert np.array_equal(vectors.rows, np.array(decided_on, np.float32))
    assert len(np.unique(vectors.rows, axis=0)) > 1_000
