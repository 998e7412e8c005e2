"""Connections to Redis that never send a command twice, and what their errors mean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.errors import Misconfigured, Problem, Unavailable

Client = redis.Redis
"""What ``connect`` returns, for those who must not name the vendor."""

Inspect = Callable[[Any], None]
"""Looks at a new connection of redis-py: ``send_command``, ``read_response``."""

_COMMAND_END = " of pipeline caused error: "


def connect(
    url: str, *, connect_timeout_s: float, timeout_s: float, inspect: Inspect | None = None
) -> redis.Redis:
    """
    Return a client for *url* (redis://, rediss:// or unix://); nothing is sent yet.

    redis-py would send a command whose reply was lost up to ten more times, and not all
    of ours may be repeated: whoever calls decides that, so its own retries are off.
    Replies are bytes. *inspect* sees each connection before anything is sent on it; what
    it raises is raised. Raises Misconfigured for a URL that cannot be read.
    """
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=connect_timeout_s,
            socket_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            decode_responses=False,
            protocol=3,
            health_check_interval=0,
            **({} if inspect is None else {"redis_connect_func": partial(_greet, inspect)}),
        )
    except ValueError as error:
        # The URL may hold a password, so it is described instead of repeated.
        expected = "redis://[user:password@]host[:port][/database], rediss://… or unix://…"
        problem = Problem("settings", "redis.url", "no address of a Redis", expected)
        raise Misconfigured([problem]) from error


def _greet(inspect: Inspect, connection: Any) -> None:
    """What redis-py does with a new connection, then *inspect*; it is closed if that raises."""
    connection.on_connect()
    try:
        inspect(connection)
    except BaseException:
        connection.disconnect()
        raise


@contextmanager
def translated() -> Iterator[None]:
    """
    Raise what Redis refuses or does not answer in here as Unavailable.

    The message is the server's or the socket's; it holds no password and no arguments of
    commands, which redis-py puts in front of errors in pipelines.
    """
    try:
        yield
    except redis.RedisError as error:
        message = str(error).rpartition(_COMMAND_END)[2]
        error.args = (message,)
        raise Unavailable("redis", message or type(error).__name__) from error


def refuse_eviction(client: redis.Redis, setting: str) -> None:
    """
    Raise Misconfigured where the server may throw keys away; *setting* names its URL.

    An evicted entity would count from zero, and an evicted document be decided again.
    A server that keeps its policy to itself is believed. Raises redis errors as they are.
    """
    memory: dict[str, object] = client.info("memory")
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        expected = "maxmemory-policy noeviction, so that no key is lost before its time"
        raise Misconfigured([Problem("redis", setting, f"maxmemory-policy {policy}", expected)])


def command(client: redis.Redis, *words: str | bytes) -> Any:
    """
    Send a command that redis-py has no typed method for and return its reply.

    ``JSON.*``, ``FT.*`` and ``MODULE LIST`` go this way: their own classes in
    redis-py build replies that this package does not need. Raises redis.RedisError.
    """
    return client.execute_command(*words)  # type: ignore[no-untyped-call]
