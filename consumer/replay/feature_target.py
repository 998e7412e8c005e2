"""
Events straight into entity state, without a decision: a backfill, or vectors for training.

A chunk is sent to Redis and its answers are read when the next one is decoded: one is worked
here and one there. Chunks stay in order, and within them transactions and labels do.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from consumer.features.warming import CountedStore
from consumer.model import Applied, Label, Observation
from consumer.patience import Patience
from consumer.ports import Observe, Pending, Step
from consumer.replay.chunks import Chunk, Phase
from consumer.replay.target import Result, effect_of

Observed = Callable[[Chunk, Sequence[Observation]], None]
"""Hears of the vectors of a chunk, in order."""

_COUNTED = {
    Applied.APPLIED: "applied",
    Applied.REPEATED: "repeated",
    Applied.LATE: "late_dropped",
}


@dataclass(slots=True)
class _Applying:
    """A chunk as it was sent; without ``sent``, it is to be sent again."""

    chunk: Chunk
    steps: list[Step]
    sent: Pending[list[Observation]] | None


class FeatureTarget:
    """
    Applies events to *store*.

    An event from after *now_ms* counts as if it happened then, as it would have had it
    arrived by the stream. ``counts`` are of transactions ``applied``, ``repeated`` (every entity
    had them) and ``late_dropped`` (older than the id horizon somewhere), and of ``labels``,
    among them ``labels_without_keys``, which entity state cannot count.
    """

    def __init__(
        self,
        store: CountedStore,
        patience: Patience,
        now_ms: int,
        observed: Observed | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._store = store
        self._patience = patience
        self._now_s = now_ms // 1000
        self._observed = observed
        self._under_way: _Applying | None = None

    def work(self, chunk: Chunk) -> None:
        """Send *chunk* on its way, behind the one before."""
        if chunk.phase is Phase.AFTER:
            return
        steps = self._steps(chunk)
        self._take()
        sent = self._patience.call(lambda: self._store.start_work(steps)) if steps else None
        self._under_way = _Applying(chunk, steps, sent)

    def save(self) -> dict[str, object]:
        """Wait until everything is applied."""
        self._take()
        return {}

    def finish(self) -> Result:
        """Nothing is left to do."""
        return Result()

    def close(self) -> None:
        """Nothing is held here."""

    def _steps(self, chunk: Chunk) -> list[Step]:
        steps: list[Step] = []
        for event in chunk.events:
            if isinstance(event, Label):
                effect = effect_of(event)
                if effect is not None:
                    steps.append(effect)
            else:
                time_s = int(event.event_time.timestamp())
                steps.append(Observe(event, min(time_s, self._now_s)))
        return steps

    def _take(self) -> None:
        """
        Wait until what is under way is applied.

        It stays under way if it is not: behind it a later chunk would make its events late.
        """
        applying = self._under_way
        if applying is None:
            return

        def attempt() -> list[Observation]:
            # What failed may be repeated: an id that was applied is not applied again.
            sent, applying.sent = applying.sent, None
            return (sent or self._store.start_work(applying.steps)).result()

        observations = self._patience.call(attempt) if applying.steps else []
        self._under_way = None
        self._count(applying.chunk, observations)
        if self._observed is not None and observations:
            self._observed(applying.chunk, observations)

    def _count(self, chunk: Chunk, observations: Sequence[Observation]) -> None:
        statuses = Counter(each.applied for each in observations)
        for applied, count in statuses.items():
            self.counts[_outcome(applied)] += count
        self.counts["transactions"] += len(observations)
        labels = [each for each in chunk.events if isinstance(each, Label)]
        if labels:
            self.counts["labels"] += len(labels)
            bare = sum(effect_of(label) is None for label in labels)
            self.counts["labels_without_keys"] += bare
        if chunk.phase is Phase.WARM:
            self.counts["warm_up"] += len(observations)


def _outcome(applied: Sequence[Applied]) -> str:
    """What a transaction counts as: late where any entity dropped it, else the best of all."""
    found = set(chain(applied))
    for status in (Applied.LATE, Applied.APPLIED, Applied.REPEATED):
        if status in found:
            return _COUNTED[status]
    return "read"
