"""A slot moves to another primary, key by key, while workers go on."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from random import Random

import orjson
import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import AskError, TryAgainError

from consumer.adapters.redis.cluster import Call, Servers
from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.document import DocumentFormat
from consumer.errors import Unavailable
from consumer.features.specification import parse_plan
from consumer.local.oracle import Event, Verdict
from consumer.model import Observation, TransactionId
from tests.builders import NOON, a_transaction, an_assessment
from tests.properties.observations import Pair, a_request, an_effect
from tests.redis_cluster import RedisCluster, a_moving_slot

FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")
PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: "count_{window}", entity: card, aggregation: count, windows: [1m, 1d]}
  - {name: sum_1d, entity: card, aggregation: sum, windows: [1d]}
  - {name: max_1d, entity: card, aggregation: max, windows: [1d]}
  - {name: gap, entity: card, aggregation: time_since_last}
  - {name: frauds_1d, entity: card, aggregation: fraud_count, windows: [1d]}
""",
    source="resharding",
)
HORIZON_S = 90_000
START = int(NOON.timestamp())


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: RedisCluster) -> Iterator[redis.Redis]:
    cluster.clear()
    with connect(cluster.url, connect_timeout_s=2, timeout_s=5) as client:
        yield client


def of_one_slot(number: int) -> tuple[int, list[str]]:
    """A slot, and cards whose keys all lie in it."""
    slot = key_slot(b"{card:0}")
    cards = (f"{n}" for n in range(16_384 * number * 9) if key_slot(b"{card:%d}" % n) == slot)
    return slot, [next(cards) for _ in range(number)]


def test_a_key_that_left_is_asked_for_where_it_went(
    cluster: RedisCluster, client: redis.Redis
) -> None:
    with closing(Servers(client)) as servers:
        servers.command("{moving}:1", "SET", "{moving}:1", "1")
        servers.command("{moving}:2", "SET", "{moving}:2", "1")
        with a_moving_slot(cluster, key_slot(b"{moving}")) as moving:
            moving.move(b"{moving}:1")
            with pytest.raises(AskError):
                command(moving.source, "INCR", "{moving}:1")
            names = ("{moving}:1", "{moving}:2", "elsewhere", "{moving}:1", "{moving}:new")
            replies = servers.call([Call(name, ("INCR", name)) for name in names])
            assert replies == [2, 2, 1, 3, 1]
            both = Call("{moving}:1", ("MGET", "{moving}:1", "{moving}:2"))
            (split,) = servers.call([both])
            assert isinstance(split, TryAgainError)
        assert servers.call([both]) == [[b"3", b"2"]]


@pytest.mark.parametrize("order", ["string first", "string last", "any"])
def test_an_entity_is_never_counted_with_half_of_its_keys(
    cluster: RedisCluster, client: redis.Redis, order: str
) -> None:
    """Cold cards go on while their slot moves; hot ones and labels wait for its end."""
    slot, (hot, *cold) = of_one_slot(4)
    store = RedisFeatureStore(client, PLAN, id_horizon_s=HORIZON_S, hot_after=30)
    store.prepare()
    pair = Pair(store, PLAN, HORIZON_S)
    history = [an_event(n, hot, START + 600 * n) for n in range(40)]
    history += [an_event(100 + n, cold[n % 2], START + 600 * n) for n in range(8)]
    pair.observe(history)
    pair.label([a_verdict(event) for event in history[::7]])
    waiting: list[Event] = []
    told: list[Verdict] = []
    with closing(store):
        with a_moving_slot(cluster, slot) as moving:
            keys = moving.left()
            assert len(keys) > 8
            keys.sort(key=lambda key: (b"}:" not in key) == (order == "string last"))
            if order == "any":
                Random(7).shuffle(keys)
            for number, key in enumerate(keys):
                now = START + 30_000 + 3_000 * number
                pair.observe([an_event(1_000 + 10 * number + n, cold[n], now) for n in range(3)])
                waiting.append(an_event(2_000 + number, hot, now))
                # What was sent before would be known, wherever its id lies.
                for event in (waiting[-1], history[number % 40]):
                    with pytest.raises(Unavailable):
                        store.observe([a_request(event)])
                for event in (history[number % 40], history[40 + number % 8]):
                    told.append(a_verdict(event))
                    with pytest.raises(Unavailable):
                        store.label([an_effect(told[-1])])
                moving.move(key)
        assert len(waiting) > 8
        pair.observe(waiting)
        pair.label(told)
        pair.observe([*history, *waiting])
        for card in (hot, *cold):
            pair.read([START + 20_000, START + 60_000, START + 100_000], card=card)


def test_a_slot_moves_back_and_forth_under_a_worker(
    cluster: RedisCluster, client: redis.Redis
) -> None:
    slot, cards = of_one_slot(6)
    store = RedisFeatureStore(client, PLAN, id_horizon_s=HORIZON_S, hot_after=30)
    store.prepare()
    pair = Pair(store, PLAN, HORIZON_S)
    stop = threading.Event()
    moves = 0

    def reshard() -> None:
        nonlocal moves
        while not stop.is_set():
            with a_moving_slot(cluster, slot) as moving:
                for key in moving.left():
                    moving.move(key)
                    stop.wait(0.002)
            moves += 1

    thread = threading.Thread(target=reshard)
    thread.start()
    try:
        with closing(store):
            for n in range(250):
                # The first card turns hot in the middle of it.
                chunk = [an_event(10 * n + k, cards[k], START + 97 * n) for k in (0, n % 6 or 1)]
                expected = [pair.oracle.observe(event)[0] for event in chunk]
                found = observe_patiently(store, chunk)
                for observation, values in zip(found, expected, strict=True):
                    assert dict(zip(PLAN.names, observation.values, strict=True)) == values
    finally:
        stop.set()
        thread.join(30)
    assert moves > 1
    with closing(store):
        for card in cards:
            pair.read([START + 25_000, START + 60_000], card=card)


def test_a_document_is_decided_once_while_its_slot_moves(
    cluster: RedisCluster, client: redis.Redis
) -> None:
    documents = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=1000)
    documents.prepare()
    with closing(documents):
        (first,) = documents.decide([an_assessment(1)])
        with a_moving_slot(cluster, key_slot(b"tx:tx_1")) as moving:
            moving.move(b"tx:tx_1")
            assert documents.read(TransactionId("tx_1")) is not None
            other = an_assessment(1, transaction=a_transaction(1, digest="b" * 64))
            # Its own key and that of a waiting label lie on two servers, or may.
            with pytest.raises(Unavailable):
                documents.decide([other])
        (second,) = documents.decide([an_assessment(1)])
        stored = orjson.loads(second.document)
        stored.pop("stored_ms")
        assert stored == orjson.loads(first.document)


def an_event(number: int, card: str, time_s: int) -> Event:
    keys = {"card_id": card, "merchant_id": "m"}
    return Event(f"t{number}", time_s, 100 + number, keys)


def a_verdict(event: Event) -> Verdict:
    time_ms = (event.time_s + 900) * 1000
    return Verdict(event.transaction_id, "l", True, time_ms, event.time_s, event.keys)


def observe_patiently(store: RedisFeatureStore, events: Sequence[Event]) -> list[Observation]:
    deadline_s = time.monotonic() + 30
    while True:
        try:
            return store.observe([a_request(event) for event in events])
        except Unavailable:
            assert time.monotonic() < deadline_s
            time.sleep(0.002)
