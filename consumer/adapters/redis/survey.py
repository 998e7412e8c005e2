"""Facts about Redis servers, for the preflight: of a cluster about every primary."""

from contextlib import closing
from typing import Any

import redis

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import command, translated
from consumer.adapters.redis.index import INDEX, find_indexes
from consumer.adapters.redis.search import ATTRIBUTES, ask
from consumer.checkup import IndexFacts, ServerFacts

_SAMPLE = 20


def survey_servers(client: redis.Redis) -> dict[str, ServerFacts]:
    """
    Ask each server behind the address what it says of itself. Raises Unavailable.

    The primaries of a cluster are named ``host:port``, a single server by an empty text.
    A cluster in which a slot has no primary counts as unavailable.
    """
    with translated(), closing(Servers(client)) as servers:
        if not servers.clustered:
            return {"": _survey(client)}
        servers.demand_all_slots()
        return {_name(primary): _survey(primary) for primary in servers.primaries}


def survey_index(client: redis.Redis) -> IndexFacts:
    """
    The index on all primaries, and what one document takes, from a sample. Raises Unavailable.

    ``MEMORY USAGE`` of the documents last written, and their share of the index.
    """
    with translated(), closing(Servers(client)) as servers:
        words = ("FT.SEARCH", INDEX, "*", "SORTBY", "time", "DESC", "NOCONTENT")
        replies = ask(servers, (*words, "LIMIT", "0", str(_SAMPLE)))
        # Where the servers coordinate, one of them has told of all.
        places = list(find_indexes(servers).items())[: len(replies)]
        infos: list[Any] = [command(primary, "FT.INFO", name) for primary, name in places]
        primaries = len(servers.primaries)
        keys = [result[b"id"].decode() for reply in replies for result in reply[b"results"]]
        sizes = [servers.command(key, "MEMORY", "USAGE", key) for key in keys]
    documents = sum(int(reply[b"total_results"]) for reply in replies)
    index_bytes = sum(float(info[b"total_index_memory_sz_mb"]) for info in infos) * 2**20
    measured = [size for size in sizes if size is not None]
    return IndexFacts(
        documents=documents,
        failures=sum(int(info[b"hash_indexing_failures"]) for info in infos),
        missing=tuple(name for name in ATTRIBUTES if any(name not in _known(i) for i in infos)),
        document_bytes=(
            round(sum(measured) / len(measured) + index_bytes / max(1, documents))
            if len(measured) >= _SAMPLE
            else None
        ),
        primaries=primaries,
    )


def _survey(client: redis.Redis) -> ServerFacts:
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


def _name(client: redis.Redis) -> str:
    options = client.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}"


def _known(info: dict[bytes, list[dict[bytes, bytes]]]) -> set[str]:
    return {attribute[b"attribute"].decode() for attribute in info[b"attributes"]}


def _saves(client: redis.Redis) -> bool:
    """Whether snapshots are on; a managed server that does not tell is believed to keep data."""
    try:
        answer = client.config_get("save")
    except redis.RedisError:
        return True
    return any(answer.values())


def _number(info: dict[str, object], name: str) -> int:
    return int(str(info.get(name, 0)))
