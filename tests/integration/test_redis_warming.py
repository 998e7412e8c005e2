"""Workers on one real Redis know from when on features are full, and notice when all is lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.adapters.redis.warmth import RedisWarmth
from consumer.features.plan import Plan
from consumer.features.specification import parse_plan
from consumer.features.warming import STEP_S, WarmingFeatures
from consumer.features.warmth import decode_record
from consumer.local.redis_server import RedisServer
from consumer.model import TransactionId
from consumer.ports import Observe
from tests.builders import a_transaction

START, HOUR, HORIZON = 1_780_000_200, 3_600, 90_000
TEXT = """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: "n_{window}", entity: card, aggregation: count, windows: [1h]}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(modules=False) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with connect(server.url, connect_timeout_s=2, timeout_s=5) as client:
        client.flushall()
        yield client


@pytest.fixture
def plan() -> Plan:
    return parse_plan(TEXT, source="warming")


def a_worker(server: RedisServer, plan: Plan, stack: ExitStack) -> WarmingFeatures:
    """A worker with connections of its own."""
    own = stack.enter_context(connect(server.url, connect_timeout_s=2, timeout_s=5))
    store = RedisFeatureStore(own, plan, id_horizon_s=HORIZON)
    store.prepare()
    warmth = stack.enter_context(closing(RedisWarmth(own)))
    worker = WarmingFeatures(store, warmth, plan, horizon_s=HORIZON)
    worker.look()
    return worker


def warming(worker: WarmingFeatures, *times_s: int) -> list[set[str]]:
    requests = [
        Observe(a_transaction(1, transaction_id=TransactionId(f"tx_{time_s}")), time_s)
        for time_s in times_s
    ]
    return [set(each.warming) for each in worker.observe(requests)]


def test_of_many_workers_that_begin_at_once_the_earliest_event_counts(
    server: RedisServer, client: redis.Redis, plan: Plan
) -> None:
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:
        workers = [a_worker(server, plan, stack) for _ in range(8)]
        times_s = [START + 7 * (place + 3) % 56 for place in range(8)]
        list(pool.map(warming, workers, times_s))
        data = RedisWarmth(client).read()
        assert data is not None
        assert decode_record(data).began_s == min(times_s)
        full_s = min(times_s) + HOUR + 60
        later = a_worker(server, plan, stack)
        assert warming(later, full_s - 1, full_s) == [{"n_1h"}, set()]


def test_everything_lost_warms_again(server: RedisServer, client: redis.Redis, plan: Plan) -> None:
    with ExitStack() as stack:
        worker = a_worker(server, plan, stack)
        warming(worker, START)
        assert warming(worker, START + 2 * HOUR) == [set()]
        client.flushall()
        lost_s = START + 2 * HOUR + STEP_S + 1
        assert warming(worker, lost_s, lost_s + 1) == [{"n_1h"}] * 2
        assert warming(worker, lost_s + HOUR + 60) == [set()]


def test_history_before_live_traffic_makes_everything_full(
    server: RedisServer, client: redis.Redis, plan: Plan
) -> None:
    assert client.dbsize() == 0
    with ExitStack() as stack:
        history = a_worker(server, plan, stack)
        for hour in range(5):
            warming(history, START + hour * HOUR)
        assert warming(a_worker(server, plan, stack), START + 5 * HOUR) == [set()]
