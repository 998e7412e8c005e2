"""What the live page asks Redis, of a single server and of a cluster."""

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import orjson
import pytest
import redis

from consumer.adapters.redis.alerts import RedisAlerts
from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.figures import RedisFigures
from consumer.alert_log import START, place_of
from consumer.document import DocumentFormat
from consumer.errors import Unavailable
from consumer.live_figures import Glimpse
from consumer.local.redis_server import RedisServer
from consumer.model import Decision, Outcome, Scores
from tests.builders import NOON, a_transaction, an_assessment, an_origin
from tests.redis_cluster import RedisCluster

FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")
NOON_S = int(NOON.timestamp())


@pytest.fixture(scope="module", params=["server", "cluster"])
def address(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    if request.param == "server":
        with RedisServer(directory=tmp_path_factory.mktemp("redis")) as server:
            yield server.url
    else:
        with RedisCluster() as cluster:
            yield cluster.url


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[redis.Redis]:
    with closing(connect(address, connect_timeout_s=2, timeout_s=5)) as client:
        yield client


@pytest.fixture(scope="module")
def documents(client: redis.Redis) -> Iterator[RedisDocuments]:
    with closing(RedisDocuments(client, form=FORM, ttl_s=600, alerts_max_length=100_000)) as store:
        store.prepare()
        yield store


def decide(documents: RedisDocuments, number: int, outcome: Outcome, fraud: float | None) -> None:
    second = timedelta(seconds=number % 10)
    origin = an_origin(number)
    documents.decide(
        [
            an_assessment(
                number,
                transaction=a_transaction(number, event_time=NOON + second),
                origin=origin,
                scores=Scores(fraud, 1.0, degraded=() if fraud is not None else ("fraud:timeout",)),
                decision=Decision(outcome, ()),
                decided_ms=origin.received_ms + 7,
            )
        ]
    )


def test_decisions_are_counted_by_second_outcome_and_score(
    client: redis.Redis, documents: RedisDocuments
) -> None:
    for number in range(100):
        outcome = Outcome.DECLINE if number % 5 == 0 else Outcome.APPROVE
        decide(documents, number, outcome, None if number % 10 == 3 else number / 99)
    with closing(RedisFigures(client)) as figures:
        tally = figures.tally(NOON_S + 2, NOON_S + 6)
    assert tally.outcomes == {
        (NOON_S + 2, "approve"): 10,
        (NOON_S + 3, "approve"): 10,
        (NOON_S + 4, "approve"): 10,
        (NOON_S + 5, "decline"): 10,
    }
    assert sum(count for (second, _), count in tally.bands.items() if second == NOON_S + 3) == 0
    assert sum(count for (second, _), count in tally.bands.items() if second == NOON_S + 4) == 10
    assert not tally.partial


def test_a_probability_of_one_is_in_the_last_band(
    client: redis.Redis, documents: RedisDocuments
) -> None:
    decide(documents, 1_019, Outcome.DECLINE, 1.0)
    with closing(RedisFigures(client)) as figures:
        bands = figures.tally(NOON_S + 9, NOON_S + 10).bands
    assert max(band for _, band in bands) == 19


def test_some_of_a_second_tell_how_long_they_took(
    client: redis.Redis, documents: RedisDocuments
) -> None:
    for number in (2_003, 2_013, 2_023):
        decide(documents, number, Outcome.APPROVE, None)
    with closing(RedisFigures(client)) as figures:
        found = figures.glimpse(NOON_S + 3, NOON_S + 4, 200)
        assert len(found) >= 3
        assert set(found) == {Glimpse(7, ("fraud:timeout",))}
        assert len(figures.glimpse(NOON_S, NOON_S + 10, 4)) == 4
        assert figures.glimpse(NOON_S - 10, NOON_S, 4) == []
        assert figures.tally(NOON_S - 10, NOON_S).outcomes == {}


def test_pages_of_alerts_together_are_everything_once_while_more_come(
    client: redis.Redis, documents: RedisDocuments
) -> None:
    def write() -> None:
        with closing(
            RedisDocuments(client, form=FORM, ttl_s=600, alerts_max_length=100_000)
        ) as own:
            for number in range(3_000, 3_300):
                decide(own, number, Outcome.REVIEW, 0.5)

    with closing(RedisAlerts(client)) as alerts:
        cursor = alerts.newest(1).cursor
        writer = threading.Thread(target=write)
        writer.start()
        found: list[str] = []
        while len(found) < 300 and (writer.is_alive() or alerts.after(cursor, 1).entries):
            page = alerts.after(cursor, 7)
            assert len(page.entries) <= 7
            assert not page.lost
            found += [orjson.loads(each.alert)["transaction_id"] for each in page.entries]
            assert place_of(page.cursor) >= place_of(cursor)
            cursor = page.cursor
        writer.join()
        assert found == [f"tx_{number}" for number in range(3_000, 3_300)]
        assert alerts.after(cursor, 7).entries == ()
        assert [each.cursor for each in alerts.newest(3).entries][-1] == cursor


def test_a_capped_stream_says_what_it_lost(address: str) -> None:
    with closing(connect(address, connect_timeout_s=2, timeout_s=5)) as client:
        _try_a_capped_stream(client)


def _try_a_capped_stream(client: redis.Redis) -> None:
    with closing(RedisAlerts(client)) as alerts:
        servers = alerts._servers
        every = alerts.after(START, 100_000).entries
        early, late = every[3].cursor, every[-3].cursor
        servers.command("alerts", "XTRIM", "alerts", "MAXLEN", "=", "5")
        assert alerts.after(early, 10).lost
        assert [each.cursor for each in alerts.after(early, 10).entries] == [
            each.cursor for each in every[-5:]
        ]
        assert not alerts.after(late, 10).lost
        assert [each.cursor for each in alerts.after(late, 10).entries] == [
            each.cursor for each in every[-2:]
        ]
        servers.command("alerts", "DEL", "alerts")
        gone = alerts.after(late, 10)
        assert (gone.entries, gone.cursor, gone.lost) == ((), START, True)
        assert alerts.newest(5).cursor == START


def test_without_a_stream_there_are_no_alerts_and_that_is_no_loss(tmp_path: Path) -> None:
    with (
        RedisServer(directory=tmp_path, modules=False) as server,
        closing(connect(server.url, connect_timeout_s=2, timeout_s=5)) as client,
        closing(RedisAlerts(client)) as alerts,
    ):
        page = alerts.after(START, 10)
        assert (page.entries, page.cursor, page.lost) == ((), START, False)
        command(client, "SET", "alerts", "no stream")
        with pytest.raises(Unavailable, match="WRONGTYPE"):
            alerts.after(START, 10)
