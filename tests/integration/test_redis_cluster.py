"""Three primaries: nothing is left out, nothing is sent twice, replicas are waited for."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Self

import orjson
import pytest
import redis
from redis.crc import key_slot
from redis.exceptions import MovedError

from consumer.adapters.redis.cluster import Call, Servers
from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.durability import RedisDurability
from consumer.adapters.redis.explanations import Explanations
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.adapters.redis.search import RedisSearch, count_decisions, count_documents
from consumer.adapters.redis.survey import survey_servers
from consumer.document import DocumentFormat
from consumer.errors import Unavailable
from consumer.features.specification import parse_plan
from consumer.local.redis_server import RedisServer
from consumer.model import Decision, Outcome, TransactionId
from consumer.ports import Observe
from consumer.query import Order, Query
from tests.builders import NOON, a_transaction, an_assessment
from tests.redis_cluster import RedisCluster, await_condition, is_up

FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")
PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}, merchant: {key: merchant_id}}
features:
  - {name: card_count_1d, entity: card, aggregation: count, windows: [1d]}
  - {name: merchant_sum_1d, entity: merchant, aggregation: sum, windows: [1d]}
""",
    source="cluster",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: RedisCluster) -> Iterator[redis.Redis]:
    cluster.clear()
    with connect(cluster.url, connect_timeout_s=2, timeout_s=2) as client:
        yield client


@pytest.fixture
def documents(client: redis.Redis) -> Iterator[RedisDocuments]:
    store = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=1000)
    store.prepare()
    with closing(store):
        yield store


def requests(numbers: Sequence[int]) -> list[Observe]:
    return [
        Observe(
            a_transaction(n, card_id=f"card_{n % 20}", merchant_id=f"merchant_{n % 7}"),
            int(NOON.timestamp()) + n,
        )
        for n in numbers
    ]


def test_every_document_on_three_primaries_is_counted_once(
    cluster: RedisCluster, client: redis.Redis, documents: RedisDocuments
) -> None:
    documents.decide([an_assessment(n) for n in range(300)])
    assert [primary.dbsize() > 60 for primary in cluster.clients] == [True] * 3
    assert count_documents(client) == 300
    assert count_decisions(client) == {"approve": 300}


def test_pages_over_three_primaries_are_those_of_one_sorted_list(
    client: redis.Redis, documents: RedisDocuments
) -> None:
    # Amounts repeat, so that equal ones lie on several primaries.
    documents.decide(
        [
            an_assessment(n, transaction=a_transaction(n, base_amount_minor=100 * (n % 9)))
            for n in range(60)
        ]
    )
    with closing(RedisSearch(client, 1.0)) as search:
        for ascending in (True, False):
            pages = [
                search.search(
                    Query(order=Order.AMOUNT, ascending=ascending, offset=offset, limit=7)
                )
                for offset in range(0, 63, 7)
            ]
            found = [orjson.loads(document) for page in pages for document in page.documents]
            assert {page.total for page in pages} == {60}
            amounts = [document["transaction"]["base_amount"] for document in found]
            assert amounts == sorted(amounts, reverse=not ascending)
            assert len({document["transaction_id"] for document in found}) == len(found) == 60
        found_one = search.read(TransactionId("tx_7"))
        assert found_one is not None
        assert orjson.loads(found_one)["transaction_id"] == "tx_7"


def test_an_explanation_finds_its_document(client: redis.Redis, documents: RedisDocuments) -> None:
    documents.decide([an_assessment(n) for n in range(9)])
    for number in range(9):
        Explanations(client).write(TransactionId(f"tx_{number}"), b"[1]")
    stored = [documents.read(TransactionId(f"tx_{n}")) for n in range(9)]
    assert [orjson.loads(each or b"")["explanation"] for each in stored] == [[1]] * 9


def test_features_are_those_of_a_single_server(client: redis.Redis) -> None:
    numbers = [*range(100), *range(40, 60), *range(100, 160)]
    with (
        RedisServer(modules=False) as server,
        connect(server.url, connect_timeout_s=2, timeout_s=2) as single,
    ):
        expected = RedisFeatureStore(single, PLAN, id_horizon_s=90_000).observe(requests(numbers))
    store = RedisFeatureStore(client, PLAN, id_horizon_s=90_000)
    store.prepare()
    with closing(store):
        assert store.observe(requests(numbers)) == expected


def test_functions_lost_by_one_primary_are_loaded_again(
    cluster: RedisCluster, client: redis.Redis, documents: RedisDocuments
) -> None:
    store = RedisFeatureStore(client, PLAN, id_horizon_s=90_000)
    store.prepare()
    cluster.clients[1].function_flush("SYNC")
    with closing(store):
        assert len(store.observe(requests(range(50)))) == 50
    documents.decide(
        [
            an_assessment(n, decision=Decision(Outcome.REVIEW, ("fraud_score_high",)))
            for n in range(50)
        ]
    )
    assert count_documents(client) == 50
    with closing(Servers(client)) as servers:
        assert servers.command("alerts", "XLEN", "alerts") == 50


