"""Rows of REST and their outbox on a real Redis: acknowledged, left by another, or refused."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing

import orjson
import pytest
import redis

from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.outbox import KEY, RedisOutbox
from consumer.api.publisher import Publisher
from consumer.clock import SystemClock
from consumer.document import DocumentFormat
from consumer.local.redis_server import RedisServer
from consumer.model import TransactionId
from tests.builders import an_assessment, an_origin
from tests.fakes.decision_sink import FakeSink
from tests.redis_cluster import RedisCluster

FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")
WAIT_S = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(directory=tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with closing(connect(server.url, connect_timeout_s=5, timeout_s=10)) as client:
        client.flushall()
        yield client


@pytest.fixture
def documents(client: redis.Redis) -> RedisDocuments:
    documents = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=10)
    documents.prepare()
    return documents


def eventually(condition: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends_s, "it did not come about"
        time.sleep(0.02)


def ids(*names: str) -> list[TransactionId]:
    return [TransactionId(name) for name in names]


def sent(sink: FakeSink) -> list[str]:
    return sorted(orjson.loads(row)["transaction_id"] for row in sink.rows)


def decide(documents: RedisDocuments, number: int, source: str) -> bytes:
    origin = an_origin(number, source=source, shard_id=None, position=None)
    (stored,) = documents.decide([an_assessment(number, origin=origin)])
    return stored.document


def test_what_is_acknowledged_leaves_the_outbox(
    client: redis.Redis, documents: RedisDocuments
) -> None:
    sink = FakeSink()
    publisher = Publisher(sink, RedisOutbox(client), documents, SystemClock())
    publisher.start()
    entry = publisher.announce(ids("tx_1", "tx_2"))
    assert command(client, "XLEN", KEY) == 1
    publisher.publish(entry, [decide(documents, n, "rest") for n in (1, 2)])
    eventually(lambda: command(client, "XLEN", KEY) == 0)
    publisher.close(5.0)
    assert sent(sink) == ["tx_1", "tx_2"]


def test_rows_that_another_process_left_are_sent_where_they_were_decided_over_rest(
    client: redis.Redis, documents: RedisDocuments
) -> None:
    decide(documents, 1, "rest")
    decide(documents, 2, "stream")
    RedisOutbox(client).announce(ids("tx_1", "tx_2", "tx_never_decided"))
    sink = FakeSink()
    publisher = Publisher(sink, RedisOutbox(client), documents, SystemClock(), stale_after_s=0)
    publisher.start()
    eventually(lambda: command(client, "XLEN", KEY) == 0)
    publisher.close(5.0)
    assert sent(sink) == ["tx_1"]


def test_an_entry_that_is_young_is_left_to_its_process(
    client: redis.Redis, documents: RedisDocuments
) -> None:
    decide(documents, 1, "rest")
    RedisOutbox(client).announce(ids("tx_1"))
    publisher = Publisher(FakeSink(), RedisOutbox(client), documents, SystemClock())
    publisher.start()
    publisher.close(5.0)
    assert command(client, "XLEN", KEY) == 1


def test_what_is_refused_to_the_end_stays_in_the_outbox(
    client: redis.Redis, documents: RedisDocuments
) -> None:
    sink = FakeSink()
    sink.fail(1_000)
    publisher = Publisher(sink, RedisOutbox(client), documents, SystemClock())
    publisher.start()
    publisher.publish(publisher.announce(ids("tx_1")), [decide(documents, 1, "rest")])
    publisher.close(0.5)
    assert command(client, "XLEN", KEY) == 1
    assert not publisher.full


def test_the_outbox_of_a_cluster_keeps_what_is_announced() -> None:
    with (
        RedisCluster(modules=False) as cluster,
        closing(connect(cluster.url, connect_timeout_s=5, timeout_s=10)) as client,
        closing(RedisOutbox(client)) as outbox,
    ):
        announced = outbox.announce(ids("tx_1"))
        assert outbox.find_older(0, 10) == [announced]
        assert outbox.find_older(3_600, 10) == []
        outbox.settle([announced.entry])
        assert outbox.find_older(0, 10) == []
