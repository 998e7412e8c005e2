"""A real Redis that is full, busy, restarted, forgetful or closed to us, and well again."""

import os
import signal
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import redis

from consumer.adapters.kinesis import EXIT_UNAVAILABLE
from consumer.adapters.redis.connection import command, connect
from consumer.local.redis_server import RedisServer
from tests.chaos.arena import Arena
from tests.chaos.faults import Act, Fault, Port
from tests.chaos.proxy import RedisProxy
from tests.chaos.registry import case
from tests.chaos.servers import (
    await_that,
    log_lines,
    note_refusals,
    refused,
    start_server,
    stopped,
    waits,
    working,
)
from tests.chaos.shard import ShardRun
from tests.chaos.traffic import NEAR

_EVERYTHING = 1_000
_WORDS = {
    "OOM": "maxmemory",
    "READONLY": "read only replica",
    "MISCONF": "MISCONF",
    "WRONGPASS": "invalid username-password pair",
    "NOPERM": "no permissions",
}
"""What a worker says when the server answers a code; redis-py leaves some codes out."""
_PATH = (Port.OBSERVE, Port.DECIDE, Port.NOTE_LABEL, Port.COUNT_LABEL)


def _stopping(arena: Arena, *ports: Port, url: str | None = None) -> ShardRun:
    """A shard in one delivery whose worker, on the Redis at *url*, stops at each of *ports*."""
    faults = [Fault(port, 2 - bool(index), act=Act.STOP) for index, port in enumerate(ports)]
    run = arena.shard(NEAR, faults=faults, REDIS__URL=url or arena.redis_url)
    run.smallest = run.largest = _EVERYTHING
    return run


@contextmanager
def _refusing(
    arena: Arena, run: ShardRun, code: str, begin: Callable[[], object], end: Callable[[], object]
) -> Iterator[None]:
    """Work *run*; from its stop on the server refuses with *code*, until it was heard thrice."""
    before, word = refused(arena.client, code), _WORDS[code]
    with working(run):
        with stopped(arena):
            begin()
        try:
            await_that(lambda: waits(run, word) >= 3, f"the worker hears of {code}")
            note_refusals(arena, refused(arena.client, code) - before)
            yield
        finally:
            end()
    assert run.exits == [0]


@case(
    "redis/memory is full, and then there is more",
    "what was not written waits for memory; what was written is not written again",
)
def _full(arena: Arena) -> None:
    client = arena.client
    run = _stopping(arena, Port.OBSERVE)
    with _refusing(
        arena,
        run,
        "OOM",
        lambda: client.config_set("maxmemory", "1mb"),
        lambda: client.config_set("maxmemory", "0"),
    ):
        pass


@case("redis/a primary that became a replica", "the worker waits until it is a primary again")
def _demoted(arena: Arena) -> None:
    run = _stopping(arena, Port.DECIDE)
    with _refusing(
        arena,
        run,
        "READONLY",
        lambda: command(arena.client, "REPLICAOF", "127.0.0.1", "1"),
        lambda: command(arena.client, "REPLICAOF", "NO", "ONE"),
    ):
        pass


@case(
    "redis/its disk takes no snapshot",
    "the worker waits until the disk is well, and goes on where it was",
)
def _no_disk(arena: Arena) -> None:
    server, client = start_server(arena, "--dir", str(arena.folder))
    arena.use_redis(server.url)
    # A folder of the snapshot's name, with something in it, cannot be replaced by it.
    blocked = arena.folder / "dump.rdb"

    def fail() -> None:
        (blocked / "full").mkdir(parents=True)
        client.config_set("save", "3600 1000000")
        _save(client, "err")

    def mend() -> None:
        (blocked / "full").rmdir()
        blocked.rmdir()
        _save(client, "ok")

    with _refusing(arena, _stopping(arena, Port.OBSERVE), "MISCONF", fail, mend):
        pass


def _save(client: redis.Redis, outcome: str) -> None:
    """Take a snapshot in the background and wait for its *outcome*."""
    with suppress(redis.ResponseError):
        client.bgsave()
    await_that(
        lambda: client.info("persistence")["rdb_last_bgsave_status"] == outcome,
        f"the snapshot ends {outcome}",
    )


@case(
    "redis/busy with somebody's script",
    "the worker waits until the script is killed, and goes on where it was",
)
def _busy(arena: Arena) -> None:
    client = arena.client
    run = _stopping(arena, Port.DECIDE)
    scripts: list[threading.Thread] = []

    def keep_busy() -> None:
        with (
            connect(arena.redis_url, connect_timeout_s=5, timeout_s=120) as other,
            suppress(redis.ResponseError),
        ):
            command(other, "EVAL", "while true do end", "0")

    client.config_set("busy-reply-threshold", 5)
    try:
        with working(run):
            with stopped(arena):
                scripts.append(threading.Thread(target=keep_busy))
                scripts[0].start()
            await_that(lambda: waits(run, "BUSY") >= 2, "the worker hears of the script")
            note_refusals(arena, waits(run, "BUSY"))
            client.script_kill()
    finally:
        scripts[0].join()
        client.config_set("busy-reply-threshold", 5_000)
    assert run.exits == [0]


