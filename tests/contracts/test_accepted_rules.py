"""What is promised of the last good set of rules, on the fake, a real Redis and a cluster."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from consumer.adapters.redis.accepted_rules import RedisAcceptedRules
from consumer.adapters.redis.connection import connect
from consumer.errors import Unavailable
from consumer.local.redis_server import RedisServer
from consumer.ports import AcceptedRules
from tests.fakes.accepted_rules import FakeAcceptedRules
from tests.redis_cluster import RedisCluster


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(modules=False) as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster(modules=False) as running:
        yield running


@pytest.fixture(params=["fake", "redis", "cluster"])
def accepted(request: pytest.FixtureRequest) -> Iterator[AcceptedRules]:
    if request.param == "fake":
        yield FakeAcceptedRules()
        return
    running: RedisServer | RedisCluster = request.getfixturevalue(
        "server" if request.param == "redis" else "cluster"
    )
    with closing(connect(running.url, connect_timeout_s=2, timeout_s=2)) as client:
        if isinstance(running, RedisCluster):
            running.clear()
        else:
            client.flushall()
        with closing(RedisAcceptedRules(client)) as store:
            yield store


def test_nothing_is_there_before_something_is(accepted: AcceptedRules) -> None:
    assert (accepted.read(), accepted.version()) == (None, None)


def test_what_was_kept_last_is_the_set(accepted: AcceptedRules) -> None:
    assert accepted.keep("a", b"one \x00 \xff")
    assert accepted.keep("b", b"two")
    assert accepted.keep("a", b"one \x00 \xff")
    assert (accepted.read(), accepted.version()) == (b"one \x00 \xff", "a")


def test_a_set_that_tripped_anywhere_is_not_kept(accepted: AcceptedRules) -> None:
    accepted.keep("a", b"one")
    accepted.trip("b", "a", b"one")
    assert not accepted.keep("b", b"two")
    assert accepted.version() == "a"
    assert accepted.keep("bb", b"other")


def test_a_set_that_trips_after_it_was_kept_gives_way_to_the_former(
    accepted: AcceptedRules,
) -> None:
    accepted.keep("a", b"one")
    accepted.keep("b", b"two")
    accepted.trip("b", "a", b"one")
    assert (accepted.read(), accepted.version()) == (b"one", "a")


def test_a_trip_leaves_a_third_set_alone(accepted: AcceptedRules) -> None:
    accepted.keep("c", b"three")
    accepted.trip("b", "a", b"one")
    assert accepted.version() == "c"


def test_a_trip_with_nothing_kept_keeps_the_former(accepted: AcceptedRules) -> None:
    accepted.trip("b", "a", b"one")
    assert accepted.read() == b"one"


def test_a_former_set_that_tripped_itself_is_not_brought_back(accepted: AcceptedRules) -> None:
    accepted.keep("b", b"two")
    accepted.trip("a", "b", b"two")
    accepted.trip("b", "a", b"one")
    assert (accepted.read(), accepted.version()) == (None, None)
    assert accepted.keep("c", b"three")


def test_a_person_may_accept_what_tripped(accepted: AcceptedRules) -> None:
    accepted.trip("b", "a", b"one")
    accepted.trip("c", "a", b"one")
    accepted.accept("b", b"two")
    assert accepted.version() == "b"
    assert accepted.keep("a", b"one")
    assert accepted.keep("b", b"two")
    assert not accepted.keep("c", b"three")


def test_a_trip_that_is_told_after_a_person_accepted_the_set_changes_nothing(
    accepted: AcceptedRules,
) -> None:
    accepted.keep("a", b"one")
    accepted.accept("b", b"two")
    accepted.keep("b", b"two")
    accepted.trip("b", "a", b"one")
    assert (accepted.read(), accepted.version()) == (b"two", "b")
    assert accepted.keep("b", b"two")


def test_what_a_person_accepted_may_trip_once_another_set_came_after_it(
    accepted: AcceptedRules,
) -> None:
    accepted.accept("b", b"two")
    accepted.keep("a", b"one")
    accepted.trip("b", "a", b"one")
    assert not accepted.keep("b", b"two")


def test_a_trip_told_twice_is_one(accepted: AcceptedRules) -> None:
    accepted.keep("a", b"one")
    for _ in range(2):
        accepted.trip("b", "a", b"one")
    accepted.accept("b", b"two")
    assert accepted.keep("b", b"two")


def test_the_newest_twenty_are_remembered(accepted: AcceptedRules) -> None:
    versions = [f"v{number}" for number in range(25)]
    for version in versions:
        accepted.trip(version, "a", b"one")
    assert [accepted.keep(version, b"") for version in versions[5:]] == [False] * 20
    assert accepted.keep("v4", b"four")


def test_what_does_not_answer_is_unavailable() -> None:
    fake = FakeAcceptedRules()
    fake.down = True
    nowhere = redis.Redis(port=1)
    stores: list[AcceptedRules] = [fake, RedisAcceptedRules(nowhere)]
    for store in stores:
        with pytest.raises(Unavailable):
            store.read()
        with pytest.raises(Unavailable):
            store.version()
        with pytest.raises(Unavailable):
            store.keep("a", b"one")
        with pytest.raises(Unavailable):
            store.accept("a", b"one")
        with pytest.raises(Unavailable):
            store.trip("b", "a", b"one")
    nowhere.close()
