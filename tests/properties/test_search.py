"""Whatever is searched for is compared, never understood: on a real server with Search."""

from collections.abc import Iterator

import orjson
import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.search import RedisSearch
from consumer.document import DocumentFormat
from consumer.errors import Rejected
from consumer.local.redis_server import RedisServer
from consumer.query import Query
from tests.builders import a_transaction, an_assessment

FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")
FIELDS = {"card": "card_id", "merchant": "merchant_id", "device": "device_id"}
# Surrogates are no text, and a NUL is refused (see below).
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
SYNTAX = st.text(st.sampled_from("a*%\\|{}[]()@:$\"'-~, <>=;!#^&/.?"), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[redis.Redis]:
    with RedisServer(directory=tmp_path_factory.mktemp("redis")) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=5)
        yield client
        client.close()


def a_query(attribute: str, value: str) -> Query:
    queries = {
        "card": Query(card=value),
        "merchant": Query(merchant=value),
        "device": Query(device=value),
        "reason": Query(reason=value),
    }
    return queries[attribute]


def found(client: redis.Redis, query: Query) -> set[str]:
    page = RedisSearch(client, 4.0).search(query)
    assert page.total == len(page.documents)
    return {orjson.loads(document)["transaction_id"] for document in page.documents}


def test_a_card_is_found_under_each_of_its_names(client: redis.Redis) -> None:
    client.flushall()
    store = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=10)
    store.prepare()
    names = ("pan:k2:ab", "pan:k1:cd", "card_3")
    store.decide(
        [
            an_assessment(number, transaction=a_transaction(number, card_id=name))
            for number, name in enumerate(names)
        ]
    )
    assert found(client, Query(card=names[0], former_tokens={"card": names[1:2]})) == {
        "tx_0",
        "tx_1",
    }


@given(
    values=st.lists(st.one_of(SYNTAX, TEXTS), min_size=1, max_size=5, unique=True),
    attribute=st.sampled_from(sorted(FIELDS)),
)
@example(values=["*", "a", "a*", "A", "a b", " a", "a|b", "$card"], attribute="card")
@example(values=["*}) | @card:{*", "%a%", "-a", "\\", "é", "e\u0301"], attribute="device")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_finds_exactly_the_document_that_holds_it(
    client: redis.Redis, values: list[str], attribute: str
) -> None:
    client.flushall()
    documents = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=10)
    documents.prepare()
    # One that holds none of the values, for a query that was understood to find.
    documents.decide([an_assessment(99)])
    documents.decide(
        [
            an_assessment(n, transaction=a_transaction(n, **{FIELDS[attribute]: value}))
            for n, value in enumerate(values)
        ]
    )
    for number, value in enumerate(values):
        assert found(client, a_query(attribute, value)) == {f"tx_{number}"}


@given(text=st.one_of(SYNTAX, TEXTS))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_text_that_no_document_holds_finds_none(client: redis.Redis, text: str) -> None:
    client.flushall()
    documents = RedisDocuments(client, form=FORM, ttl_s=3600, alerts_max_length=10)
    documents.prepare()
    documents.decide([an_assessment(1)])
    for attribute in ("card", "merchant", "device", "reason"):
        if text.lower() not in ("card_1", "merchant_1"):
            assert found(client, a_query(attribute, text)) == set()


@pytest.mark.parametrize("text", ["", "\0", "card_1\0x"])
def test_what_the_index_cannot_hold_is_refused(client: redis.Redis, text: str) -> None:
    with pytest.raises(Rejected, match="card: expected a text"):
        RedisSearch(client, 1.0).search(Query(card=text))
