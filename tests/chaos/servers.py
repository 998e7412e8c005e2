"""What cases of Redis need: servers of their own, what they refused, what workers waited for."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import redis

from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import PREFIX
from consumer.local.redis_server import RedisServer
from tests.chaos.arena import Arena
from tests.chaos.shard import ShardRun

_PATIENCE_S = 60.0


def await_that(look: Callable[[], object], what: str) -> None:
    """Wait until *look* gives something true. Raises AssertionError after a minute."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not look():
        assert time.monotonic() < deadline_s, f"not within {_PATIENCE_S:.0f} s: {what}"
        time.sleep(0.02)


@contextmanager
def working(run: ShardRun) -> Iterator[None]:
    """``run.work()`` beside the block, which ends when all is worked; raises what it raised."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            run.work()
        except BaseException as error:  # noqa: BLE001 - raised again in the case's own thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if failures:
        raise failures[0]


def log_lines(run: ShardRun, event: str) -> list[Mapping[str, Any]]:
    """What the workers of *run* logged as *event* so far."""
    if not run.log.exists():
        return []
    # What is not JSON is of the interpreter; the last line may be half written.
    found = [line for line in run.log.read_bytes().splitlines(keepends=True) if line[:1] == b"{"]
    lines = [orjson.loads(line) for line in found if line.endswith(b"}\n")]
    return [line for line in lines if line["event"] == event]


def waits(run: ShardRun, word: str = "") -> int:
    """How often the workers of *run* logged that they wait for Redis, because of *word*."""
    return sum(
        line["dependency"] == "redis" and word in line["error"]
        for line in log_lines(run, "waiting")
    )


def refused(client: redis.Redis, code: str) -> int:
    """How often the server answered an error that begins with *code*."""
    facts: dict[str, Any] = client.info("errorstats")
    return int(facts.get(f"errorstat_{code}", {"count": 0})["count"])


def note_refusals(arena: Arena, number: int) -> None:
    """Count *number* refusals of a server as injected, now."""
    assert number > 0, "the server refused nothing"
    for _ in range(number):
        arena.count.note()


@contextmanager
def stopped(arena: Arena, nth: int = 1) -> Iterator[None]:
    """Wait until the *nth* fault of the newest shard has stopped its worker; go on after it."""
    folder = arena.folders[-1]
    await_that(lambda: len(folder.fired()) >= nth, "a worker reaches the next fault")
    pid = folder.fired()[nth - 1].pid
    # The state stands behind the name, which may hold anything; see proc(5).
    stat = Path(f"/proc/{pid}/stat")
    await_that(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the worker stops")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def start_server(arena: Arena, *options: str) -> tuple[RedisServer, redis.Redis]:
    """A Redis with JSON and Search that the case has to itself, and a client of it."""
    server = arena.stack.enter_context(RedisServer(options=options))
    client = connect(server.url, connect_timeout_s=5, timeout_s=30)
    return server, arena.stack.enter_context(closing(client))


def port_of(server: RedisServer) -> str:
    """The port of *server*, in digits."""
    return server.url.rsplit(":", 1)[1].partition("/")[0]


def replicate(client: redis.Redis, primary: RedisServer) -> None:
    """Make the server of *client* a replica of *primary* and wait until it has everything."""
    command(client, "REPLICAOF", "127.0.0.1", port_of(primary))
    await_that(
        lambda: client.info("replication").get("master_link_status") == "up",
        "the replica is in step",
    )


def cut_replication(client: redis.Redis) -> None:
    """Let a replica listen to nobody; it keeps what it has."""
    command(client, "REPLICAOF", "127.0.0.1", "1")


def in_step(primary: redis.Redis, replica: redis.Redis) -> bool:
    """Whether the replica has all that the primary wrote."""
    written: dict[str, Any] = primary.info("replication")
    received: dict[str, Any] = replica.info("replication")
    return bool(received.get("slave_repl_offset") == written["master_repl_offset"])


def names_of_documents(client: redis.Redis) -> set[str]:
    """The transaction ids that have a document at one server."""
    keys = client.scan_iter(match=f"{PREFIX}*", count=1_000)
    return {key.decode().removeprefix(PREFIX) for key in keys}
