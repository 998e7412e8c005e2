"""A change of features while workers run: who writes which state, and who must leave."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

import pytest
import redis

from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.errors import Misconfigured
from consumer.features.plan import Plan
from consumer.features.specification import parse_plan
from consumer.local.redis_server import RedisServer
from consumer.model import Applied, LabelEffect, TransactionId
from consumer.ports import Observe
from tests.builders import NOON, a_transaction
from tests.fakes.clock import FakeClock
from tests.redis_cluster import RedisCluster

HORIZON = 90_000
NOON_S = int(NOON.timestamp())
REGISTRY = "fraudstream:layouts"
ENTITIES = "version: 1\nentities: {card: {key: card_id}, merchant: {key: merchant_id}"
FORMER = f"""
{ENTITIES}, device: {{key: device_id}}}}
features:
  - {{name: count_1h, entity: card, aggregation: count, windows: [1h]}}
  - {{name: shops, entity: card, aggregation: distinct(merchant_id), windows: [1h]}}
  - {{name: sum_1d, entity: merchant, aggregation: sum, windows: [1d]}}
  - {{name: frauds, entity: merchant, aggregation: fraud_count, windows: [1d]}}
  - {{name: devices, entity: device, aggregation: count, windows: [1h]}}
"""
# Another window, a maximum and places come; the values of shops, labels and devices go.
NEW = f"""
{ENTITIES}, customer: {{key: customer_id}}}}
features:
  - {{name: count_1h, entity: card, aggregation: count, windows: [1h]}}
  - {{name: count_1m, entity: card, aggregation: count, windows: [1m]}}
  - {{name: max_1h, entity: card, aggregation: max, windows: [1h]}}
  - {{name: km, entity: card, aggregation: distance}}
  - {{name: sum_1d, entity: merchant, aggregation: sum, windows: [1d]}}
  - {{name: customers, entity: customer, aggregation: count, windows: [1h]}}
