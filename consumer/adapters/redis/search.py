"""Questions to the index of decision documents; replies are RESP3's, which ``connect`` asks for."""

import redis

from consumer.adapters.redis.connection import command, translated
from consumer.adapters.redis.documents import INDEX


def count_documents(client: redis.Redis) -> int:
    """How many documents the index holds. Raises Unavailable."""
    with translated():
        reply = command(client, "FT.SEARCH", INDEX, "*", "LIMIT", "0", "0")
        return int(reply[b"total_results"])


def count_decisions(client: redis.Redis) -> dict[str, int]:
    """How many documents the index holds for each outcome. Raises Unavailable."""
    with translated():
        reply = command(
            client,
            *("FT.AGGREGATE", INDEX, "*", "GROUPBY", "1", "@decision"),
            *("REDUCE", "COUNT", "0", "AS", "count"),
        )
    rows = [result[b"extra_attributes"] for result in reply[b"results"]]
    return {row[b"decision"].decode(): int(row[b"count"]) for row in rows}
