"""Entity state on a real Redis: libraries, formats, lifetimes and what a failure leaves."""

import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from consumer.adapters.redis.connection import connect, translated
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.errors import Misconfigured, Unavailable
from consumer.features.specification import parse_plan
from consumer.local.redis_server import RedisServer
from consumer.model import Applied, Kind, LabelEffect, Transaction, TransactionId
from consumer.ports import Observe
from tests.builders import NOON, a_transaction

HORIZON = 90_000
DAY = 86_400
NOON_S = int(NOON.timestamp())
TEXT = """
version: 1
entities: {card: {key: card_id}, device: {key: device_id}}
features:
  - {name: amount, field: amount}
  - {name: "card_count_{window}", entity: card, aggregation: count, windows: [1h, 1d]}
  - {name: card_max_1d, entity: card, aggregation: max, windows: [1d]}
  - {name: card_gap, entity: card, aggregation: time_since_last}
  - {name: device_count_1h, entity: device, aggregation: count, windows: [1h]}
"""
PLAN = parse_plan(TEXT, source="features")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(modules=False) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    client = connect(server.url, connect_timeout_s=2, timeout_s=2)
    client.flushall()
    client.function_flush()
    yield client
    client.close()


@pytest.fixture
def store(client: redis.Redis) -> RedisFeatureStore:
    return RedisFeatureStore(client, PLAN, id_horizon_s=HORIZON)


def at(time_s: int, transaction: Transaction) -> Observe:
    return Observe(transaction, time_s)


def test_a_vector_has_every_feature_and_says_what_each_entity_did(store: RedisFeatureStore) -> None:
    first, second = store.observe(
        [
            at(NOON_S, a_transaction(1, base_amount_minor=900, device_id="phone")),
            at(NOON_S + 30, a_transaction(2, base_amount_minor=250, device_id="phone")),
        ]
    )
    assert list(first.values) == [9.0, 1, 1, 9.0, DAY, 1]
    assert list(second.values) == [2.5, 2, 2, 9.0, 30, 2]
    assert second.applied == (Applied.APPLIED, Applied.APPLIED)


def test_an_entity_that_a_transaction_does_not_name_has_no_events(store: RedisFeatureStore) -> None:
    found = store.observe([at(NOON_S, a_transaction(1))])[0]
    assert found.values[-1] == 0
    assert found.applied == (Applied.APPLIED, Applied.READ)


@pytest.mark.parametrize("kind", [Kind.REFUND, Kind.REVERSAL])
def test_what_is_no_purchase_reads_without_a_trace(
    client: redis.Redis, store: RedisFeatureStore, kind: Kind
) -> None:
    found = store.observe([at(NOON_S, a_transaction(1, kind=kind))])[0]
    assert found.applied == (Applied.READ, Applied.READ)
    assert not client.keys("f:*")


def test_an_event_behind_the_horizon_is_dropped(store: RedisFeatureStore) -> None:
    store.observe([at(NOON_S, a_transaction(1))])
    late = store.observe([at(NOON_S - HORIZON - 1, a_transaction(2))])[0]
    assert late.applied[0] is Applied.LATE
    assert store.read("card", "card_1", NOON_S)["card_count_1d"] == 1


def test_reading_an_entity_changes_nothing(client: redis.Redis, store: RedisFeatureStore) -> None:
    store.observe([at(NOON_S, a_transaction(1, base_amount_minor=900))])
    before = client.get("f:{card:card_1}")
    expected = {"card_count_1h": 1, "card_count_1d": 1, "card_max_1d": 9.0, "card_gap": 60}
    assert store.read("card", "card_1", NOON_S + 60) == expected
    assert client.get("f:{card:card_1}") == before
    assert store.read("card", "nobody", NOON_S)["card_gap"] == DAY


def test_the_head_tells_the_format_and_the_time_span(
    client: redis.Redis, store: RedisFeatureStore
) -> None:
    for number in (5, 9, 2):
        store.observe([at(NOON_S + number, a_transaction(number))])
    state = client.get("f:{card:card_1}")
    assert isinstance(state, bytes)
    schema, flags, _, newest, first = struct.unpack_from("<BBHII", state)
    assert (schema, flags, newest - NOON_S, first - NOON_S) == (1, 0, 9, 2)


