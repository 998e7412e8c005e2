"""Each user of deploy/redis/users.acl can do its work on a real Redis, and nobody else's."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from consumer.adapters.redis.alerts import RedisAlerts
from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.adapters.redis.figures import RedisFigures
from consumer.adapters.redis.outbox import RedisOutbox
from consumer.adapters.redis.search import RedisSearch, count_documents
from consumer.adapters.redis.warmth import RedisWarmth
from consumer.document import DocumentFormat
from consumer.features.specification import parse_plan
from consumer.local.redis_server import RedisServer
from consumer.model import Decision, LabelEffect, Outcome, TransactionId
from consumer.ports import Observe
from consumer.query import Query
from tests.builders import NOON, a_label, a_transaction, an_assessment

ROOT = Path(__file__).parents[2]
USERS = {
    line.split()[1]: line.split()[2:]
    for line in (ROOT / "deploy/redis/users.acl").read_text().splitlines()
}
FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")
DECLINED = Decision(Outcome.DECLINE, ("fraud_score_high",))
PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: card_count_1d, entity: card, aggregation: count, windows: [1d]}
  - {name: card_fraud_1d, entity: card, aggregation: fraud_rate, windows: [1d]}
""",
    source="acl",
)


def fill(client: redis.Redis) -> None:
    """Features of more events than fit one key, and labels."""
    with (
        closing(RedisFeatureStore(client, PLAN, id_horizon_s=90_000, hot_after=2)) as store,
        closing(RedisWarmth(client)) as warmth,
    ):
        store.prepare()
        store.verify()
        assert warmth.swap(warmth.read(), b"{}") == b"{}"
        noon_s = int(NOON.timestamp())
        times = range(0, 90_000, 9_000)
        store.observe([Observe(a_transaction(t), noon_s + t) for t in times])
        keys = {"card_id": "card_1"}
        store.label(
            [
                LabelEffect(
                    label_id=f"l_{t}",
                    transaction_id=TransactionId(f"tx_{t}"),
                    fraud=True,
                    label_time_ms=10**13,
                    event_time_s=noon_s + t,
                    keys=keys,
                )
                for t in times
            ]
        )


def decide(client: redis.Redis) -> None:
    with closing(RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=10)) as documents:
        documents.prepare()
        documents.label([a_label(1)])
        documents.decide([an_assessment(1, decision=DECLINED), an_assessment(2)])
        documents.label([a_label(2)])


def look(client: redis.Redis) -> None:
    with (
        closing(RedisSearch(client, 1.0)) as search,
        closing(RedisAlerts(client)) as alerts,
        closing(RedisFigures(client)) as figures,
    ):
        assert search.search(Query(card="card_1")).total == 2
        assert search.read(TransactionId("tx_1")) is not None
        assert len(alerts.newest(10).entries) == 1
        assert alerts.after("0-0", 10).entries
        noon_s = int(NOON.timestamp())
        assert figures.tally(noon_s - 60, noon_s + 60).outcomes
        assert figures.glimpse(noon_s - 60, noon_s + 60, 10)


def serve(client: redis.Redis) -> None:
    fill(client)
    decide(client)
    look(client)
    with closing(RedisOutbox(client)) as outbox:
        announced = outbox.announce([TransactionId("tx_9")])
        assert outbox.find_older(-1.0, 10)
        outbox.settle([announced.entry])


def work(client: redis.Redis) -> None:
    fill(client)
    decide(client)
    assert count_documents(client) == 2


WORK: dict[str, Callable[[redis.Redis], None]] = {
    "fraudstream": work,
    "fraudstream_api": serve,
    "fraudstream_analyst": look,
    "fraudstream_replay": fill,
}
# What each of them must not do, beyond what nobody may.
FORBIDDEN: dict[str, list[tuple[str, ...]]] = {
    "fraudstream": [("XADD", "outbox:rest", "*", "a", "b"), ("SCAN", "0")],
    "fraudstream_api": [("SCAN", "0")],
    "fraudstream_analyst": [
        ("JSON.SET", "tx:1", "$", "{}"),
        ("DEL", "tx:1"),
        ("XADD", "alerts", "*", "a", "b"),
        ("GET", "f:{card:1}"),
        ("FCALL", "fraudstream_decide_2", "0"),
    ],
    "fraudstream_replay": [("JSON.GET", "tx:1"), ("FT.SEARCH", "idx:tx", "*")],
}
NOBODY: list[tuple[str, ...]] = [
    ("FLUSHALL",),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("KEYS", "*"),
    ("GET", "another:application"),
    ("ACL", "LIST"),
    ("SHUTDOWN",),
]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def owner(server: RedisServer) -> Iterator[redis.Redis]:
    with closing(connect(server.url, connect_timeout_s=2, timeout_s=10)) as client:
        client.flushall()
        yield client


@pytest.mark.parametrize("user", WORK)
def test_a_user_can_do_its_work_and_nothing_else(
    server: RedisServer, owner: redis.Redis, user: str
) -> None:
    if WORK[user] is look:
        work(owner)
    words = [">secret" if word.endswith("_PASSWORD") else word for word in USERS[user]]
    command(owner, "ACL", "SETUSER", user, "reset", *words)
    url = server.url.replace("redis://", f"redis://{user}:secret@")
    with closing(connect(url, connect_timeout_s=2, timeout_s=10)) as client:
        with closing(Servers(client)) as servers:
            servers.ping()
        WORK[user](client)
        for forbidden in (*NOBODY, *FORBIDDEN[user]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                command(client, *forbidden)


def test_every_user_is_tried_and_has_a_password_to_fill_in() -> None:
    assert set(USERS) == set(WORK)
    passwords = [word for words in USERS.values() for word in words if word.startswith(">")]
    assert len(set(passwords)) == len(USERS)


def test_the_user_of_the_daemon_is_that_of_the_page() -> None:
    page = (ROOT / "docs/redis.md").read_text()
    found = re.search(r"^ACL SETUSER fraudstream ([^`]*)", page, re.MULTILINE)
    assert found is not None
    written = found[1].replace(">PASSWORD", ">WORKER_PASSWORD").split()
    assert written == USERS["fraudstream"]
