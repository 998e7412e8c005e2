"""What is promised of the text beside entity state: in memory, on a Redis, on a cluster."""

from collections.abc import Iterator
from contextlib import closing
from typing import Protocol

import pytest

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.warmth import RedisWarmth
from consumer.errors import Unavailable
from consumer.local.redis_server import RedisServer
from consumer.ports import WarmthStore
from tests.fakes.warmth import FakeWarmth
from tests.redis_cluster import RedisCluster


class Place(Protocol):
    """A store, another one at the same place, and a way to break both."""

    port: WarmthStore
    other: WarmthStore

    def lose(self) -> None: ...
    def fail(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.fake = FakeWarmth()
        self.port: WarmthStore = self.fake
        self.other: WarmthStore = self.fake

    def lose(self) -> None:
        self.fake.stands = None

    def fail(self) -> None:
        self.fake.fail(1)


class InRedis:
    def __init__(self, servers: list[RedisServer], port: WarmthStore, other: WarmthStore) -> None:
        self.servers, self.port, self.other = servers, port, other

    def lose(self) -> None:
        for server in self.servers:
            with connect(server.url, connect_timeout_s=2, timeout_s=2) as client:
                client.flushall()
                client.function_flush()

    def fail(self) -> None:
        for server in self.servers:
            server.stop()


@pytest.fixture(params=["fake", "redis", "cluster"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "fake":
        yield InMemory()
        return
    opened = RedisServer(modules=False) if request.param == "redis" else RedisCluster(modules=False)
    with (
        opened as servers,
        connect(servers.url, connect_timeout_s=2, timeout_s=2) as client,
        connect(servers.url, connect_timeout_s=2, timeout_s=2) as another,
        closing(RedisWarmth(client)) as port,
        closing(RedisWarmth(another)) as other,
    ):
        each = [servers] if isinstance(servers, RedisServer) else list(servers.servers)
        yield InRedis(each, port, other)


def test_nothing_stands_at_first(place: Place) -> None:
    assert place.port.read() is None


def test_what_is_expected_is_replaced_and_stays_for_all(place: Place) -> None:
    assert place.port.swap(None, b"one") == b"one"
    assert place.other.swap(b"one", b"two") == b"two"
    assert place.port.read() == b"two"


def test_what_another_wrote_stays_and_is_told(place: Place) -> None:
    place.other.swap(None, b"theirs")
    assert place.port.swap(None, b"ours") == b"theirs"
    assert place.port.swap(b"former", b"ours") == b"theirs"
    assert place.port.read() == b"theirs"


def test_a_repetition_changes_nothing_and_is_answered_alike(place: Place) -> None:
    place.port.swap(None, b"one")
    assert place.port.swap(b"one", b"two") == b"two"
    assert place.port.swap(b"one", b"two") == b"two"


def test_what_was_lost_with_everything_begins_anew(place: Place) -> None:
    place.port.swap(None, b"one")
    place.lose()
    assert place.port.swap(b"one", b"two") is None
    assert place.port.swap(None, b"two") == b"two"


def test_a_store_that_does_not_answer_is_unavailable(place: Place) -> None:
    place.port.swap(None, b"one")
    place.fail()
    with pytest.raises(Unavailable, match="redis"):
        place.port.swap(b"one", b"two")