def test_a_primary_without_functions_and_index_gets_both(
    cluster: RedisCluster, client: redis.Redis, documents: RedisDocuments
) -> None:
    joined = cluster.clients[1]
    joined.function_flush("SYNC")
    (name,) = command(joined, "FT._LIST")
    command(joined, "FT.DROPINDEX", name)
    documents.decide([an_assessment(n) for n in range(30)])
    assert count_documents(client) == 30


def test_a_slot_that_moved_is_followed_and_its_commands_run_once(
    cluster: RedisCluster, client: redis.Redis
) -> None:
    with closing(Servers(client)) as servers:
        slot = key_slot(b"moving")
        source = servers.owner("moving")
        target = next(each for each in servers.primaries if each is not source)
        try:
            _move(cluster, slot, command(target, "CLUSTER", "MYID"))
            with pytest.raises(MovedError):
                command(source, "GET", "moving")
            calls = [Call("moving", ("INCR", "moving")), Call("still", ("INCR", "still"))]
            assert servers.call([*calls, calls[0]]) == [1, 1, 2]
            assert servers.owner("moving") is target
        finally:
            command(target, "DEL", "moving")
            _move(cluster, slot, command(source, "CLUSTER", "MYID"))


def _move(cluster: RedisCluster, slot: int, owner: str | bytes) -> None:
    for client in cluster.clients:
        command(client, "CLUSTER", "SETSLOT", str(slot), "NODE", owner)


def test_a_slot_that_nobody_holds_is_told(cluster: RedisCluster, client: redis.Redis) -> None:
    slot = str(key_slot(b"nobody"))
    with closing(Servers(client)) as servers:
        owner = command(servers.owner("nobody"), "CLUSTER", "MYID")
    (holder,) = [node for node in cluster.clients if command(node, "CLUSTER", "MYID") == owner]
    assert len(survey_servers(client)) == 3
    try:
        for node in cluster.clients:
            command(node, "CLUSTER", "DELSLOTS", slot)
        with pytest.raises(Unavailable, match="1 of 16,384 slots of the cluster have no primary"):
            survey_servers(client)
    finally:
        command(holder, "CLUSTER", "ADDSLOTS", slot)
        await_condition(lambda: all(is_up(node) for node in cluster.clients))


def test_a_lost_reply_is_sent_once_and_spares_the_other_primaries(
    client: redis.Redis,
) -> None:
    """redis-py's cluster client sends it again one by one, even with its retries off."""
    with closing(Servers(client)) as servers, Deaf() as deaf:
        lost = servers.owner("lost")
        other = next(f"k{n}" for n in range(99) if servers.owner(f"k{n}") is not lost)
        pool = lost.connection_pool
        pool.disconnect()
        pool.connection_kwargs["port"] = deaf.port
        replies = servers.call([Call("lost", ("INCR", "lost")), Call(other, ("INCR", other))])
        assert isinstance(replies[0], redis.ConnectionError)
        assert replies[1] == 1
        assert deaf.received.count(b"INCR") == 1
        pool.disconnect()


class Deaf:
    """Takes commands, greets as RESP3 wants, and hangs up instead of answering an INCR."""

    def __init__(self) -> None:
        self.received = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(65_536):
                    self.received += data
                    if b"INCR" in data:
                        break
                    connection.sendall(b"%1\r\n+proto\r\n:3\r\n" * data.count(b"HELLO"))
                    connection.sendall(b"+OK\r\n" * (data.count(b"*") - data.count(b"HELLO")))


@pytest.fixture(scope="module")
def replicated() -> Iterator[RedisCluster]:
    with RedisCluster(modules=False, replicas=True) as cluster:
        yield cluster


def test_replicas_are_waited_for_and_a_failover_is_told_once(replicated: RedisCluster) -> None:
    with (
        connect(replicated.url, connect_timeout_s=2, timeout_s=2) as client,
        closing(Servers(client)) as servers,
    ):
        durability = RedisDurability([servers], replicas=1, timeout_s=0.2)
        durability.begin()
        servers.call([Call(f"k{n}", ("SET", f"k{n}", "1")) for n in range(30)])
        assert durability.confirm()

        frozen = replicated.replica_servers[1].pid
        assert frozen is not None
        os.kill(frozen, signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable, match="0 of 1 replicas"):
                durability.confirm()
        finally:
            os.kill(frozen, signal.SIGCONT)
        assert _patiently(durability.confirm)

        replicated.servers[2].stop()
        assert _patiently(durability.confirm) is False
        replies = servers.call([Call(f"k{n}", ("GET", f"k{n}")) for n in range(30)])
        assert replies == [b"1"] * 30
        # The new primary has no replica of its own yet, which is no place to go on.
        with pytest.raises(Unavailable, match="0 of 1 replicas"):
            durability.confirm()


def _patiently(ask: Callable[[], bool]) -> bool:
    deadline_s = time.monotonic() + 20
    while True:
        try:
            return ask()
        except Unavailable:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
