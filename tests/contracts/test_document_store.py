"""The document store's promises, on the fake and on a real Redis server with JSON and Search."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import orjson
import pytest
import redis

from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.search import count_decisions, count_documents
from consumer.document import DocumentFormat
from consumer.errors import Misconfigured, Unavailable
from consumer.local.redis_server import RedisServer
from consumer.model import Decision, LabelValue, Outcome, Stored
from consumer.ports import DocumentStore
from tests.builders import a_label, a_transaction, an_assessment
from tests.fakes.documents import FakeDocuments

FORM = DocumentFormat(
    feature_names=("amount", "card_count_1h"), feature_hash="f" * 64, base_currency="EUR"
)


class Store(Protocol):
    """A store with a way to look behind it."""

    port: DocumentStore

    def read(self, transaction_id: str) -> dict[str, object]: ...

    def alerts(self) -> list[dict[str, object]]: ...


class InMemory:
    def __init__(self) -> None:
        self.fake = FakeDocuments(FORM)
        self.port: DocumentStore = self.fake

    def read(self, transaction_id: str) -> dict[str, object]:
        document: dict[str, object] = orjson.loads(self.fake.documents[transaction_id])
        return document

    def alerts(self) -> list[dict[str, object]]:
        return [orjson.loads(alert) for alert in self.fake.alerts]


class InRedis:
    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        client.flushall()
        self.store = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=1000)
        self.store.prepare()
        self.port: DocumentStore = self.store

    def read(self, transaction_id: str) -> dict[str, object]:
        document: dict[str, object] = orjson.loads(
            command(self.client, "JSON.GET", f"tx:{transaction_id}")
        )
        return document

    def alerts(self) -> list[dict[str, object]]:
        entries = command(self.client, "XRANGE", "alerts", "-", "+")
        return [orjson.loads(fields[b"alert"]) for _, fields in entries]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with RedisServer(directory=tmp_path_factory.mktemp("redis")) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=2)
        yield client
        client.close()


@pytest.fixture(params=["fake", "redis"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "fake":
        return InMemory()
    return InRedis(request.getfixturevalue("client"))


def test_a_new_transaction_is_stored_with_all_it_was_decided_on(store: Store) -> None:
    (stored,) = store.port.decide([an_assessment(1)])
    assert stored.stored is Stored.CREATED
    document = store.read("tx_1")
    document.pop("stored_ms", None)
    assert document == orjson.loads(stored.document)
    assert document["features"] == {"amount": 12.5, "card_count_1h": 1.0}
    assert document["scores"] == {"fraud": 0.01, "anomaly": 0.7}
    assert document["decision"] == {"outcome": "approve", "reasons": []}


def test_the_first_decision_stands_whoever_comes_second(store: Store) -> None:
    first = an_assessment(1)
    second = replace(first, decision=Decision(Outcome.DECLINE, ("fraud_score_high",)))
    store.port.decide([first])
    (stored,) = store.port.decide([second])
    assert stored.stored is Stored.EXISTING
    assert orjson.loads(stored.document)["decision"]["outcome"] == "approve"
    assert store.alerts() == []


def test_two_of_one_id_in_one_call_are_one_decision(store: Store) -> None:
    stored = store.port.decide([an_assessment(1), an_assessment(1)])
    assert [each.stored for each in stored] == [Stored.CREATED, Stored.EXISTING]


def test_the_same_id_with_other_content_is_a_conflict(store: Store) -> None:
    store.port.decide([an_assessment(1)])
    other = an_assessment(1, transaction=a_transaction(1, digest="e" * 64, amount_minor=99))
    (stored,) = store.port.decide([other])
    assert stored.stored is Stored.CONFLICT
    assert store.read("tx_1")["digest"] == an_assessment(1).transaction.digest


def test_review_and_decline_reach_the_alerts_once(store: Store) -> None:
    flagged = an_assessment(1, decision=Decision(Outcome.DECLINE, ("fraud_score_high",)))
    store.port.decide([flagged, an_assessment(2)])
    store.port.decide([flagged])
    (alert,) = store.alerts()
    assert alert["transaction_id"] == "tx_1"
    assert alert["outcome"] == "decline"
    assert alert["reasons"] == ["fraud_score_high"]


def test_the_newest_label_stands(store: Store) -> None:
    store.port.decide([an_assessment(1)])
    newest = a_label(1)
    older = a_label(
        1, label=LabelValue.LEGITIMATE, label_time=newest.label_time - timedelta(days=1)
    )
    assert store.port.label([newest, older]) == [True, True]
    label = store.read("tx_1")["label"]
    assert isinstance(label, dict)
    assert label["label"] == "fraud"


def test_a_label_without_its_document_is_reported(store: Store) -> None:
    assert store.port.label([a_label(404)]) == [False]


def test_a_document_has_a_lifetime_and_the_time_it_was_stored(client: redis.Redis) -> None:
    store = InRedis(client)
    store.port.decide([an_assessment(1)])
    assert 0 < client.ttl("tx:tx_1") <= 3600
    assert isinstance(store.read("tx_1")["stored_ms"], int)


def test_functions_that_the_server_lost_are_loaded_again(client: redis.Redis) -> None:
    store = InRedis(client)
    client.function_flush("SYNC")
    (stored,) = store.port.decide([an_assessment(1)])
    assert stored.stored is Stored.CREATED


def test_documents_are_found_by_what_analysts_search_for(client: redis.Redis) -> None:
    store = InRedis(client)
    store.port.decide([an_assessment(1), an_assessment(2)])
    query = "@card:{card_1} @amount:[12 13]"
    reply = command(client, "FT.SEARCH", "idx:tx", query, "NOCONTENT")
    assert reply[b"total_results"] == 2
    assert count_documents(client) == 2
    assert count_decisions(client) == {"approve": 2}


def test_a_server_without_modules_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with RedisServer(directory=tmp_path, modules=False) as server:
        plain = connect(server.url, connect_timeout_s=2, timeout_s=2)
        with pytest.raises(Misconfigured, match=r"without rejson and search.*Redis Stack"):
            RedisDocuments(plain, form=FORM, ttl_s=60, alerts_max_length=10).prepare()
        plain.close()


def test_a_server_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    with RedisServer(directory=tmp_path) as server:
        gone = connect(server.url, connect_timeout_s=2, timeout_s=2)
    store = RedisDocuments(gone, form=FORM, ttl_s=60, alerts_max_length=10)
    with pytest.raises(Unavailable, match="redis"):
        store.decide([an_assessment(1)])
