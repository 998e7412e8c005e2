"""Questions to the index of decision documents; replies are RESP3's, which ``connect`` asks for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import redis

from consumer.adapters.redis.cluster import Call, Servers, Words
from consumer.adapters.redis.connection import command, translated
from consumer.adapters.redis.index import INDEX, PREFIX, find_indexes
from consumer.errors import Rejected, Unavailable
from consumer.model import Outcome, TransactionId
from consumer.query import Page, Query, Range

_NO_INDEX = ("no such index", "unknown index name")


def count_documents(client: redis.Redis) -> int:
    """How many documents the index holds, on all primaries. Raises Unavailable."""
    with translated(), closing(Servers(client)) as servers:
        return _count(servers, "*")


def count_decisions(client: redis.Redis) -> dict[str, int]:
    """How many documents the index holds for each outcome that it has. Raises Unavailable."""
    # Not by FT.AGGREGATE: Search 2.10 loads no attribute on a server of a cluster.
    with translated(), closing(Servers(client)) as servers:
        counts = {str(each): _count(servers, f"@decision:{{{each}}}") for each in Outcome}
    return {outcome: count for outcome, count in counts.items() if count}


def _count(servers: Servers, question: str) -> int:
    # The first key as well, since it tells whether a primary answers for others too.
    words = ("FT.SEARCH", INDEX, question, "SORTBY", "time", "NOCONTENT", "LIMIT", "0", "1")
    return sum(int(reply[b"total_results"]) for reply in ask(servers, words))


class RedisSearch:
    """Reads decision documents of a server or a cluster with JSON and Search; writes nothing."""

    def __init__(self, client: redis.Redis, timeout_s: float) -> None:
        """*timeout_s* is what the server may take for a search; below the client's own."""
        self._servers = Servers(client)
        self._timeout_ms = str(max(1, round(timeout_s * 1000)))

    def read(self, transaction_id: TransactionId) -> bytes | None:
        """The stored document, or None when there is none (any more). Raises Unavailable."""
        with translated():
            key = PREFIX + transaction_id
            reply: bytes | None = self._servers.command(key, "JSON.GET", key)
            return reply

    def close(self) -> None:
        """Close the connections to further primaries of a cluster."""
        self._servers.close()

    def count(self) -> int:
        """How many documents the index holds, without looking at any. Raises Unavailable."""
        with _index_wanted():
            replies = _on_indexes(self._servers, ("FT.INFO", INDEX))
        # Where servers coordinate each tells of all, and the sum is no less than there are.
        return sum(int(reply[b"num_docs"]) for reply in replies)

    def search(self, query: Query) -> Page:
        """
        The page that *query* asks for.

        Raises Rejected for a value that the index cannot hold, and Unavailable,
        also while there is no index.
        """
        words = (*build_search(query), "TIMEOUT", self._timeout_ms)
        with _index_wanted():
            if self._servers.clustered:
                return self._merge(query, words)
            reply = command(self._servers.primaries[0], *words)
        # A document may expire between the search and the reading of its content.
        found = (result.get(b"extra_attributes", {}).get(b"$") for result in reply[b"results"])
        return Page(
            total=int(reply[b"total_results"]),
            documents=tuple(document for document in found if document is not None),
            partial=bool(reply.get(b"warning")),
        )

    def _merge(self, query: Query, words: Sequence[str]) -> Page:
        """
        Ask every primary for the keys of all pages up to the wanted one, and read its documents.

        What is sorted by is SORTABLE in the index: Search 2.10 loads no document there.
        Equal values are in the order of the primaries, so that pages neither repeat nor
        leave out a document.
        """
        first = replace(query, offset=0, limit=query.offset + query.limit)
        words = (*build_search(first), "NOCONTENT", "WITHSORTKEYS", *words[-2:])
        replies = ask(self._servers, words)
        found = [result for reply in replies for result in reply[b"results"]]
        found.sort(key=partial(_rank, ascending=query.ascending))
        keys = [result[b"id"].decode() for result in found[query.offset :][: query.limit]]
        documents = self._servers.call([Call(key, ("JSON.GET", key)) for key in keys])
        for document in documents:
            if isinstance(document, Exception):
                raise document
        return Page(
            total=sum(int(reply[b"total_results"]) for reply in replies),
            documents=tuple(document for document in documents if document is not None),
            partial=any(reply.get(b"warning") for reply in replies),
        )


