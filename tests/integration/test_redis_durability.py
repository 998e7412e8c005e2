"""A new connection is looked at before anything is sent on it."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import connect, translated
from consumer.adapters.redis.durability import RedisDurability
from consumer.errors import Replaced, Unavailable
from consumer.local.redis_server import RedisServer
from consumer.patience import Patience
from tests.chaos.proxy import RedisProxy
from tests.fakes.clock import FakeClock


@pytest.fixture
def servers() -> Iterator[tuple[RedisServer, RedisServer]]:
    with RedisServer(modules=False) as first, RedisServer(modules=False) as second:
        yield first, second


def test_nothing_is_sent_to_a_server_that_took_the_place_of_another(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    first, second = servers
    with (
        RedisProxy(first.url) as proxy,
        connect(proxy.url, connect_timeout_s=2, timeout_s=2) as asked,
    ):
        durability = RedisDurability([Servers(asked)], replicas=1, timeout_s=0.2)
        durability.begin()
        with connect(
            proxy.url, connect_timeout_s=2, timeout_s=2, inspect=durability.inspect
        ) as client:
            client.set("key", "1")
            proxy.cut_all()
            assert client.get("key") == b"1", "the same server may be reached anew"
            proxy.switch(second.url)
            for _ in range(2):
                with pytest.raises(Replaced, match="a primary was replaced"):
                    client.set("key", "2")
        assert durability.confirm() is False
    with closing(connect(second.url, connect_timeout_s=2, timeout_s=2)) as there:
        assert there.get("key") is None


def test_a_server_that_does_not_answer_is_no_other_server(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    first, _ = servers
    with (
        RedisProxy(first.url) as proxy,
        connect(proxy.url, connect_timeout_s=2, timeout_s=2) as asked,
    ):
        durability = RedisDurability([Servers(asked)], replicas=1, timeout_s=0.2)
        durability.begin()
        with connect(
            proxy.url, connect_timeout_s=2, timeout_s=2, inspect=durability.inspect
        ) as client:
            proxy.refuse()
            with pytest.raises(Unavailable) as raised, translated():
                client.ping()
            assert not isinstance(raised.value, Replaced)
            proxy.heal()
            assert client.ping()


def test_what_may_be_lost_is_not_waited_for() -> None:
    clock = FakeClock()
    heard: list[Unavailable] = []
    patience = Patience(clock, clock.sleep, 60.0, lambda error, _waited: heard.append(error))

    def attempt() -> None:
        raise Replaced("redis", "a primary was replaced")

    with pytest.raises(Replaced):
        patience.call(attempt)
    assert heard == []
