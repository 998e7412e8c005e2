"""Embedded Redis servers as a cluster: three primaries, replicas where asked, moving slots."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

import redis

from consumer.adapters.redis.connection import command, connect
from consumer.local.redis_server import RedisServer

_SLOTS = 16_384
_PATIENCE_S = 20.0


class RedisCluster:
    """A cluster that is ready for commands when entered; gone when left."""

    def __init__(self, *, modules: bool = True, replicas: bool = False, primaries: int = 3) -> None:
        self._stack = ExitStack()
        self._modules = modules
        self._replicas = replicas
        self._count = primaries
        self.servers: list[RedisServer] = []
        self.clients: list[redis.Redis] = []
        self.replicas: list[redis.Redis] = []
        self.replica_servers: list[RedisServer] = []

    @property
    def url(self) -> str:
        """The address of one primary, from which the others are found."""
        return self.servers[0].url

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            starting.push(self._stack)
            for _ in range(self._count):
                self._start(self.servers, self.clients)
            self._assign()
            if self._replicas:
                self._replicate()
            starting.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def clear(self) -> None:
        """Empty every primary and forget its functions; its indexes go with FLUSHALL."""
        for client in self.clients:
            client.flushall()
            client.function_flush()

    def _start(self, servers: list[RedisServer], clients: list[redis.Redis]) -> None:
        options = (
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
            *("--repl-diskless-sync-delay", "0"),
        )
        server = self._stack.enter_context(RedisServer(modules=self._modules, options=options))
        client = connect(server.url, connect_timeout_s=2, timeout_s=5)
        self._stack.callback(client.close)
        servers.append(server)
        clients.append(client)

    def _assign(self) -> None:
        share = -(-_SLOTS // self._count)
        for index, client in enumerate(self.clients):
            first, last = index * share, min((index + 1) * share, _SLOTS) - 1
            command(client, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        self._meet(self.clients)
        await_condition(lambda: all(is_up(client) for client in self.clients))

    def _meet(self, clients: list[redis.Redis]) -> None:
        for client in clients:
            for server in self.servers:
                command(client, "CLUSTER", "MEET", "127.0.0.1", _port(server))
        await_condition(lambda: all(_knows(client, len(self.servers)) for client in clients))

    def _replicate(self) -> None:
        for _ in self.servers:
            self._start(self.replica_servers, self.replicas)
        self._meet(self.replicas)
        for primary, replica in zip(self.clients, self.replicas, strict=True):
            command(replica, "CLUSTER", "REPLICATE", command(primary, "CLUSTER", "MYID"))
        await_condition(lambda: all(_linked(client) for client in self.clients))


class Moving:
    """One slot on its way from its primary to another."""

    def __init__(self, cluster: RedisCluster, slot: int) -> None:
        ranges = command(cluster.clients[0], "CLUSTER", "SLOTS")
        owner = next(row[2][2] for row in ranges if row[0] <= slot <= row[1])
        names = [command(client, "CLUSTER", "MYID") for client in cluster.clients]
        source = names.index(owner)
        target = (source + 1) % len(names)
        self.slot = slot
        self.clients = cluster.clients
        self.source, self.target = cluster.clients[source], cluster.clients[target]
        self._port = _port(cluster.servers[target])

    def begin(self) -> None:
        source, target = (command(each, "CLUSTER", "MYID") for each in (self.source, self.target))
        self._set(self.target, "IMPORTING", source)
        self._set(self.source, "MIGRATING", target)

    def left(self) -> list[bytes]:
        found: list[bytes] = command(
            self.source, "CLUSTER", "GETKEYSINSLOT", str(self.slot), "100000"
        )
        return sorted(found)

    def move(self, key: bytes) -> None:
        command(self.source, "MIGRATE", "127.0.0.1", self._port, key, "0", "5000")

    def end(self) -> None:
        for key in self.left():
            self.move(key)
        owner = command(self.target, "CLUSTER", "MYID")
        self._set(self.target, "NODE", owner)
        for client in self.clients:
            self._set(client, "NODE", owner)

    def _set(self, client: redis.Redis, *words: str | bytes) -> None:
        command(client, "CLUSTER", "SETSLOT", str(self.slot), *words)


@contextmanager
def a_moving_slot(cluster: RedisCluster, slot: int) -> Iterator[Moving]:
    moving = Moving(cluster, slot)
    moving.begin()
    try:
        yield moving
    finally:
        moving.end()


def _port(server: RedisServer) -> str:
    return server.url.rsplit(":", 1)[1].split("/")[0]


def is_up(client: redis.Redis) -> bool:
    """Whether a node sees every slot held."""
    return b"cluster_state:ok" in bytes(command(client, "CLUSTER", "INFO"))


def _knows(client: redis.Redis, others: int) -> bool:
    lines: list[bytes] = command(client, "CLUSTER", "NODES").splitlines()
    return sum(b"handshake" not in line for line in lines) >= others


def _linked(client: redis.Redis) -> bool:
    facts: dict[str, dict[str, object]] = client.info("replication")
    return facts.get("slave0", {}).get("state") == "online"


def await_condition(condition: Callable[[], bool]) -> None:
    """Wait until *condition* holds, which a cluster takes seconds for at most."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "the cluster did not come up"
        time.sleep(0.02)
