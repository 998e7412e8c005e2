"""The document store's promises: the fake, a real Redis with JSON and Search, a cluster."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import orjson
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.search import count_decisions, count_documents
from consumer.document import DocumentFormat
from consumer.errors import Misconfigured, Unavailable
from consumer.local.redis_server import RedisServer
from consumer.model import (
    Decision,
    Kind,
    Label,
    LabelEffect,
    Labelled,
    LabelOutcome,
    LabelValue,
    Outcome,
    Stored,
    TransactionId,
)
from consumer.ports import EagerDocumentStore, KnownDecisions
from tests.builders import NOON, a_label, a_transaction, an_assessment, an_origin
from tests.fakes.documents import FakeDocuments
from tests.redis_cluster import RedisCluster

FORM = DocumentFormat(
    feature_names=("amount", "card_count_1h"), feature_hash="f" * 64, base_currency="EUR"
)

LABELS = st.builds(
    lambda identity, days, value: a_label(
        1,
        label_id=f"{identity}_{days}_{value}",
        label=value,
        label_time=NOON + timedelta(days=days),
    ),
    st.sampled_from("ab"),
    st.integers(1, 3),
    st.sampled_from(LabelValue),
)
Data = st.DataObject


class Sides(EagerDocumentStore, KnownDecisions, Protocol):
    """The sides of a store that are tried here."""


class Store(Protocol):
    """A store with a way to look behind it."""

    port: Sides
    alerts_repeat: bool
    """Whether a record that comes again may repeat its alert."""

    def read(self, transaction_id: str) -> dict[str, Any]: ...

    def alerts(self) -> list[dict[str, object]]: ...


class InMemory:
    alerts_repeat = False

    def __init__(self) -> None:
        self.fake = FakeDocuments(FORM)
        self.port: Sides = self.fake

    def read(self, transaction_id: str) -> dict[str, Any]:
        document: dict[str, Any] = orjson.loads(self.fake.documents[transaction_id])
        return document

    def alerts(self) -> list[dict[str, object]]:
        return [orjson.loads(alert) for alert in self.fake.alerts]


class InRedis:
    alerts_repeat = False

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        client.flushall()
        self.store = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=1000)
        self.store.prepare()
        self.port: Sides = self.store

    def read(self, transaction_id: str) -> dict[str, Any]:
        document: dict[str, Any] = orjson.loads(
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


class InCluster:
    alerts_repeat = True

    def __init__(self, cluster: RedisCluster, client: redis.Redis) -> None:
        cluster.clear()
        self.servers = Servers(client)
        self.port: Sides = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=1000)

    def read(self, transaction_id: str) -> dict[str, Any]:
        key = f"tx:{transaction_id}"
        document: dict[str, Any] = orjson.loads(self.servers.command(key, "JSON.GET", key))
        return document

    def alerts(self) -> list[dict[str, object]]:
        entries = self.servers.command("alerts", "XRANGE", "alerts", "-", "+")
        return [orjson.loads(fields[1]) for _, fields in entries]


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[RedisCluster, redis.Redis]]:
    with RedisCluster() as cluster:
        client = connect(cluster.url, connect_timeout_s=2, timeout_s=2)
        yield cluster, client
        client.close()


@pytest.fixture(params=["fake", "redis", "cluster"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "fake":
        return InMemory()
    if request.param == "cluster":
        return InCluster(*request.getfixturevalue("cluster"))
    return InRedis(request.getfixturevalue("client"))


def outcomes(store: Store, *labels: Label) -> list[str]:
    return [labelled.outcome for labelled in store.port.label(labels)]


def test_a_new_transaction_is_stored_with_all_it_was_decided_on(store: Store) -> None:
    (stored,) = store.port.decide([an_assessment(1)])
    assert stored.stored is Stored.CREATED
    document = store.read("tx_1")
    document.pop("stored_ms", None)
    assert document == orjson.loads(stored.document)
    assert document["features"] == {"amount": 12.5, "card_count_1h": 1.0}
    assert document["scores"] == {"fraud": 0.01, "anomaly": 0.7}
    assert document["decision"] == {"outcome": "approve", "reasons": []}


def test_what_is_started_stands_when_its_result_is_asked_for(store: Store) -> None:
    (stored,) = store.port.start([an_assessment(1)]).result()
    assert stored.stored is Stored.CREATED
    changed = replace(an_assessment(1), decision=Decision(Outcome.DECLINE, ("fraud_score_high",)))
    (stored,) = store.port.start([changed]).result()
    assert stored.stored is Stored.REDELIVERED
    assert orjson.loads(stored.document)["decision"]["outcome"] == "approve"


def test_documents_are_found_by_their_ids(store: Store) -> None:
    store.port.decide([an_assessment(1), an_assessment(2)])
    found = store.port.find([TransactionId(each) for each in ("tx_2", "tx_404", "tx_1")])
    assert [each and orjson.loads(each)["transaction_id"] for each in found] == [
        "tx_2",
        None,
        "tx_1",
    ]
    assert store.port.find([]) == []


def test_the_first_decision_stands_whoever_comes_second(store: Store) -> None:
    first = an_assessment(1)
    second = replace(first, decision=Decision(Outcome.DECLINE, ("fraud_score_high",)))
    store.port.decide([first])
    (stored,) = store.port.decide([second])
    assert stored.stored is Stored.REDELIVERED
    assert orjson.loads(stored.document)["decision"]["outcome"] == "approve"
    assert store.alerts() == []


def test_two_of_one_id_in_one_call_are_one_decision(store: Store) -> None:
    duplicate = an_assessment(1, origin=an_origin(2))
    stored = store.port.decide([an_assessment(1), duplicate])
    assert [each.stored for each in stored] == [Stored.CREATED, Stored.EXISTING]


def test_a_record_that_comes_again_is_told_from_a_producers_duplicate(store: Store) -> None:
    store.port.decide([an_assessment(1)])
    stored = store.port.decide([an_assessment(1), an_assessment(1, origin=an_origin(2))])
    assert [each.stored for each in stored] == [Stored.REDELIVERED, Stored.EXISTING]


def test_the_same_id_with_other_content_is_a_conflict(store: Store) -> None:
    store.port.decide([an_assessment(1)])
    other = an_assessment(1, transaction=a_transaction(1, digest="e" * 64, amount_minor=99))
    (stored,) = store.port.decide([other])
    assert stored.stored is Stored.CONFLICT
    assert store.read("tx_1")["digest"] == an_assessment(1).transaction.digest


def test_the_same_content_under_a_former_key_is_no_conflict(store: Store) -> None:
    store.port.decide([an_assessment(1)])
    first = an_assessment(1).transaction.digest
    rotated = a_transaction(1, digest="e" * 64, former_digests=("d" * 64, first))
    (stored,) = store.port.decide([an_assessment(1, transaction=rotated)])
    assert stored.stored is Stored.REDELIVERED


def test_review_and_decline_reach_the_alerts_once(store: Store) -> None:
    flagged = an_assessment(1, decision=Decision(Outcome.DECLINE, ("fraud_score_high",)))
    store.port.decide([flagged, an_assessment(2)])
    store.port.decide([flagged])
    alert, *repeats = store.alerts()
    assert repeats == ([alert] if store.alerts_repeat else [])
    assert alert["transaction_id"] == "tx_1"
    assert alert["outcome"] == "decline"
    assert alert["reasons"] == ["fraud_score_high"]


def test_the_newest_label_stands(store: Store) -> None:
    store.port.decide([an_assessment(1)])
    newest = a_label(1)
    older = a_label(
        1,
        label_id="label_0",
        label=LabelValue.LEGITIMATE,
        label_time=newest.label_time - timedelta(days=1),
    )
    assert outcomes(store, newest, older, newest) == ["applied", "superseded", "repeated"]
    assert store.read("tx_1")["label"] == {
        "id": "label_1",
        "label": "fraud",
        "source": "chargeback",
        "time_ms": int(newest.label_time.timestamp() * 1000),
    }


def test_of_two_labels_of_one_time_the_greater_id_stands(store: Store) -> None:
    store.port.decide([an_assessment(1)])
    assert outcomes(store, a_label(1, label_id="b"), a_label(1, label_id="a")) == [
        "applied",
        "superseded",
    ]
    assert outcomes(store, a_label(1, label_id="c")) == ["applied"]


def test_a_label_tells_whose_state_it_changes(store: Store) -> None:
    event = a_transaction(1, device_id="device_1", event_time=NOON)
    store.port.decide([an_assessment(1, transaction=event)])
    (labelled,) = store.port.label([a_label(1)])
    assert labelled.effect == LabelEffect(
        transaction_id=event.transaction_id,
        label_id="label_1",
        fraud=True,
        label_time_ms=int(a_label(1).label_time.timestamp() * 1000),
        event_time_s=int(NOON.timestamp()),
        keys={"card_id": "card_1", "merchant_id": "merchant_1", "device_id": "device_1"},
    )


def test_the_effect_of_a_future_event_is_at_its_arrival(store: Store) -> None:
    event = a_transaction(1, event_time=NOON + timedelta(days=1))
    store.port.decide([an_assessment(1, transaction=event)])
    (labelled,) = store.port.label([a_label(1)])
    assert labelled.effect is not None
    assert labelled.effect.event_time_s == an_assessment(1).origin.arrival_ms // 1000


@pytest.mark.parametrize("kind", [Kind.REFUND, Kind.REVERSAL])
def test_a_label_of_no_purchase_changes_no_state(store: Store, kind: Kind) -> None:
    store.port.decide([an_assessment(1, transaction=a_transaction(1, kind=kind))])
    (labelled,) = store.port.label([a_label(1)])
    assert labelled == Labelled(LabelOutcome.APPLIED)


def test_a_label_waits_for_its_transaction(store: Store) -> None:
    assert store.port.label([a_label(1)]) == [Labelled(LabelOutcome.UNMATCHED)]
    (stored,) = store.port.decide([an_assessment(1)])
    assert stored.stored is Stored.CREATED
    assert orjson.loads(stored.document)["label"] == store.read("tx_1")["label"]
    assert stored.effect is not None
    assert stored.effect.label_id == "label_1"
    assert outcomes(store, a_label(1)) == ["repeated"]


def test_a_label_waits_for_a_transaction_that_is_flagged_too(store: Store) -> None:
    store.port.label([a_label(1)])
    flagged = an_assessment(1, decision=Decision(Outcome.DECLINE, ("fraud_score_high",)))
    (stored,) = store.port.decide([flagged])
    assert stored.effect is not None
    assert len(store.alerts()) == 1


def test_a_redelivered_transaction_tells_its_label_again(store: Store) -> None:
    store.port.label([a_label(1)])
    (first,) = store.port.decide([an_assessment(1)])
    (again,) = store.port.decide([an_assessment(1)])
    assert again.stored is Stored.REDELIVERED
    assert again.effect == first.effect


def test_a_conflict_tells_no_label(store: Store) -> None:
    store.port.decide([an_assessment(1)])
    store.port.label([a_label(1)])
    other = an_assessment(1, transaction=a_transaction(1, digest="e" * 64))
    (stored,) = store.port.decide([other])
    assert (stored.stored, stored.effect) == (Stored.CONFLICT, None)


@given(st.lists(st.sampled_from("LLLT"), min_size=1), st.data())
def test_in_any_order_the_newest_label_ends_on_the_document(order: list[str], data: Data) -> None:
    check_any_order(InMemory(), order, data)


@given(st.lists(st.sampled_from("LLLT"), min_size=1), st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_any_order_the_newest_label_ends_on_the_document_in_redis(
    client: redis.Redis, order: list[str], data: Data
) -> None:
    check_any_order(InRedis(client), order, data)


def check_any_order(store: Store, order: list[str], data: Data) -> None:
    """Labels before, after, twice and corrected; the effects that were told lead to the newest."""
    said: dict[str, Label] = {}
    told: list[LabelEffect] = []
    for step in order:
        if step == "T":
            (stored,) = store.port.decide([an_assessment(1)])
            told += [stored.effect] if stored.effect else []
            continue
        label = data.draw(LABELS)
        said[label.label_id] = label
        (labelled,) = store.port.label([label])
        told += [labelled.effect] if labelled.effect else []
    store.port.decide([an_assessment(1)])
    newest = max(said.values(), key=lambda label: (label.label_time, label.label_id), default=None)
    noted = store.read("tx_1").get("label")
    assert (noted and noted["id"]) == (newest and newest.label_id)
    if "T" in order and newest is not None and told:
        last = max(told, key=lambda effect: (effect.label_time_ms, effect.label_id))
        assert last.label_id == newest.label_id
        assert last.fraud is (newest.label is LabelValue.FRAUD)


def test_a_waiting_label_has_a_lifetime_in_the_slot_of_its_document(client: redis.Redis) -> None:
    store = InRedis(client)
    store.port.label([a_label(1)])
    assert 0 < client.ttl("unmatched:{tx:tx_1}") <= 3600
    assert key_slot(b"unmatched:{tx:tx_1}") == key_slot(b"tx:tx_1")
    store.port.decide([an_assessment(1)])
    assert client.keys("unmatched:*") == []


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
