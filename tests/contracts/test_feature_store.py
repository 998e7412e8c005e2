"""The feature store's promises, on the fake, on a real Redis without modules, and on a cluster."""

from collections.abc import Iterator
from typing import Protocol

import pytest
import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.errors import Unavailable
from consumer.features.specification import parse_plan
from consumer.local.redis_server import RedisServer
from consumer.model import Applied, TransactionId
from consumer.ports import EagerFeatureStore, FeatureRehearsal, Observe
from tests.builders import NOON, a_transaction
from tests.fakes.entities import FakeEntities
from tests.fakes.features import FakeFeatures
from tests.redis_cluster import RedisCluster
from tests.replaying import eventually

PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: amount, field: amount}
  - {name: card_count, entity: card, aggregation: count, windows: [30d]}
""",
    source="contract",
)


class Sides(EagerFeatureStore, FeatureRehearsal, Protocol):
    """The sides of a store that are tried here."""


class Store(Protocol):
    """A store that can be made unavailable."""

    port: Sides

    def fail(self) -> None: ...


class InMemory:
    def __init__(self, fake: FakeFeatures | FakeEntities) -> None:
        self.fake = fake
        self.port: Sides = self.fake

    def fail(self) -> None:
        self.fake.fail(1)


class InRedis:
    def __init__(self, server: RedisServer, client: redis.Redis) -> None:
        client.flushall()
        self.server = server
        self.port: Sides = RedisFeatureStore(client, PLAN, id_horizon_s=90_000)

    def fail(self) -> None:
        self.server.stop()


class InCluster:
    def __init__(self, cluster: RedisCluster, client: redis.Redis) -> None:
        cluster.clear()
        self.cluster = cluster
        self.port: Sides = RedisFeatureStore(client, PLAN, id_horizon_s=90_000)

    def fail(self) -> None:
        for server in self.cluster.servers:
            server.stop()


@pytest.fixture(params=["fake", "entities", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param in ("fake", "entities"):
        yield InMemory(FakeFeatures() if request.param == "fake" else FakeEntities())
        return
    if request.param == "cluster":
        with RedisCluster(modules=False) as cluster:
            client = connect(cluster.url, connect_timeout_s=2, timeout_s=2)
            yield InCluster(cluster, client)
            client.close()
        return
    with RedisServer(modules=False) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=2)
        yield InRedis(server, client)
        client.close()


def a_request(number: int, *, card: str = "card_1", at_s: int | None = None) -> Observe:
    time_s = int(NOON.timestamp()) + (number if at_s is None else at_s)
    transaction = a_transaction(number, transaction_id=TransactionId(f"tx_{number}"), card_id=card)
    return Observe(transaction, time_s)


def test_requests_are_answered_in_order_each_with_its_own_event(store: Store) -> None:
    found = store.port.observe([a_request(1), a_request(2), a_request(3, card="card_2")])
    assert [observation.values for observation in found] == [(12.5, 1), (12.5, 2), (12.5, 1)]
    assert all(observation.applied == (Applied.APPLIED,) for observation in found)


def test_an_id_counts_once_within_a_call_and_over_calls(store: Store) -> None:
    store.port.observe([a_request(1), a_request(1)])
    again = store.port.observe([a_request(1)])[0]
    assert again.applied == (Applied.REPEATED,)
    assert again.values == (12.5, 1)


def test_nothing_asked_is_nothing_answered(store: Store) -> None:
    assert store.port.observe([]) == []


def test_what_is_started_is_told_when_it_is_asked_for(store: Store) -> None:
    first = store.port.start([a_request(1), a_request(2)])
    assert [each.values for each in first.result()] == [(12.5, 1), (12.5, 2)]
    again = store.port.start([a_request(2), a_request(3)])
    assert [each.applied for each in again.result()] == [(Applied.REPEATED,), (Applied.APPLIED,)]


def test_what_is_started_is_unavailable_here_or_there(store: Store) -> None:
    store.fail()
    with pytest.raises(Unavailable):
        store.port.start([a_request(1)]).result()


def test_the_servers_work_on_what_is_started_before_anybody_asks() -> None:
    with RedisCluster(modules=False) as cluster:
        client = connect(cluster.url, connect_timeout_s=2, timeout_s=2)
        requests = [a_request(number, card=f"card_{number}") for number in range(1, 31)]
        store = RedisFeatureStore(client, PLAN, id_horizon_s=90_000)
        started = store.start(requests)
        eventually(lambda: _count_entities(cluster) == len(requests), "every entity has state")
        assert [each.values for each in started.result()] == [(12.5, 1)] * len(requests)
        client.close()


def _count_entities(cluster: RedisCluster) -> int:
    return sum(len(client.keys("f:*")) for client in cluster.clients)


def test_a_store_that_does_not_answer_is_unavailable(store: Store) -> None:
    store.port.observe([a_request(1)])
    store.fail()
    with pytest.raises(Unavailable, match="redis"):
        store.port.observe([a_request(2)])


def test_a_rehearsal_tells_what_would_be_and_changes_nothing(store: Store) -> None:
    store.port.observe([a_request(1)])
    rehearsed = store.port.rehearse([a_request(2), a_request(3), a_request(1)])
    assert [observation.values for observation in rehearsed] == [(12.5, 2), (12.5, 2), (12.5, 1)]
    assert [observation.applied for observation in rehearsed] == [
        (Applied.APPLIED,),
        (Applied.APPLIED,),
        (Applied.REPEATED,),
    ]
    assert store.port.observe([a_request(3)])[0].values == (12.5, 2)
