"""Decision documents in memory, found as the index finds them."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Any

import orjson

from consumer.query import Page, Query


class FakeSearch:
    """Answers by card, merchant, device and time, sorted by time; ``asked`` keeps the questions."""

    def __init__(self, documents: Iterable[bytes], *, partial: bool = False) -> None:
        read = [(orjson.loads(each), each) for each in documents]
        self._documents = sorted(read, key=lambda each: _time_ms(each[0]))
        self._times = [_time_ms(document) for document, _ in self._documents]
        self.asked: list[Query] = []
        self._partial = partial

    def count(self) -> int:
        return len(self._documents)

    def search(self, query: Query) -> Page:
        self.asked.append(query)
        low, high = query.time_ms.low, query.time_ms.high
        first = 0 if low is None else bisect_left(self._times, low)
        last = None if high is None else bisect_right(self._times, high)
        inside = self._documents[first:last]
        found = [each for document, each in inside if _fits(document, query)]
        if not query.ascending:
            found.reverse()
        page = found[query.offset : query.offset + query.limit]
        return Page(len(found), tuple(page), self._partial)


def _time_ms(document: dict[str, Any]) -> int:
    time_ms: int = document["event_ms"]
    return time_ms


def _fits(document: dict[str, Any], query: Query) -> bool:
    wanted = {
        "card_id": query.card,
        "merchant_id": query.merchant,
        "device_id": query.device,
    }
    return all(value in (None, document["transaction"].get(name)) for name, value in wanted.items())
