"""
One chunk of transactions: observe features, invoke both endpoints, decide, store.

The same engine serves the stream, replay and REST. It is cut in steps so that a caller
can overlap chunks, in stream order: while Redis works on one (``start_observing``,
``start_storing``) or its endpoints do, another is encoded or decided here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from consumer.clock import Clock
from consumer.model import (
    Assessment,
    Decision,
    Observation,
    Origin,
    Ruled,
    Scores,
    StoredDecision,
    Transaction,
    TransactionId,
)
from consumer.ports import (
    EagerDocumentStore,
    EagerFeatureStore,
    FeatureRehearsal,
    Later,
    Observe,
    Pending,
)
from consumer.rules.facts import Case

_Each = TypeVar("_Each")
_Answer = TypeVar("_Answer")
_JudgeCase = Callable[[Case], tuple[Decision, Ruled]]


class PendingScores(Protocol):
    """Requests under way for the rows of one chunk."""

    def result(self) -> list[Scores]:
        """One entry a row, in order, at the latest at the chunk's deadline; never raises."""
        ...


class Scoring(Protocol):
    """Both endpoints, in parallel."""

    def start(self, rows: Sequence[Sequence[float]], inference_id: str) -> PendingScores:
        """Send *rows* to both endpoints; the deadline counts from this call."""
        ...


class Judge(Protocol):
    """Rules and the policy on scores."""

    def turn(self) -> None:
        """Take a new version over, if there is one; the chunk that follows is judged by one."""
        ...

    def decide(self, case: Case) -> tuple[Decision, Ruled]:
        """Decide *case* and say what the rules found."""
        ...

    def look(self, case: Case) -> tuple[Decision, Ruled]:
        """Decide *case* likewise and take no note of it."""
        ...


class Timing(Protocol):
    """Where the time of a stage goes."""

    def spent(self, stage: str, seconds: float) -> None:
        """A chunk took *seconds* of this thread in *stage*."""
        ...


