"""
Events straight into entity state, without a decision: a backfill, or vectors for training.

A thread of its own speaks to Redis, so that the next chunk is read and decoded while Redis
works. Chunks stay in order, and within them transactions and labels do.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

from consumer.errors import Unavailable
from consumer.features.warming import CountedStore
from consumer.model import Applied, Label, Observation
from consumer.patience import Patience
from consumer.ports import Observe, Step
from consumer.replay.chunks import Chunk, Phase
from consumer.replay.target import Result, effect_of

# One is at work, the next waits for it.
_UNDER_WAY = 2

Observed = Callable[[Chunk, Sequence[Observation]], None]
"""Hears of the vectors of a chunk, in order."""

_COUNTED = {
    Applied.APPLIED: "applied",
    Applied.REPEATED: "repeated",
    Applied.LATE: "late_dropped",
}


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
        self._pool = ThreadPoolExecutor(1, "replay-features")
        self._under_way: deque[tuple[Chunk, Future[list[Observation]]]] = deque()
        self._failed = False

    def work(self, chunk: Chunk) -> None:
        """Send *chunk* on its way."""
        if chunk.phase is Phase.AFTER:
            return
        while len(self._under_way) >= _UNDER_WAY:
            self._take()
        self._under_way.append((chunk, self._pool.submit(self._apply, chunk)))

    def save(self) -> dict[str, object]:
        """Wait until everything is applied."""
        while self._under_way:
            self._take()
        return {}

    def finish(self) -> Result:
        """Nothing is left to do."""
        return Result()

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _apply(self, chunk: Chunk) -> list[Observation]:
        steps: list[Step] = []
        for event in chunk.events:
            if isinstance(event, Label):
                effect = effect_of(event)
                if effect is not None:
                    steps.append(effect)
            else:
                time_s = int(event.event_time.timestamp())
                steps.append(Observe(event, min(time_s, self._now_s)))
        if self._failed:
            # Behind a chunk that was not applied a later one would make its events late.
            raise Unavailable("redis", "the chunk before was not applied")
        try:
            # The call may be repeated: an id that was applied is not applied again.
            return self._patience.call(lambda: self._store.work(steps)) if steps else []
        except BaseException:
            self._failed = True
            raise

    def _take(self) -> None:
        chunk, future = self._under_way.popleft()
        observations = future.result()
        self._count(chunk, observations)
        if self._observed is not None and observations:
            self._observed(chunk, observations)

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