"""
PLANS = {name: parse_plan(text, source=name) for name, text in {"A": FORMER, "B": NEW}.items()}


@dataclass
class Workers:
    """Stores on one Redis, each with a clock of its own."""

    client: redis.Redis
    stack: ExitStack
    clocks: dict[RedisFeatureStore, FakeClock] = field(default_factory=dict)

    def start(
        self, plan: Plan, horizon_s: int = HORIZON, hot_after: int = 128
    ) -> RedisFeatureStore:
        clock = FakeClock()
        store = RedisFeatureStore(
            self.client, plan, id_horizon_s=horizon_s, hot_after=hot_after, clock=clock
        )
        self.clocks[store] = clock
        self.stack.enter_context(closing(store))
        store.prepare()
        store.verify()
        return store

    def wait(self, seconds: float) -> None:
        for clock in self.clocks.values():
            clock.sleep(seconds)

    def registry(self) -> dict[str, str]:
        fields = command(self.client, "HGETALL", REGISTRY)
        return {name.decode(): value.decode() for name, value in fields.items()}

    def forget_who_is_alive(self) -> None:
        """As silence of some minutes does."""
        for name in self.registry():
            if name.startswith("worker:"):
                self.client.hdel(REGISTRY, name)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(modules=False) as server:
        yield server


@pytest.fixture
def workers(server: RedisServer) -> Iterator[Workers]:
    client = connect(server.url, connect_timeout_s=2, timeout_s=2)
    client.flushall()
    client.function_flush()
    with client, ExitStack() as stack:
        yield Workers(client, stack)


def request(number: int, *, card: str = "c", at_s: int | None = None) -> Observe:
    """Purchase *number* of 12.50 in its own minute, each at a shop of its own but one till."""
    transaction = a_transaction(
        transaction_id=TransactionId(f"tx_{number}"),
        card_id=card,
        merchant_id="shop",
        device_id="phone",
        customer_id="someone",
        latitude=48.0,
        longitude=11.0,
    )
    return Observe(transaction, NOON_S + (60 * number if at_s is None else at_s))


def observe(store: RedisFeatureStore, number: int, *, card: str = "c") -> dict[str, float]:
    (found,) = store.observe([request(number, card=card)])
    assert found.applied == (Applied.APPLIED,) * 3
    names = PLANS["A"].names if len(found.values) == len(PLANS["A"].names) else PLANS["B"].names
    return dict(zip(names, found.values, strict=True))


def layout_of(client: redis.Redis, key: str = "f:{card:c}") -> int:
    state = client.get(key)
    assert isinstance(state, bytes)
    return int.from_bytes(state[2:4], "little")


def flags_and_head(client: redis.Redis) -> tuple[int, int]:
    """The flags of the card's state, and what stands behind the lengths of plan B's sections."""
    state = client.get("f:{card:c}")
    assert isinstance(state, bytes)
    behind = 21 + 9 + 2
    return state[1], int.from_bytes(state[behind : behind + 4], "little")


def is_upgrading(store: RedisFeatureStore) -> bool:
    """As a call, since the property changes while a test looks at it."""
    return store.upgrading


def a_fraud(number: int) -> LabelEffect:
    return LabelEffect(
        TransactionId(f"tx_{number}"),
        "label",
        fraud=True,
        label_time_ms=(NOON_S + 10**6) * 1000,
        event_time_s=NOON_S + 60 * number,
        keys={"merchant_id": "shop", "card_id": "c", "device_id": "phone"},
    )


def test_two_plans_write_one_state_until_the_former_ends(workers: Workers) -> None:
    former = workers.start(PLANS["A"])
    observe(former, 1)
    layout = layout_of(workers.client)
    new = workers.start(PLANS["B"])
    for number in range(2, 8):
        store = (former, new)[number % 2]
        found = observe(store, number)
        assert (found["count_1h"], found["sum_1d"]) == (number, 12.5 * number)
        if store is former:
            assert (found["shops"], found["devices"]) == (1, number)
    new.label([a_fraud(3)])
    assert former.read("merchant", "shop", NOON_S + 3_000)["frauds"] == 1
    assert is_upgrading(new)
    assert not is_upgrading(former)
    assert observe(new, 20, card="unseen")["max_1h"] == 0
    assert layout_of(workers.client, "f:{card:unseen}") == layout_of(workers.client) == layout
    former.close()
    workers.wait(11)
    assert observe(new, 21)["count_1h"] == 8
    assert not is_upgrading(new)
    found = observe(new, 22)
    assert (found["count_1h"], found["count_1m"], found["max_1h"]) == (9, 1, 12.5)
    assert layout_of(workers.client) != layout
    assert new.observe([request(3)])[0].applied == (Applied.REPEATED,) * 3


def test_an_upgrade_ends_when_every_worker_knows(workers: Workers) -> None:
    former = workers.start(PLANS["A"])
    observe(former, 1)
    one, other = workers.start(PLANS["B"]), workers.start(PLANS["B"])
    observe(one, 2)
    observe(other, 3)
    former.close()
    workers.wait(11)
    assert observe(one, 4)["count_1h"] == 4
    layout = layout_of(workers.client)
    assert is_upgrading(one)
    observe(one, 5)
    assert layout_of(workers.client) != layout
    observe(other, 6, card="unseen")
    assert layout_of(workers.client, "f:{card:unseen}") == layout
    assert not is_upgrading(other)
    assert observe(other, 7)["max_1h"] == 12.5
    workers.wait(11)
    observe(one, 8)
    assert not is_upgrading(one)
    assert observe(one, 9, card="unseen")["count_1h"] == 2
    assert layout_of(workers.client, "f:{card:unseen}") == layout_of(workers.client)


def test_an_entity_that_only_the_new_plan_has_is_counted_by_both(workers: Workers) -> None:
    former = workers.start(PLANS["A"])
    observe(former, 1)
    new = workers.start(PLANS["B"])
    assert observe(new, 2)["customers"] == 1
    workers.wait(11)
    observe(former, 3)
    observe(former, 4)
    assert observe(new, 5)["customers"] == 3


def test_a_worker_that_was_silent_finds_out_before_it_writes(workers: Workers) -> None:
    former = workers.start(PLANS["A"])
    observe(former, 1)
    workers.forget_who_is_alive()
    new = workers.start(PLANS["B"])
    assert observe(new, 2)["max_1h"] == 12.5
    workers.clocks[former].sleep(200)
    assert observe(former, 3)["count_1h"] == 3
    assert is_upgrading(former)
    assert observe(new, 4)["max_1h"] == 12.5
    assert not is_upgrading(new)


def test_a_worker_taken_for_dead_leaves_at_the_first_new_state(workers: Workers) -> None:
    former = workers.start(PLANS["A"])
    observe(former, 1)
    workers.forget_who_is_alive()
    new = workers.start(PLANS["B"])
    observe(new, 2)
    before = workers.client.get("f:{card:c}")
    with pytest.raises(Misconfigured, match="restart this process"):
        observe(former, 3)
    assert workers.client.get("f:{card:c}") == before


def test_a_layout_that_comes_back_is_not_taken_for_the_old_one(workers: Workers) -> None:
    """B, A, B: who ran A all the time knew the state of the first B, not that of the second."""
    first = workers.start(PLANS["B"])
    observe(first, 1)
    first.close()
    former = workers.start(PLANS["A"])
    assert observe(former, 2)["count_1h"] == 2
    workers.forget_who_is_alive()
    again = workers.start(PLANS["B"])
    assert observe(again, 3)["count_1h"] == 3
    with pytest.raises(Misconfigured, match="restart this process"):
        observe(former, 4)


def test_who_only_reads_counts_for_nothing_and_reads_both(workers: Workers) -> None:
    former = workers.start(PLANS["A"])
    observe(former, 1)
    reader = workers.start(PLANS["B"])
    before = workers.registry()
    state = workers.client.get("f:{card:c}")
    assert reader.read("card", "c", NOON_S + 61)["count_1h"] == 1
    reader.verify()
    assert workers.registry() == before
    assert workers.client.get("f:{card:c}") == state
    former.close()
    new = workers.start(PLANS["B"])
    observe(new, 2)
    late = workers.start(PLANS["A"])
    assert late.read("card", "c", NOON_S + 121)["count_1h"] == 2
    assert observe(new, 3)["max_1h"] == 12.5
    assert not is_upgrading(new)


def test_a_reader_that_was_there_before_the_upgrade_learns_of_it(workers: Workers) -> None:
    former = workers.start(PLANS["A"])
    observe(former, 1)
    reader = workers.start(PLANS["A"])
    former.close()
    observe(workers.start(PLANS["B"]), 2)
    assert reader.read("card", "c", NOON_S + 121)["count_1h"] == 2


def test_living_workers_with_another_horizon_are_not_written_for(workers: Workers) -> None:
    observe(workers.start(PLANS["A"]), 1)
    workers.client.delete("f:{card:c}", "f:{merchant:shop}", "f:{device:phone}")
    other = workers.start(PLANS["A"], horizon_s=HORIZON + 1)
    with pytest.raises(Misconfigured, match="id horizon of 90000 s"):
        observe(other, 2)
    assert sum(name.startswith("worker:") for name in workers.registry()) == 1


def test_an_entity_keyed_by_another_field_needs_another_name(workers: Workers) -> None:
    observe(workers.start(PLANS["A"]), 1)
    text = FORMER.replace("merchant: {key: merchant_id}", "merchant: {key: terminal_id}")
    other = workers.start(parse_plan(text, source="other"))
    with pytest.raises(Misconfigured, match="merchant keyed by merchant_id"):
        observe(other, 2)


def test_a_description_of_a_newer_version_is_left_alone(workers: Workers) -> None:
    former = workers.start(PLANS["A"])
    observe(former, 1)
    number = workers.registry()["active:card"]
    field = f"layout:card:{number}"
    newer = workers.registry()[field].replace('"version":1', '"version":2')
    workers.client.hset(REGISTRY, field, newer)
    new = RedisFeatureStore(workers.client, PLANS["B"], id_horizon_s=HORIZON)
    with closing(new), pytest.raises(Misconfigured, match="unknown layout"):
        new.observe([request(2)])
    with pytest.raises(Misconfigured, match="restart this process"):
        workers.start(PLANS["B"])


def test_layouts_that_no_state_can_have_any_more_are_dropped(workers: Workers) -> None:
    former = workers.start(PLANS["A"])
    observe(former, 1)
    former.close()
    number = workers.registry()["active:card"]
    observe(workers.start(PLANS["B"]), 2)
    standing = workers.registry()[f"stands:card:{number}"].split()
    assert f"layout:card:{number}" in workers.registry()
    long_ago = int(standing[1]) - int(standing[2]) - 90_000
    workers.client.hset(
        REGISTRY, f"stands:card:{number}", f"{standing[0]} {long_ago} {standing[2]}"
    )
    workers.wait(11)
    observe(next(reversed(workers.clocks)), 3)
    assert not {f"layout:card:{number}", f"stands:card:{number}"} & workers.registry().keys()


def test_the_registry_ends_with_the_last_state(workers: Workers) -> None:
    observe(workers.start(PLANS["A"]), 1)
    longest = max(workers.client.ttl(key) for key in workers.client.scan_iter("f:*"))
    assert longest < workers.client.ttl(REGISTRY) <= longest + 2 * 86_400 + 60


def test_a_hot_state_remembers_its_upgrade_as_long_as_raw_events_matter(workers: Workers) -> None:
    former = workers.start(PLANS["A"], hot_after=2)
    for number in range(5):
        observe(former, number)
    assert flags_and_head(workers.client)[0] == 1
    former.close()
    new = workers.start(PLANS["B"], hot_after=2)
    observe(new, 5)
    flags, upgraded = flags_and_head(workers.client)
    assert (flags, upgraded) == (3, NOON_S + 60 * 4)
    days = HORIZON + 86_400 + 7_200
    new.observe([request(6, at_s=60 * 4 + days)])
    assert flags_and_head(workers.client)[0] == 3
    new.observe([request(7, at_s=60 * 4 + days + 1)])
    assert flags_and_head(workers.client)[0] == 1
    assert new.read("card", "c", NOON_S + 60 * 4 + days + 1)["count_1h"] == 2


def test_labels_of_a_plan_before_the_last_are_forgotten(workers: Workers) -> None:
    """Their frauds went with the column, so that a correction has nothing to take back."""
    first = workers.start(PLANS["A"])
    observe(first, 1)
    first.label([a_fraud(1)])
    first.close()
    between = workers.start(PLANS["B"])
    observe(between, 2)
    between.close()
    last = workers.start(PLANS["A"])
    last.label([replace(a_fraud(1), fraud=False, label_time_ms=(NOON_S + 10**7) * 1000)])
    assert last.read("merchant", "shop", NOON_S + 3_000)["frauds"] == 0
    last.label([a_fraud(2), a_fraud(1)])
    assert last.read("merchant", "shop", NOON_S + 3_000)["frauds"] == 1


def test_a_cluster_is_upgraded_too() -> None:
    with (
        RedisCluster(modules=False) as cluster,
        connect(cluster.url, connect_timeout_s=2, timeout_s=2) as client,
        ExitStack() as stack,
    ):
        workers = Workers(client, stack)
        former = workers.start(PLANS["A"])
        for number in range(20):
            observe(former, number, card=f"card_{number}")
        new = workers.start(PLANS["B"])
        for number in range(20, 30):
            assert observe(new, number, card=f"card_{number - 20}")["count_1h"] == 2
            assert observe(former, number + 10, card=f"card_{number}")["count_1h"] == 1
        assert is_upgrading(new)
        former.close()
        workers.wait(11)
        observe(new, 40, card="card_0")
        assert not is_upgrading(new)
        for number in range(20):
            assert observe(new, 50 + number, card=f"card_{number}")["max_1h"] == 12.5