def test_an_id_at_the_very_edge_of_the_horizon_leaves_itself_out_of_its_gap(
    store: RedisFeatureStore,
) -> None:
    """Its predecessor is a second older and old enough to be merged, which must wait."""
    edge = NOON_S + 30
    store.observe(
        [
            at(edge - 1, a_transaction(1)),
            at(edge, a_transaction(2)),
            *[at(edge + HORIZON, a_transaction(number)) for number in range(3, 12)],
            *[at(edge + HORIZON - number, a_transaction(number)) for number in range(12, 20)],
        ]
    )
    again = store.observe([at(edge, a_transaction(2))])[0]
    assert again.applied[0] is Applied.REPEATED
    assert again.values[PLAN.names.index("card_gap")] == 1


def test_a_server_that_lost_its_functions_gets_them_again(
    client: redis.Redis, store: RedisFeatureStore
) -> None:
    store.prepare()
    store.observe([at(NOON_S, a_transaction(1))])
    client.function_flush()
    found = store.observe([at(NOON_S + n, a_transaction(n)) for n in (1, 2, 3)])
    assert [observation.values[1] for observation in found] == [1, 2, 3]
    assert found[0].applied[0] is Applied.REPEATED


def test_loading_the_library_again_changes_nothing(
    client: redis.Redis, store: RedisFeatureStore
) -> None:
    store.prepare()
    before = client.function_list()
    store.observe([at(NOON_S, a_transaction(1))])
    store.prepare()
    assert client.function_list() == before


def test_two_plans_live_side_by_side(client: redis.Redis, store: RedisFeatureStore) -> None:
    """Same state, one more answer from it: a rolling change of features."""
    more = TEXT + '  - {name: "card_sum_{window}", entity: card, aggregation: sum, windows: [1h]}\n'
    newer_plan = parse_plan(more, source="features")
    newer = RedisFeatureStore(client, newer_plan, id_horizon_s=HORIZON)
    store.observe([at(NOON_S, a_transaction(1))])
    newer.observe([at(NOON_S + 1, a_transaction(2))])
    found = store.observe([at(NOON_S + 2, a_transaction(3))])[0]
    assert found.values[1] == 3
    assert newer.read("card", "card_1", NOON_S + 2)["card_sum_1h"] == 37.5
    assert not newer.upgrading
    assert len(client.function_list(library="fraudstream_????????")) == 2


def test_state_of_a_newer_schema_is_left_alone(
    client: redis.Redis, store: RedisFeatureStore
) -> None:
    store.observe([at(NOON_S, a_transaction(1))])
    state = client.get("f:{card:card_1}")
    assert isinstance(state, bytes)
    newer = bytes([state[0] + 1]) + state[1:]
    client.set("f:{card:card_1}", newer)
    with pytest.raises(Misconfigured, match="feature state: found schema 2 layout"):
        store.observe([at(NOON_S, a_transaction(2))])
    assert client.get("f:{card:card_1}") == newer


def test_state_of_other_features_is_refused_before_the_first_record(
    client: redis.Redis, store: RedisFeatureStore
) -> None:
    other = RedisFeatureStore(client, parse_plan(TEXT, source="features"), id_horizon_s=HORIZON + 1)
    other.prepare()
    other.verify()
    store.observe([at(NOON_S, a_transaction(1))])
    store.verify()
    with pytest.raises(Misconfigured, match="rebuild the state"):
        other.verify()


def test_state_of_other_windows_that_nobody_described_is_not_guessed_from(
    client: redis.Redis, store: RedisFeatureStore
) -> None:
    store.observe([at(NOON_S, a_transaction(1))])
    client.delete("fraudstream:layouts")
    finer = parse_plan(TEXT.replace("[1h, 1d]", "[1m, 1d]"), source="features")
    other = RedisFeatureStore(client, finer, id_horizon_s=HORIZON)
    with pytest.raises(Misconfigured, match="rebuild the state"):
        other.observe([at(NOON_S, a_transaction(2))])


def test_every_key_has_a_lifetime(client: redis.Redis) -> None:
    store = RedisFeatureStore(client, PLAN, id_horizon_s=HORIZON, hot_after=3)
    for number in range(12):
        time_s = NOON_S + number * 9_000 - (5_000 if number % 3 == 0 else 0)
        store.observe([at(time_s, a_transaction(number, device_id="phone"))])
    keys = list(client.scan_iter("f:*"))
    assert any(b":i:" in key for key in keys)
    assert any(b":p:" in key for key in keys)
    longest = DAY + HORIZON + DAY
    assert all(longest - 60 < client.ttl(key) <= longest for key in keys)