@case(
    "redis/functions and scripts are forgotten at every step",
    "they are loaded again and the call repeated, without a wait",
    quick=True,
)
def _forgotten(arena: Arena) -> None:
    run = _stopping(arena, *_PATH, *_PATH)
    with working(run):
        for nth in range(1, 2 * len(_PATH) + 1):
            with stopped(arena, nth):
                arena.client.function_flush()
                arena.client.script_flush()
                arena.count.note()
    assert waits(run) == 0
    assert run.exits == [0]


_LOGGED = ("--appendonly", "yes", "--appendfsync", "always")


def _restarted(arena: Arena, *options: str, forget: bool) -> ShardRun:
    """
    Kill a server in the middle of a shard's work and start it again on its files.

    With *forget* its functions are gone before a worker reaches it.
    """
    files = ("--dir", str(arena.folder), "--enable-debug-command", "yes", *_LOGGED)
    with RedisServer(options=files) as first:
        proxy = arena.stack.enter_context(RedisProxy(first.url))
        arena.proxies.append(proxy)
        arena.use_redis(proxy.url)
        run = _stopping(arena, Port.OBSERVE, Port.DECIDE)
        with working(run):
            with stopped(arena, 1):
                pass
            with stopped(arena, 2):
                proxy.refuse()
                assert first.pid is not None
                os.kill(first.pid, signal.SIGKILL)
                arena.count.note()
            again, client = start_server(arena, *files, *options)
            if forget:
                client.function_flush()
            proxy.switch(again.url)
            proxy.heal()
    return run


def _check_restart(forget: bool, arena: Arena) -> None:  # noqa: FBT001 - by partial
    run = _restarted(arena, forget=forget)
    assert waits(run) > 0
    assert run.exits == [0]


for _forget in (False, True):
    case(
        f"redis/killed and started again with its data{', without its functions' * _forget}",
        "everything that was acknowledged is there, and what was under way is done once",
    )(partial(_check_restart, _forget))


_USER = "chaos"


def _let_in(client: redis.Redis, password: str, *rules: str) -> None:
    command(client, "ACL", "SETUSER", _USER, "on", "resetpass", f">{password}", *rules)


@contextmanager
def _a_user(arena: Arena) -> Iterator[str]:
    """A user who may do everything; its address."""
    client = arena.client
    _let_in(client, "one", "~*", "&*", "+@all")
    try:
        yield arena.redis_url.replace("redis://", f"redis://{_USER}:one@")
    finally:
        command(client, "ACL", "DELUSER", _USER)


@case(
    "redis/the password is changed in mid-run, and changed back",
    "the worker is refused, says why, waits, and goes on",
)
def _wrong_password(arena: Arena) -> None:
    client = arena.client

    def change() -> None:
        _let_in(client, "two")
        command(client, "CLIENT", "KILL", "USER", _USER)

    with _a_user(arena) as url:
        run = _stopping(arena, Port.DECIDE, url=url)
        with _refusing(arena, run, "WRONGPASS", change, lambda: _let_in(client, "one")):
            text = run.log.read_text()
            assert ":one@" not in text, "the password is in the log"


@case(
    "redis/the right to call functions is taken away, and given back",
    "the worker is refused, says why, waits, and goes on",
)
def _no_permission(arena: Arena) -> None:
    client = arena.client
    with _a_user(arena) as url:
        run = _stopping(arena, Port.OBSERVE, url=url)
        with _refusing(
            arena,
            run,
            "NOPERM",
            lambda: _let_in(client, "one", "-fcall"),
            lambda: _let_in(client, "one", "+fcall"),
        ):
            pass


def _certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that is its own authority, and the server's side of it."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*words, "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


@case(
    "redis/TLS with a certificate nobody vouches for",
    "the worker waits, then leaves with 75 and says why; with the right one it starts",
)
def _wrong_certificate(arena: Arena) -> None:
    wanted, right = _certificate(arena.folder, "right")
    _, wrong = _certificate(arena.folder, "wrong")

    def url_of(proxy: RedisProxy) -> str:
        return proxy.url.replace("redis://", "rediss://") + f"?ssl_ca_certs={wanted}"

    with (
        RedisProxy(arena.redis_url, wrong) as refused_one,
        RedisProxy(arena.redis_url, right) as trusted,
    ):
        arena.proxies += [refused_one, trusted]
        run = arena.shard(NEAR)
        with run.owner(
            REDIS__URL=url_of(refused_one), REDIS__OUTAGE_LIMIT_S="0.8", REDIS__TIMEOUT_S="0.6"
        ) as owner:
            assert not owner.run()
        assert waits(run, "CERTIFICATE_VERIFY_FAILED") > 0
        run.work(REDIS__URL=url_of(trusted))
    assert run.exits == [EXIT_UNAVAILABLE, 0]
    (left,) = log_lines(run, "leaving without a checkpoint")
    assert "CERTIFICATE_VERIFY_FAILED" in left["error"]