@contextmanager
def _index_wanted() -> Iterator[None]:
    """Raise what Redis refuses in here as Unavailable, and say what a missing index means."""
    try:
        with translated():
            yield
    except Unavailable as error:
        if any(word in error.message.lower() for word in _NO_INDEX):
            message = f"there is no index {INDEX}: the daemon makes it when it first starts"
            raise Unavailable("redis", message) from error
        raise


def ask(servers: Servers, words: Words) -> list[Any]:
    """
    Return what every primary found of its own; one reply where the servers coordinate.

    Whoever answers with a document that lies elsewhere has asked the others already.
    """
    replies = _on_indexes(servers, words)
    for primary, reply in zip(servers.primaries, replies, strict=True):
        if any(servers.owner(result[b"id"]) is not primary for result in reply[b"results"]):
            return replies[:1]
    return replies


def _on_indexes(servers: Servers, words: Words) -> list[Any]:
    """Ask every primary, with the name of its index as the second of *words*."""
    replies = servers.on_each(
        {primary: [(words[0], name, *words[2:])] for primary, name in find_indexes(servers).items()}
    )
    return [reply for (reply,) in replies]


def _rank(result: Mapping[bytes, Any], *, ascending: bool) -> tuple[bool, float]:
    """Order by the sort key (``#`` and a number); those without one come last."""
    key = result[b"sortkey"]
    if key is None:
        return True, 0.0
    value = float(key[1:])
    return False, value if ascending else -value


def build_search(query: Query) -> list[str]:
    """
    The words of the FT.SEARCH command that answers *query*.

    No value becomes a part of the query's text: each travels as a parameter, whose
    characters mean themselves. Only a backslash does not: the server drops it before
    punctuation and space (Search 2.10), so each is doubled. Raises Rejected for an
    empty value and for one with a NUL, at which the server would cut it.
    """
    clauses: list[str] = []
    parameters: list[str] = []
    for attribute, value in _tags(query).items():
        if value is None:
            continue
        values = (value, *query.former_tokens.get(attribute, ()))
        # The first is named as the attribute, further ones card_1, card_2 …
        names = [f"{attribute}_{place}" if place else attribute for place in range(len(values))]
        for name, wanted in zip(names, values, strict=True):
            if not wanted or "\0" in wanted:
                raise Rejected("bad_query", f"{attribute}: expected a text, not empty, without NUL")
            parameters += [name, wanted.replace("\\", "\\\\")]
        clauses.append(f"@{attribute}:{{{'|'.join(f'${name}' for name in names)}}}")
    for attribute, limits in _ranges(query).items():
        if limits == Range():
            continue
        low, high = f"{attribute}_low", f"{attribute}_high"
        clauses.append(f"@{attribute}:[${low} ${high}]")
        parameters += [low, _number(limits.low, "-inf"), high, _number(limits.high, "+inf")]
    return [
        *("FT.SEARCH", INDEX, " ".join(clauses) or "*"),
        *(["PARAMS", str(len(parameters)), *parameters] if parameters else []),
        *("SORTBY", query.order, "ASC" if query.ascending else "DESC"),
        *("RETURN", "1", "$", "LIMIT", str(query.offset), str(query.limit), "DIALECT", "2"),
    ]


def _tags(query: Query) -> dict[str, str | None]:
    """Attribute of the index → the value wanted."""
    return {
        "card": query.card,
        "merchant": query.merchant,
        "device": query.device,
        "decision": query.decision,
        "reason": query.reason,
        "label": query.label,
    }


def _ranges(query: Query) -> dict[str, Range]:
    """Attribute of the index → the range wanted."""
    return {
        "time": query.time_ms,
        "amount": query.amount,
        "fraud_score": query.fraud_score,
        "anomaly_score": query.anomaly_score,
    }


ATTRIBUTES = (*_tags(Query()), *_ranges(Query()))
"""What the index must hold for every question to be answered."""


def _number(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else repr(value)
