"""
Full decisions by the engine of a worker: features, both endpoints, rules.

As in a worker, the next chunk reads its features while one waits for its scores. What becomes
of a decision is the matter of ``Decided``: on the live Redis documents and Firehose, on a
scratch one a file.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consumer.engine import Dispatched, Incoming, Settled
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.model import (
    Applied,
    Assessment,
    Kind,
    Label,
    LabelEffect,
    Origin,
    Position,
    Record,
    ShardId,
    Stored,
    Transaction,
)
from consumer.replay.asked_models import ANYWAY
from consumer.replay.chunks import Chunk, Phase
from consumer.replay.feature_target import FeatureTarget
from consumer.replay.ordered_features import OrderedFeatures
from consumer.replay.target import Result, effect_of
from consumer.worker import WorkerParts

SOURCE = "replay"

_COUNTED = {
    Stored.CREATED: "decided",
    Stored.REDELIVERED: "existing",
    Stored.EXISTING: "existing",
    Stored.CONFLICT: "conflict",
}


# No endpoint can say anything of such a vector.
_OF_THE_VECTOR = frozenset({"not_finite"})
# Nothing to wait for: somebody has to deploy another one.
_UNFIT = frozenset({"feature_hash", "bands"})


class Decided(Protocol):
    """Where decisions and labels of a replay go."""

    def label(self, label: Label) -> None:
        """Take a label whose effect on features is worked already."""
        ...

    def take(
        self, settled: Sequence[Settled], records: Sequence[Record], latency_ms: float
    ) -> None:
        """Take the decisions on *records*, which took *latency_ms* from dispatch to decision."""
        ...

    def save(self) -> dict[str, object]:
        """Wait until everything is where it belongs; what a resume has to know of it."""
        ...

    def finish(self) -> Result:
        """Make the results."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A chunk whose scores are on their way."""

    dispatched: Dispatched
    records: list[Record]
    labels: list[Label]
    started_s: float


