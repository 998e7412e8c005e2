"""Second assessments are written once beside a decision, in memory, in a Redis, in a cluster."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.second_assessments import SecondAssessments
from consumer.document import DocumentFormat
from consumer.errors import Unavailable
from consumer.local.redis_server import RedisServer
from consumer.model import TransactionId
from consumer.ports import DocumentStore
from tests.builders import an_assessment
from tests.fakes.documents import FakeDocuments
from tests.redis_cluster import RedisCluster

FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")
TX = TransactionId("tx_1")
SECOND = b'{"outcome":"decline"}'
ALERT = b'{"transaction_id":"tx_1"}'


@dataclass
class Store:
    """A store of decisions, its writer of second assessments, and a look behind both."""

    documents: DocumentStore
    write: Callable[[TransactionId, bytes, bytes | None], bool]
    read: Callable[[TransactionId], bytes | None]
    alerts: Callable[[], list[bytes]]

    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = orjson.loads(self.read(TX) or b"{}")
        return document


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with RedisServer(directory=tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as cluster:
        yield cluster


@pytest.fixture(params=["fake", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "fake":
        fake = FakeDocuments(FORM)
        yield Store(fake, fake.write_second, fake.documents.get, lambda: fake.alerts)
        return
    if request.param == "redis":
        url: str = request.getfixturevalue("address")
    else:
        cluster: RedisCluster = request.getfixturevalue("cluster")
        cluster.clear()
        url = cluster.url
    with ExitStack() as stack:
        client = stack.enter_context(closing(connect(url, connect_timeout_s=2, timeout_s=2)))
        if request.param == "redis":
            client.flushall()
        # Without an index, which nothing here reads; the functions load at the first call.
        documents = RedisDocuments(client, form=FORM, ttl_s=600, alerts_max_length=1000)
        writer = SecondAssessments(client, alerts_max_length=1000)
        servers = Servers(client)
        for each in (documents, writer, servers):
            stack.enter_context(closing(each))

        def alerts() -> list[bytes]:
            entries = servers.command("alerts", "XRANGE", "alerts", "-", "+")
            return [fields[1] for _, fields in entries]

        yield Store(documents, writer.write, documents.read, alerts)
        assert servers.command("tx:tx_1", "TTL", "tx:tx_1") <= 600


def test_it_is_set_beside_the_decision_which_stays(store: Store) -> None:
    store.documents.decide([an_assessment()])
    before = store.document()
    assert store.write(TX, SECOND, None)
    assert store.document() == before | {"second_assessment": {"outcome": "decline"}}
    assert store.alerts() == []


def test_a_worse_one_alerts_once_and_the_first_stands(store: Store) -> None:
    store.documents.decide([an_assessment()])
    assert store.write(TX, SECOND, ALERT)
    assert not store.write(TX, b'{"outcome":"approve"}', None)
    assert not store.write(TX, b'{"outcome":"review"}', ALERT)
    assert store.document()["second_assessment"] == {"outcome": "decline"}
    assert store.alerts() == [ALERT]


@pytest.mark.parametrize("alert", [None, ALERT])
def test_a_document_that_is_gone_stays_away_and_alerts_nobody(
    store: Store, alert: bytes | None
) -> None:
    assert not store.write(TX, SECOND, alert)
    assert store.read(TX) is None
    assert store.alerts() == []


def test_a_server_that_is_away_is_unavailable(tmp_path: Path) -> None:
    with (
        closing(connect(f"unix://{tmp_path}/none", connect_timeout_s=1, timeout_s=1)) as client,
        pytest.raises(Unavailable),
    ):
        SecondAssessments(client, alerts_max_length=10).write(TX, SECOND, None)