def test_the_keys_of_an_entity_share_a_slot_of_a_cluster(client: redis.Redis) -> None:
    store = RedisFeatureStore(client, PLAN, id_horizon_s=HORIZON, hot_after=1)
    store.observe([at(NOON_S + number, a_transaction(number)) for number in range(5)])
    assert {key[: key.index(b"}") + 1] for key in client.scan_iter("f:*")} == {b"f:{card:card_1}"}


def test_an_amount_no_event_can_have_is_refused_before_anything_is_sent(
    client: redis.Redis, store: RedisFeatureStore
) -> None:
    with pytest.raises(ValueError, match="minor units"):
        store.observe(
            [at(NOON_S, a_transaction(1)), at(NOON_S, a_transaction(2, base_amount_minor=-1))]
        )
    assert not client.keys("f:*")


def test_a_server_that_may_evict_keys_is_refused(store: RedisFeatureStore) -> None:
    with RedisServer(modules=False, options=("--maxmemory-policy", "allkeys-lru")) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=2)
        with pytest.raises(Misconfigured, match="maxmemory-policy allkeys-lru"):
            RedisFeatureStore(client, PLAN, id_horizon_s=HORIZON).prepare()
        client.close()


def test_a_server_without_functions_is_refused() -> None:
    options = ("--rename-command", "FUNCTION", "")
    with RedisServer(modules=False, options=options) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=2)
        with pytest.raises(Misconfigured, match=r"Redis 7\.0 or newer"):
            RedisFeatureStore(client, PLAN, id_horizon_s=HORIZON).prepare()
        client.close()


def test_a_full_server_is_unavailable_and_keeps_what_it_has(
    client: redis.Redis, store: RedisFeatureStore
) -> None:
    store.observe([at(NOON_S, a_transaction(1))])
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable, match="maxmemory"):
            store.observe([at(NOON_S, a_transaction(2))])
    finally:
        client.config_set("maxmemory", "0")
    assert store.read("card", "card_1", NOON_S)["card_count_1h"] == 1


def test_a_lost_reply_is_not_answered_by_sending_the_command_again() -> None:
    """By default redis-py would send it ten more times, and an INCR would count them."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    while data := connection.recv(65_536):
                        received.append(data)
                        if b"INCR" in data:
                            break
                        connection.sendall(b"+OK\r\n" * data.count(b"*"))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        url = f"redis://127.0.0.1:{port}/0?protocol=2"
        client = connect(url, connect_timeout_s=2, timeout_s=2)
        with client, pytest.raises(Unavailable, match="redis"), translated():
            client.incr("count")
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert sum(data.count(b"INCR") for data in received) == 1


def test_no_error_shows_the_password_or_the_arguments_of_a_command(server: RedisServer) -> None:
    url = server.url.replace("redis://", "redis://someone:open-sesame@")
    with connect(url, connect_timeout_s=2, timeout_s=2) as client:
        with pytest.raises(Unavailable) as refused, translated():
            client.ping()
        assert "open-sesame" not in repr(refused.value) + repr(refused.value.__cause__)
    with connect(server.url, connect_timeout_s=2, timeout_s=2) as client:
        with pytest.raises(Unavailable) as wrong, translated():
            client.pipeline(transaction=False).lpush("text", "x").incr("text", 4_111).execute()
        shown = repr(wrong.value) + repr(wrong.value.__cause__)
        assert "WRONGTYPE" in shown
        assert "4111" not in shown
    with pytest.raises(Misconfigured) as unreadable:
        connect("rediss//:open-sesame@host", connect_timeout_s=2, timeout_s=2)
    assert "open-sesame" not in str(unreadable.value)


LABELLED = """
version: 1
entities: {card: {key: card_id}, terminal: {key: terminal_id}}
features:
  - {name: card_count_1h, entity: card, aggregation: count, windows: [1h]}
  - {name: count_1d, entity: terminal, aggregation: count, delay: 1d, windows: [1d]}
  - {name: frauds_1d, entity: terminal, aggregation: fraud_count, delay: 1d, windows: [1d]}
  - {name: rate_1d, entity: terminal, aggregation: fraud_rate, delay: 1d, windows: [1d]}