class EngineTarget:
    """
    Decides events with *parts*, whose feature store is *features*.

    An event from after *now_ms* arrives then; every other one at its own time. *warm* applies
    events before the first that is decided. *shard* stands for the history in documents, so
    that a decision is known again when a replay is repeated. *needs_scores*: an endpoint that does
    not answer is waited for as Redis is.
    """

    def __init__(  # noqa: PLR0913 - what decides, and how this history is decided
        self,
        parts: WorkerParts,
        features: OrderedFeatures,
        warm: FeatureTarget,
        decided: Decided,
        *,
        now_ms: int,
        shard: str,
        needs_scores: bool,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._parts = parts
        self._features = features
        self._warm = warm
        self._decided = decided
        self._now_ms = now_ms
        self._shard = ShardId(shard)
        self._needs_scores = needs_scores
        self._waiting: _Waiting | None = None

    def work(self, chunk: Chunk) -> None:
        """Dispatch *chunk*, then decide the one before it."""
        if chunk.phase is Phase.WARM:
            self._warm.work(chunk)
            self.counts["warm_up"] += chunk.transactions
            return
        # What warms up has a thread of its own, and comes first.
        self._warm.save()
        labels = [each for each in chunk.events if isinstance(each, Label)]
        self.counts["labels"] += len(labels)
        self.counts["labels_without_keys"] += sum(effect_of(each) is None for each in labels)
        if chunk.phase is Phase.AFTER:
            self._settle()
            self._note(labels)
            return
        waiting = self._dispatch(chunk, labels)
        self._settle()
        self._waiting = waiting

    def save(self) -> dict[str, object]:
        """Decide everything that was dispatched."""
        self._warm.save()
        self._settle()
        return self._decided.save()

    def finish(self) -> Result:
        """Make the results."""
        return self._decided.finish()

    def close(self) -> None:
        """Let go of files and threads."""
        self._warm.close()
        self._decided.close()

    def _dispatch(self, chunk: Chunk, labels: list[Label]) -> _Waiting | None:
        incoming: list[Incoming] = []
        records: list[Record] = []
        effects: list[tuple[int, LabelEffect]] = []
        for event, ordinal, time_ms, data in zip(
            chunk.events, chunk.ordinals, chunk.times_ms, chunk.data, strict=True
        ):
            if isinstance(event, Transaction):
                record = Record(self._shard, Position(ordinal), min(time_ms, self._now_ms), data)
                incoming.append(Incoming(event, _origin(record)))
                records.append(record)
            elif (effect := effect_of(event)) is not None:
                effects.append((len(incoming), effect))
        parts = self._parts
        self.counts["transactions"] += len(incoming)
        started_s = parts.clock.monotonic_s()
        if not incoming:
            parts.patience.call(lambda: self._features.label([each for _, each in effects]))
            self._settle()
            self._note(labels)
            return None

        def dispatch() -> Dispatched:
            # Told anew with each attempt, since the transactions are counted anew.
            self._features.begin(effects)
            return parts.engine.dispatch(incoming)

        dispatched = parts.patience.call(dispatch)
        parts.patience.call(self._features.end)
        return _Waiting(dispatched, records, labels, started_s)

    def _settle(self) -> None:
        """Decide the chunk that waits for its scores, if there is one."""
        waiting, self._waiting = self._waiting, None
        if waiting is None:
            return
        parts = self._parts
        assessments = self._assess(waiting.dispatched)
        latency_ms = (parts.clock.monotonic_s() - waiting.started_s) * 1000
        settled = parts.patience.call(lambda: parts.engine.store(assessments))
        self._count(settled)
        self._decided.take(settled, waiting.records, latency_ms)
        self._note(waiting.labels)

    def _assess(self, dispatched: Dispatched) -> list[Assessment]:
        """Decide, with all scores if these are needed. Raises Unavailable and Misconfigured."""
        engine = self._parts.engine
        latest: Dispatched | None = None

        def attempt() -> list[Assessment]:
            nonlocal latest
            latest = dispatched if latest is None else engine.score_again(latest)
            assessments = engine.assess(latest)
            if self._needs_scores:
                _check_scores(assessments)
            return assessments

        return self._parts.patience.call(attempt)

    def _note(self, labels: Sequence[Label]) -> None:
        for label in labels:
            self._decided.label(label)

    def _count(self, settled: Sequence[Settled]) -> None:
        for each in settled:
            assessment = each.assessment
            self.counts[_COUNTED[each.stored.stored]] += 1
            if Applied.LATE in assessment.observation.applied:
                self.counts["late_dropped"] += 1
            if each.stored.stored is Stored.CREATED:
                self.counts[assessment.decision.outcome.value] += 1
                self.counts["degraded"] += assessment.scores.degraded != ()


def _check_scores(assessments: Sequence[Assessment]) -> None:
    """Raise Misconfigured for a model that does not fit, Unavailable for one that is not there."""
    causes = Counter(cause for each in assessments for cause in each.scores.degraded)
    for cause, count in causes.items():
        endpoint, _, reason = cause.partition(":")
        if reason in _OF_THE_VECTOR:
            continue
        if reason in _UNFIT:
            expected = f"a model of these features and bands; {ANYWAY}"
            raise Misconfigured([Problem("endpoint", endpoint, reason, expected)])
        raise Unavailable("endpoint", f"{count:,} rows without a score: {cause}; {ANYWAY}")


def _origin(record: Record) -> Origin:
    return Origin(
        source=SOURCE,
        arrival_ms=record.arrival_ms,
        received_ms=record.arrival_ms,
        shard_id=record.shard_id,
        position=record.position,
    )


def is_repetition(assessment: Assessment) -> bool:
    """Whether every entity had counted this purchase before, so that it is a duplicate."""
    if assessment.transaction.kind is not Kind.PURCHASE:
        return False
    found = set(assessment.observation.applied) - {Applied.READ}
    return found == {Applied.REPEATED}
