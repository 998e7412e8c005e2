"""Entity state in memory: one count a card."""

from collections.abc import Sequence
from copy import deepcopy

from consumer.errors import Unavailable
from consumer.model import Applied, Observation
from consumer.ports import Observe, Pending
from tests.fakes.eager import at_once


class FakeFeatures:
    """Vectors of amount and card count, each id applied once; ``fail`` makes calls unavailable."""

    names = ("amount", "card_count")

    def __init__(self) -> None:
        self.applied: dict[str, list[str]] = {}
        self.calls: list[list[str]] = []
        self.failures = 0

    def fail(self, times: int) -> None:
        self.failures = times

    def start(self, requests: Sequence[Observe]) -> Pending[list[Observation]]:
        return at_once(lambda: self.observe(requests))

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        if self.failures:
            self.failures -= 1
            raise Unavailable("redis", "told to fail")
        self.calls.append([request.transaction.transaction_id for request in requests])
        return [self._observe(request) for request in requests]

    def rehearse(self, requests: Sequence[Observe]) -> list[Observation]:
        found: list[Observation] = []
        for request in requests:
            before, calls = deepcopy(self.applied), len(self.calls)
            found += self.observe([request])
            self.applied = before
            del self.calls[calls:]
        return found

    def _observe(self, request: Observe) -> Observation:
        transaction = request.transaction
        ids = self.applied.setdefault(transaction.card_id, [])
        known = transaction.transaction_id in ids
        if not known:
            ids.append(transaction.transaction_id)
        status = Applied.REPEATED if known else Applied.APPLIED
        return Observation((transaction.base_amount_minor / 100, float(len(ids))), (status,))
