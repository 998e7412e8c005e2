"""Commands are packed as redis-py packs them, in less time."""

import pytest
from redis.connection import Connection

from consumer.adapters.redis.cluster import Words, pack


@pytest.mark.parametrize(
    "commands",
    [
        [],
        [("PING",)],
        [("FCALL", "name", 1, "f:{card:ü}", b"\0\r\n\xff"), ("SET", "key", "", "EX", 10**12)],
        [("SET", "large", b"x" * 100_000)],
    ],
)
def test_our_bytes_are_those_of_redis_py(commands: list[Words]) -> None:
    assert pack(commands) == b"".join(Connection().pack_commands(commands))  # type: ignore[no-untyped-call]