@dataclass(frozen=True, slots=True)
class Incoming:
    """A transaction with where it came from."""

    transaction: Transaction
    origin: Origin

    @property
    def time_s(self) -> int:
        """
        The feature time: the event's second, clamped to the record's arrival.

        A clock ahead of ours must not move an entity's newest event into the
        future, where it would make every honest event after it late.
        """
        return min(int(self.transaction.event_time.timestamp()), self.origin.arrival_ms // 1000)

    @property
    def future(self) -> bool:
        """Whether the event claims a time after its own arrival."""
        return self.transaction.event_time.timestamp() * 1000 > self.origin.arrival_ms


@dataclass(frozen=True, slots=True)
class Observing:
    """A chunk whose features are being applied."""

    incoming: tuple[Incoming, ...]
    observations: Pending[list[Observation]]


@dataclass(frozen=True, slots=True)
class Dispatched:
    """A chunk whose features are applied and whose scores are on their way."""

    incoming: tuple[Incoming, ...]
    observations: tuple[Observation, ...]
    scores: PendingScores


@dataclass(frozen=True, slots=True)
class Settled:
    """What was found about one transaction, and the decision that stands."""

    assessment: Assessment
    stored: StoredDecision


class Engine:
    """
    Features, scores and rules to a stored decision.

    Two Redis round trips a chunk, and two more for each id that comes again within it.

    Of the calls that start something, one of each kind may be under way, and nothing else
    may be asked of that store before its result. A result may only be asked for once: after
    Unavailable, what started it may be repeated, because applying an id again changes
    nothing, and a stored decision is returned and never replaced.
    """

    def __init__(
        self,
        *,
        features: EagerFeatureStore,
        scoring: Scoring,
        documents: EagerDocumentStore,
        judge: Judge,
        clock: Clock,
        timing: Timing,
    ) -> None:
        self._features = features
        self._scoring = scoring
        self._documents = documents
        self._judge = judge
        self._clock = clock
        self._timing = timing

    def dispatch(self, chunk: Sequence[Incoming]) -> Dispatched:
        """
        Apply *chunk* to the feature state and send its vectors to both endpoints.

        Raises Unavailable when Redis does; the call may be repeated.
        """
        return self.score(self.start_observing(chunk))

    def start_observing(self, chunk: Sequence[Incoming]) -> Observing:
        """Send *chunk* to the feature state. Raises Unavailable."""
        parts = list(_without_repeats(chunk, lambda incoming: incoming.transaction))

        def start(part: Sequence[Incoming]) -> Pending[list[Observation]]:
            return self._features.start([Observe(each.transaction, each.time_s) for each in part])

        return Observing(tuple(chunk), self._start("observe", start, parts))

    def score(self, observing: Observing) -> Dispatched:
        """
        Wait for the features of *observing* and send its vectors to both endpoints.

        The deadline of the scores counts from here. Raises Unavailable.
        """
        incoming, observations = observing.incoming, observing.observations.result()
        rows = [observation.values for observation in observations]
        pending = self._scoring.start(rows, incoming[0].transaction.digest[:32])
        return Dispatched(incoming, tuple(observations), pending)

    def score_again(self, dispatched: Dispatched) -> Dispatched:
        """Send the vectors of *dispatched* once more, with a deadline of their own."""
        rows = [observation.values for observation in dispatched.observations]
        inference_id = dispatched.incoming[0].transaction.digest[:32]
        return replace(dispatched, scores=self._scoring.start(rows, inference_id))

    def turn(self) -> None:
        """Take over the rules and the policy of now, while nothing waits to be decided."""
        self._judge.turn()

    def assess(self, dispatched: Dispatched) -> list[Assessment]:
        """Wait for the scores, at the latest to the deadline, and decide each transaction."""
        started_s = self._clock.monotonic_s()
        scores = dispatched.scores.result()
        self._timing.spent("score", self._clock.monotonic_s() - started_s)
        self._judge.turn()
        return self._assess(dispatched, scores, self._judge.decide)

    def rehearse(self, chunk: Sequence[Incoming], features: FeatureRehearsal) -> list[Assessment]:
        """
        Assess each transaction of *chunk* as if it came alone and now, and leave no trace.

        *features* are those of this engine. Raises Unavailable when Redis does.
        """
        observations = features.rehearse(
            [Observe(incoming.transaction, incoming.time_s) for incoming in chunk]
        )
        rows = [observation.values for observation in observations]
        pending = self._scoring.start(rows, chunk[0].transaction.digest[:32])
        dispatched = Dispatched(tuple(chunk), tuple(observations), pending)
        return self._assess(dispatched, pending.result(), self._judge.look)

    def _assess(
        self, dispatched: Dispatched, scores: Sequence[Scores], judge: _JudgeCase
    ) -> list[Assessment]:
        now_ms = self._clock.now_ms()
        return [
            _assessment(incoming, observation, row, now_ms, judge)
            for incoming, observation, row in zip(
                dispatched.incoming, dispatched.observations, scores, strict=True
            )
        ]

    def store(self, assessments: Sequence[Assessment]) -> list[Settled]:
        """
        Write the documents of *assessments* and return the decisions that stand.

        Raises Unavailable when Redis does; the call may be repeated.
        """
        return self.start_storing(assessments).result()

    def start_storing(self, assessments: Sequence[Assessment]) -> Pending[list[Settled]]:
        """Send the documents of *assessments*; the result waits. Both raise Unavailable."""
        parts = list(_without_repeats(assessments, lambda each: each.transaction))
        stored = self._start("decide", self._documents.start, parts)
        return Later(
            lambda: [Settled(*each) for each in zip(assessments, stored.result(), strict=True)]
        )

    def _start(
        self,
        stage: str,
        start: Callable[[Sequence[_Each]], Pending[list[_Answer]]],
        parts: Sequence[Sequence[_Each]],
    ) -> Pending[list[_Answer]]:
        """
        Start the first of *parts*; the result waits for it and does the others in turn.

        Told as *stage* is what this took of our thread, not what it did in between.
        """
        started_s = self._clock.monotonic_s()
        first = start(parts[0])
        starting_s = self._clock.monotonic_s() - started_s

        def finish() -> list[_Answer]:
            since_s = self._clock.monotonic_s() - starting_s
            try:
                answers = list(first.result())
                for part in parts[1:]:
                    answers += start(part).result()
            finally:
                self._timing.spent(stage, self._clock.monotonic_s() - since_s)
            return answers

        return Later(finish)


def _assessment(
    incoming: Incoming, observation: Observation, scores: Scores, now_ms: int, judge: _JudgeCase
) -> Assessment:
    decision, ruled = judge(
        Case(
            incoming.transaction,
            observation.values,
            scores,
            incoming.time_s,
            observation.warming,
        )
    )
    return Assessment(
        transaction=incoming.transaction,
        origin=incoming.origin,
        observation=observation,
        scores=scores,
        decision=decision,
        decided_ms=now_ms,
        future=incoming.future,
        rules=ruled,
    )


def _without_repeats(
    chunk: Sequence[_Each], transaction_of: Callable[[_Each], Transaction]
) -> Iterator[Sequence[_Each]]:
    """
    *chunk* in order, cut before each id that its part already holds; at least one part.

    The first record of an id is the one that counts. In one pipeline a server that heals
    half-way may refuse it and take its repetition, or another transaction of that id.
    """
    seen: set[TransactionId] = set()
    start = 0
    for index, each in enumerate(chunk):
        name = transaction_of(each).transaction_id
        if name in seen:
            yield chunk[start:index]
            start = index
            seen.clear()
        seen.add(name)
    yield chunk[start:]