"""


def an_effect(
    number: int, *, name: str = "a", fraud: bool = True, told_s: int = DAY
) -> LabelEffect:
    keys = {"terminal_id": "till", "card_id": "card_1"}
    event_s, told_ms = NOON_S + number, (NOON_S + told_s) * 1000
    return LabelEffect(TransactionId(f"tx_{number}"), name, fraud, told_ms, event_s, keys)


@pytest.fixture
def labelled(client: redis.Redis) -> RedisFeatureStore:
    plan = parse_plan(LABELLED, source="labelled")
    store = RedisFeatureStore(client, plan, id_horizon_s=HORIZON)
    store.observe([at(NOON_S + n, a_transaction(n, terminal_id="till")) for n in range(4)])
    return store


def frauds(store: RedisFeatureStore) -> tuple[float, float]:
    values = store.read("terminal", "till", NOON_S + 2 * DAY - 60)
    return values["frauds_1d"], values["rate_1d"]


def test_a_label_counts_once_and_a_correction_takes_it_back(labelled: RedisFeatureStore) -> None:
    labelled.label([an_effect(1), an_effect(2), an_effect(1)])
    assert frauds(labelled) == (2, 0.5)
    labelled.label([an_effect(1, fraud=False, told_s=DAY + 1), an_effect(1)])
    assert frauds(labelled) == (1, 0.25)


def test_of_labels_of_one_moment_the_greater_id_stands(labelled: RedisFeatureStore) -> None:
    labelled.label([an_effect(1, name="b", fraud=False), an_effect(1, name="a")])
    assert frauds(labelled) == (0, 0)
    labelled.label([an_effect(1, name="c")])
    assert frauds(labelled) == (1, 0.25)


def test_a_label_of_what_was_never_seen_leaves_no_trace(
    client: redis.Redis, labelled: RedisFeatureStore
) -> None:
    keys = set(client.keys())
    labelled.label([an_effect(90), replace(an_effect(1), keys={"terminal_id": "other"})])
    labelled.label([replace(an_effect(1), keys={"card_id": "card_1"})])
    assert frauds(labelled) == (0, 0)
    assert set(client.keys()) == keys


def test_a_label_shares_the_slot_of_its_entity_and_has_a_lifetime(
    client: redis.Redis, labelled: RedisFeatureStore
) -> None:
    before = client.ttl("f:{terminal:till}")
    labelled.label([an_effect(1)])
    (key,) = client.scan_iter("f:{terminal:till}:l:*")
    assert 0 < client.ttl(key) <= 2 * DAY + HORIZON + DAY
    assert 0 < client.ttl("f:{terminal:till}") <= before


def test_labels_reach_a_server_that_lost_its_functions(
    client: redis.Redis, labelled: RedisFeatureStore
) -> None:
    client.function_flush()
    labelled.label([an_effect(1)])
    assert frauds(labelled) == (1, 0.25)


# What the first schema wrote of eight purchases; plans without further tracks keep to it.
FIRST_SCHEMA = (
    "0100f3b07483206a40741d6affffffff0004000400040000d6060000000082a0e8487fa9c283658201b00358"
    "b9960c0d6c658201a54e38c76bd849fe658201ff55e71d56d68c846582018081206a1e0000000000bc81206a"
    "0a0000000000f881206a1400000000007483206a1900000000008081206a050000f40600000000bc81206a06"
    "0000fe0600000000f881206a0700001207000000007483206a0800002b0700000000"
)


def test_state_of_the_first_schema_is_read_and_still_written(
    client: redis.Redis, store: RedisFeatureStore
) -> None:
    after = ((0, 900), (40, 100), (4_000, 50), (10, 700), (200_000, 30), (200_060, 10))
    for number, (time_s, amount) in enumerate([*after, (200_120, 20), (200_500, 25)]):
        store.observe([at(NOON_S + time_s, a_transaction(number, base_amount_minor=amount))])
    state = bytes.fromhex(FIRST_SCHEMA)
    assert client.get("f:{card:card_1}") == state
    client.set("f:{card:card_2}", state)
    found = store.read("card", "card_2", NOON_S + 200_600)
    expected = {"card_count_1h": 4, "card_count_1d": 4, "card_max_1d": 0.3, "card_gap": 100}
    assert found == expected
