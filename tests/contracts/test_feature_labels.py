"""What entity state promises about labels, on the fake, on a real Redis, and on a cluster."""

from collections.abc import Iterator
from typing import Protocol

import pytest
import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.errors import Unavailable
from consumer.features.specification import parse_plan
from consumer.local.redis_server import RedisServer
from consumer.model import LabelEffect, TransactionId
from consumer.ports import FeatureLabels, Observe
from tests.builders import NOON, a_transaction
from tests.fakes.labels import FakeFeatureLabels
from tests.redis_cluster import RedisCluster

NOON_S = int(NOON.timestamp())
DAY_S = 86_400
PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: frauds, entity: card, aggregation: fraud_count, windows: [30d]}
""",
    source="contract",
)


class Labelled(Protocol):
    """Entity state that learns labels and shows what it learnt."""

    @property
    def port(self) -> FeatureLabels: ...

    def apply(self, request: Observe) -> float:
        """Apply a transaction and return the frauds of its card so far."""
        ...

    def fail(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.fake = FakeFeatureLabels()
        self.port: FeatureLabels = self.fake

    def apply(self, request: Observe) -> float:
        return self.fake.observe([request])[0].values[0]

    def fail(self) -> None:
        self.fake.failures = 1


class InRedis:
    def __init__(self, servers: list[RedisServer], client: redis.Redis) -> None:
        self.servers = servers
        self.store = RedisFeatureStore(client, PLAN, id_horizon_s=90_000)
        self.port: FeatureLabels = self.store

    def apply(self, request: Observe) -> float:
        return self.store.observe([request])[0].values[0]

    def fail(self) -> None:
        for server in self.servers:
            server.stop()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(modules=False) as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster(modules=False) as running:
        yield running


@pytest.fixture(params=["fake", "redis", "cluster"])
def state(request: pytest.FixtureRequest) -> Iterator[Labelled]:
    if request.param == "fake":
        yield InMemory()
        return
    running: RedisServer | RedisCluster = request.getfixturevalue(
        "server" if request.param == "redis" else "cluster"
    )
    client = connect(running.url, connect_timeout_s=2, timeout_s=2)
    if isinstance(running, RedisCluster):
        running.clear()
        yield InRedis(list(running.servers), client)
    else:
        client.flushall()
        yield InRedis([running], client)
    client.close()


def visit(number: int, *, card: str = "card_1", at_s: int = 0) -> Observe:
    transaction = a_transaction(number, transaction_id=TransactionId(f"tx_{number}"), card_id=card)
    return Observe(transaction, NOON_S + at_s)


def an_effect(
    number: int,
    *,
    fraud: bool = True,
    told_s: int = DAY_S,
    name: str = "a",
    keys: dict[str, str] | None = None,
) -> LabelEffect:
    known = {"card_id": "card_1"} if keys is None else keys
    told_ms = (NOON_S + told_s) * 1000
    return LabelEffect(TransactionId(f"tx_{number}"), name, fraud, told_ms, NOON_S, known)


def frauds(state: Labelled, *, card: str = "card_1", at_s: int = 2 * DAY_S) -> float:
    """The card's frauds as its next transaction sees them, past the grid of half a day."""
    return state.apply(visit(1_000 + at_s, card=card, at_s=at_s))


def test_a_label_counts_from_its_transaction_on(state: Labelled) -> None:
    state.apply(visit(1))
    state.port.label([an_effect(1)])
    assert frauds(state) == 1


def test_nothing_told_changes_nothing(state: Labelled) -> None:
    state.apply(visit(1))
    state.port.label([])
    assert frauds(state) == 0


def test_a_label_before_its_transaction_leaves_no_trace_and_counts_when_told_again(
    state: Labelled,
) -> None:
    state.port.label([an_effect(1)])
    state.apply(visit(1))
    assert frauds(state) == 0
    state.port.label([an_effect(1)])
    assert frauds(state, at_s=4 * DAY_S) == 1


def test_a_label_that_comes_twice_counts_once(state: Labelled) -> None:
    state.apply(visit(1))
    state.port.label([an_effect(1), an_effect(1)])
    state.port.label([an_effect(1)])
    assert frauds(state) == 1


def test_labels_of_several_transactions_add_up(state: Labelled) -> None:
    state.apply(visit(1))
    state.apply(visit(2))
    state.apply(visit(3))
    state.port.label([an_effect(1), an_effect(2), an_effect(3, fraud=False)])
    assert frauds(state) == 2


@pytest.mark.parametrize("first", [True, False])
def test_a_correction_takes_the_place_of_what_was_known(first: bool, state: Labelled) -> None:  # noqa: FBT001 - a parameter
    state.apply(visit(1))
    state.port.label([an_effect(1, fraud=first)])
    state.port.label([an_effect(1, fraud=not first, told_s=2 * DAY_S, name="b")])
    assert frauds(state, at_s=3 * DAY_S) == (not first)


def test_a_label_older_than_the_known_one_changes_nothing(state: Labelled) -> None:
    state.apply(visit(1))
    state.port.label([an_effect(1, told_s=2 * DAY_S)])
    state.port.label([an_effect(1, fraud=False, told_s=DAY_S, name="b")])
    assert frauds(state, at_s=3 * DAY_S) == 1


def test_the_newest_of_one_call_stands_whatever_their_order(state: Labelled) -> None:
    state.apply(visit(1))
    newer = an_effect(1, fraud=False, told_s=2 * DAY_S, name="b")
    state.port.label([newer, an_effect(1)])
    assert frauds(state, at_s=3 * DAY_S) == 0


def test_a_label_of_an_entity_that_nobody_saw_or_named_is_passed_over(state: Labelled) -> None:
    state.apply(visit(1))
    state.port.label([an_effect(9, keys={"card_id": "card_9"}), an_effect(1, keys={})])
    state.port.label([an_effect(1, keys={"merchant_id": "merchant_1"})])
    assert frauds(state) == 0
    assert frauds(state, card="card_9") == 0


def test_state_that_does_not_answer_is_unavailable() -> None:
    memory = InMemory()
    memory.fail()
    with pytest.raises(Unavailable, match="redis"):
        memory.port.label([an_effect(1)])
    with RedisServer(modules=False) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=2)
        stored = InRedis([server], client)
        stored.apply(visit(1))
        stored.fail()
        with pytest.raises(Unavailable, match="redis"):
            stored.port.label([an_effect(1)])
        client.close()
