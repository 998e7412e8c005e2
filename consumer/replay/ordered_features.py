"""
Features that learn labels between the transactions of a chunk, each at its own place.

The engine hands over the transactions of a chunk; labels that became known among them are told
beforehand. Of a stream, labels are worked after their chunk; of a history the order is
known, and a label of a minute too early would leak into vectors.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from consumer.features.warming import CountedStore
from consumer.model import LabelEffect, Observation
from consumer.ports import Later, Observe, Pending, Step


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An effect, and how many transactions of the chunk come before it."""

    after: int
    effect: LabelEffect


class OrderedFeatures:
    """
    An EagerFeatureStore over *store* that works what was told with ``begin`` in its place.

    A chunk may be observed in several parts, and again after an outage: an effect is told
    once more with each part that it belongs to, which changes nothing.
    """

    def __init__(self, store: CountedStore) -> None:
        self.store = store
        self._waiting: deque[_Waiting] = deque()
        self._seen = 0

    def begin(self, effects: Sequence[tuple[int, LabelEffect]]) -> None:
        """Say which *effects* the next chunk has, each with the transactions before it."""
        self._waiting = deque(_Waiting(*each) for each in effects)
        self._seen = 0

    def start(self, requests: Sequence[Observe]) -> Pending[list[Observation]]:
        """Observe *requests* when asked for the result; see the port."""
        return Later(lambda: self.observe(requests))

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        """Observe *requests* and work the effects before and between them, in one round trip."""
        steps: list[Step] = []
        place = 0
        for number, request in enumerate(requests):
            while place < len(self._waiting) and (
                self._waiting[place].after <= self._seen + number
            ):
                steps.append(self._waiting[place].effect)
                place += 1
            steps.append(request)
        observations = self.store.work(steps)
        # Only now, so that a call that is repeated tells them again.
        for _ in range(place):
            self._waiting.popleft()
        self._seen += len(requests)
        return observations

    def end(self) -> None:
        """Work the effects behind the last transaction of the chunk."""
        rest = [each.effect for each in self._waiting]
        if rest:
            self.store.label(rest)
        self._waiting.clear()

    def label(self, effects: Sequence[LabelEffect]) -> None:
        """Count *effects* at once; see the port."""
        self.store.label(effects)
