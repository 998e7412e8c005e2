"""Facts about a Redis server, for the preflight."""

from contextlib import closing

import redis

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import command, translated
from consumer.adapters.redis.index import PREFIX, find_indexes
from consumer.adapters.redis.search import ATTRIBUTES
from consumer.checkup import IndexFacts, ServerFacts

_SAMPLE = 20


def survey_server(client: redis.Redis) -> ServerFacts:
    """What the server says of itself. Raises Unavailable."""
    with translated():
        info: dict[str, object] = client.info()
        seconds, micros = command(client, "TIME")
        modules: list[dict[bytes, bytes]] = command(client, "MODULE", "LIST")
    return ServerFacts(
        version=tuple(int(part) for part in str(info["redis_version"]).split(".")),
        modules=frozenset(module[b"name"].decode().lower() for module in modules),
        policy=str(info.get("maxmemory_policy", "noeviction")),
        # A server that hides its configuration shows here whether it saves.
        persistent=bool(info.get("aof_enabled")) or _saves(client),
        replicas=_number(info, "connected_slaves"),
        used_bytes=_number(info, "used_memory"),
        max_bytes=_number(info, "maxmemory"),
        machine_bytes=_number(info, "total_system_memory"),
        time_ms=int(seconds) * 1_000 + int(micros) // 1_000,
    )


def survey_index(client: redis.Redis) -> IndexFacts:
    """
    The index, and what one document takes, from a sample. Raises Unavailable.

    ``MEMORY USAGE`` of the documents last written, and their share of the index.
    """
    with translated(), closing(Servers(client)) as servers:
        # Slots are spread evenly, so one primary of a cluster stands for all.
        client, name = next(iter(find_indexes(servers).items()))
        info = command(client, "FT.INFO", name)
        found = command(
            client,
            *("FT.SEARCH", name, "*", "SORTBY", "time", "DESC", "NOCONTENT"),
            *("LIMIT", "0", str(_SAMPLE)),
        )
        keys = [result[b"id"] for result in found[b"results"]]
        sizes = [command(client, "MEMORY", "USAGE", key) for key in keys if key.startswith(_PREFIX)]
    known = {attribute[b"attribute"].decode() for attribute in info[b"attributes"]}
    documents = int(info[b"num_docs"])
    share = float(info[b"total_index_memory_sz_mb"]) * 2**20 / max(1, documents)
    measured = [size for size in sizes if size is not None]
    return IndexFacts(
        documents=documents,
        failures=int(info[b"hash_indexing_failures"]),
        missing=tuple(name for name in ATTRIBUTES if name not in known),
        document_bytes=(
            round(sum(measured) / len(measured) + share) if len(measured) == _SAMPLE else None
        ),
    )


def _saves(client: redis.Redis) -> bool:
    """Whether snapshots are on; a managed server that does not tell is believed to keep data."""
    try:
        answer = client.config_get("save")
    except redis.RedisError:
        return True
    return any(answer.values())


def _number(info: dict[str, object], name: str) -> int:
    return int(str(info.get(name, 0)))


_PREFIX = PREFIX.encode()
