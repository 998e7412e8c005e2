"""
The index of decision documents, on every primary.

A cluster whose servers do not coordinate searches takes the name of an index for a key
and refuses it where its slot is not, and each indexes its own documents only. There a
primary's index has a name of one of its slots: ``idx:tx:<number>``.
"""

from itertools import count

import redis

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import command

INDEX = "idx:tx"
PREFIX = "tx:"

_CREATE = (
    *("ON", "JSON", "PREFIX", "1", PREFIX, "SCHEMA"),
    *("$.transaction.card_id", "AS", "card", "TAG", "CASESENSITIVE"),
    *("$.transaction.merchant_id", "AS", "merchant", "TAG", "CASESENSITIVE"),
    *("$.transaction.device_id", "AS", "device", "TAG", "CASESENSITIVE"),
    *("$.event_ms", "AS", "time", "NUMERIC", "SORTABLE"),
    *("$.transaction.base_amount", "AS", "amount", "NUMERIC", "SORTABLE"),
    *("$.decision.outcome", "AS", "decision", "TAG"),
    *("$.decision.reasons[*]", "AS", "reason", "TAG"),
    *("$.scores.fraud", "AS", "fraud_score", "NUMERIC", "SORTABLE"),
    *("$.scores.anomaly", "AS", "anomaly_score", "NUMERIC", "SORTABLE"),
    *("$.label.label", "AS", "label", "TAG"),
)


def create_indexes(servers: Servers) -> None:
    """Create the index on every primary that has none. Raises redis.RedisError."""
    for primary in servers.primaries:
        if _find(servers, primary) is None:
            try:
                command(primary, "FT.CREATE", INDEX, *_CREATE)
            except redis.exceptions.MovedError:
                name = next(
                    name
                    for number in count()
                    if servers.owner(name := f"{INDEX}:{number}") is primary
                )
                command(primary, "FT.CREATE", name, *_CREATE)
            except redis.ResponseError as error:
                # Another process was first, or another primary told this one.
                if "already exists" not in str(error):
                    raise


def find_indexes(servers: Servers) -> dict[redis.Redis, str]:
    """Return the name of the index by primary, ``INDEX`` where there is none yet."""
    if not servers.clustered:
        return dict.fromkeys(servers.primaries, INDEX)
    return {primary: _find(servers, primary) or INDEX for primary in servers.primaries}


def _find(servers: Servers, primary: redis.Redis) -> str | None:
    """Return what the index is called at *primary*, of several what can be used there."""
    names = sorted(
        name
        for name in (each.decode() for each in command(primary, "FT._LIST"))
        if name == INDEX or name.startswith(f"{INDEX}:")
    )
    local = [name for name in names if servers.owner(name) is primary]
    # Where servers coordinate, the one name serves at each of them.
    return next(iter([*local, *(name for name in names if name == INDEX)]), None)
