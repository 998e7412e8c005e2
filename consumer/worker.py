"""
The loop of one shard: sort → dispatch → settle → publish → checkpoint.

Synchronous on purpose: the KCL waits on our answer anyway. While Redis applies one chunk
the one before it is decided, and while Redis stores that, the vectors of the other go to
the endpoints. Firehose acknowledgements may stay outstanding after a delivery returns, and
are checkpointed in a later one.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from consumer.clock import Clock
from consumer.engine import Dispatched, Engine, Observing, Settled
from consumer.errors import Rejected, Replaced, Unavailable
from consumer.intake import Batch, FloodLimit, Intake, crashed, cut, dead_letter
from consumer.labels import Labels
from consumer.model import Assessment, DeadLetter, LabelOutcome, Position, Record, ShardId, Stored
from consumer.patience import Patience
from consumer.ports import DeadLetterStore, DecisionSink, Durability, Pending
from consumer.progress import Progress, Ticket, checkpoint_is_due
from consumer.settings import Worker as WorkerSettings
from consumer.stages import Stage
from consumer.suspicion import Suspects

Checkpoint = Callable[[Position], None]

_OUTSTANDING_LIMIT = 32
# Longest wait for an acknowledgement before it is told that it is waited for.
_SILENCE_S = 5.0
# Rows that are on their way for this share of the progress limit hold the shard up.
_OVERDUE_SHARE = 0.5


class Telemetry(Protocol):
    """What the worker tells about itself; each call emits its log line and metric together."""

    def started(self, shard_id: ShardId) -> None:
        """A shard was taken up."""
        ...

    def stage(self, name: str) -> None:
        """The worker entered stage *name*."""
        ...

    def delivered(self, records: Sequence[Record]) -> None:
        """A delivery of *records* (at least one) is about to be worked."""
        ...

    def under_way(self, first: Position, last: Position) -> None:
        """The records from *first* to *last* are begun and not finished."""
        ...

    def nothing_under_way(self) -> None:
        """Every record that was begun is finished."""
        ...

    def crashed(self, position: Position, error: Rejected) -> None:
        """A record is not tried again, because it ended the process too often."""
        ...

    def sorted(self, batch: Batch) -> None:
        """A chunk was decoded."""
        ...

    def settled(self, settled: Sequence[Settled]) -> None:
        """A chunk was decided and stored."""
        ...

    def labelled(self, outcomes: Sequence[LabelOutcome]) -> None:
        """Labels were worked."""
        ...

    def progressed(self, position: Position | None, millis_behind: int | None) -> None:
        """A delivery was worked through."""
        ...

    def checkpointed(self, position: Position) -> None:
        """The KCL stored a checkpoint."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker works with, wired by ``app.py``."""

    intake: Intake
    flood: FloodLimit
    engine: Engine
    labels: Labels
    dead_letters: DeadLetterStore
    sink: DecisionSink | None
    patience: Patience
    telemetry: Telemetry
    clock: Clock
    durability: Durability | None = None
    suspects: Suspects | None = None


@dataclass(slots=True)
class _Publishing:
    """A batch whose rows are on their way to Firehose since *started_s*."""

    ticket: Ticket
    first: Position
    documents: list[bytes]
    future: Future[None]
    started_s: float


@dataclass(frozen=True, slots=True)
class _Storing:
    """A chunk that is decided and whose documents are on their way to Redis."""

    assessments: list[Assessment]
    settled: Pending[list[Settled]]


class Worker:
    """
    Works one shard for as long as this process holds its lease.

    Every method may raise Unavailable or Held: the process then leaves without
    a checkpoint, and what it did in part is done again without effect.
    """

    def __init__(self, parts: WorkerParts, settings: WorkerSettings) -> None:
        self._parts = parts
        self._settings = settings
        self._progress = Progress()
        self._publishing: deque[_Publishing] = deque()
        self._checkpointed: Position | None = None
        self._checkpointed_s = parts.clock.monotonic_s()

    @property
    def patience(self) -> Patience:
        """How an outage is waited out; whoever stores its checkpoints waits in the same way."""
        return self._parts.patience

    def start(self, shard_id: ShardId, position: Position | None) -> None:
        """Take up *shard_id* after *position*, or at the configured start of the stream."""
        self._checkpointed = position
        self._parts.telemetry.started(shard_id)
        if self._parts.suspects is not None:
            self._parts.suspects.take_up(shard_id, position)

    def process(
        self, records: Sequence[Record], millis_behind_latest: int | None, checkpoint: Checkpoint
    ) -> None:
        """
        Work through one delivery; an empty one still reaps acknowledgements.

        It also takes new rules over: nothing is between its scores and its decision then,
        and a shard without traffic must not go on with a version that others left.
        """
        received_ms = self._parts.clock.now_ms()
        if records:
            self._parts.telemetry.delivered(records)
        else:
            self._parts.engine.turn()
        for alone, run in self._runs(records):
            if alone:
                self._work_alone(run, received_ms, checkpoint)
            else:
                self._work(run, received_ms)
        self._reap()
        self._checkpoint_when_due(checkpoint)
        last = records[-1].position if records else None
        self._parts.telemetry.progressed(last, millis_behind_latest)
        self._rest()

    def _runs(self, records: Sequence[Record]) -> Iterable[tuple[bool, Sequence[Record]]]:
        """*records* in order, in runs that are to be worked one record at a time or not."""
        suspects = self._parts.suspects
        if suspects is None or not suspects.any:
            return [(False, records)] if records else []
        runs = groupby(records, lambda record: suspects.concern(record.position))
        return [(alone, list(run)) for alone, run in runs]

    def _work(self, records: Sequence[Record], received_ms: int) -> None:
        """Work *records* in chunks, of which one is decided while Redis applies the next."""
        waiting: tuple[Batch, Dispatched | None] | None = None
        for chunk in cut(records, self._settings.chunk_size):
            self._begin((chunk if waiting is None else waiting[0].records)[0], chunk[-1])
            batch = self._sort(chunk, received_ms)
            observing = self._observe(batch)
            storing = None if waiting is None else self._decide(waiting[1])
            dispatched = self._dispatch(batch, observing)
            if waiting is not None:
                self._settle(waiting[0], storing)
            waiting = (batch, dispatched)
        if waiting is not None:
            self._settle(waiting[0], self._decide(waiting[1]))

    def _work_alone(
        self, records: Sequence[Record], received_ms: int, checkpoint: Checkpoint
    ) -> None:
        """
        Work *records* one by one, each to its end before the next is touched.

        Whatever ends the process then, on whichever thread, names its record.
        Checkpoints in between save what was passed, and tell Java that we live.
        """
        self._finish_publishing()
        for record in records:
            self._begin(record, record)
            batch = self._condemn(record) or self._sort([record], received_ms)
            dispatched = self._dispatch(batch, self._observe(batch))
            self._settle(batch, self._decide(dispatched))
            self._finish_publishing()
            self._checkpoint_when_due(checkpoint)

    def _condemn(self, record: Record) -> Batch | None:
        """The letter of a record that has ended the process too often; None to try it."""
        suspects, telemetry = self._parts.suspects, self._parts.telemetry
        error = None if suspects is None else suspects.condemned(record.position)
        if suspects is None or error is None:
            return None
        telemetry.stage(Stage.DEAD_LETTER)
        reading = (Stage.DECODE, Stage.DEAD_LETTER)
        batch = crashed(record, error, readable=not suspects.killed_in(record.position, reading))
        telemetry.crashed(record.position, error)
        telemetry.sorted(batch)
        return batch

    def _begin(self, first: Record, last: Record) -> None:
        """Say what is under way, before it is touched; rows on their way to Firehose are."""
        oldest = self._publishing[0].first if self._publishing else first.position
        self._parts.telemetry.under_way(oldest, last.position)

    def _rest(self) -> None:
        """Say that the next call is waited for."""
        if not self._publishing:
            self._parts.telemetry.nothing_under_way()
        self._parts.telemetry.stage(Stage.IDLE)

    def lease_lost(self) -> None:
        """Another worker owns the shard: leave the checkpoint and what is not yet sent to it."""
        # Else the process could not end before all of them were tried, minutes in an outage.
        for publishing in self._publishing:
            publishing.future.cancel()
        self._publishing.clear()

    def shard_ended(self, checkpoint: Checkpoint) -> None:
        """Finish all that was started; the caller then releases the child shards."""
        self._drain(checkpoint)

    def shutdown_requested(self, checkpoint: Checkpoint) -> None:
        """Finish all that was started and checkpoint it."""
        self._drain(checkpoint)

    def _sort(self, records: Sequence[Record], received_ms: int) -> Batch:
        self._parts.telemetry.stage(Stage.DECODE)
        batch = self._parts.intake.sort(records, received_ms)
        self._parts.telemetry.sorted(batch)
        return batch

    def _observe(self, batch: Batch) -> Observing | None:
        """Send a chunk to the feature state."""
        parts = self._parts
        if not batch.incoming:
            return None
        parts.telemetry.stage(Stage.OBSERVE)
        return parts.patience.call(lambda: parts.engine.start_observing(batch.incoming))

    def _dispatch(self, batch: Batch, observing: Observing | None) -> Dispatched | None:
        """Take what the feature state says and send it to both endpoints."""
        engine, latest = self._parts.engine, observing
        if latest is None:
            return None

        def attempt() -> Dispatched:
            nonlocal latest
            under_way, latest = latest or engine.start_observing(batch.incoming), None
            return engine.score(under_way)

        self._parts.telemetry.stage(Stage.OBSERVE)
        return self._parts.patience.call(attempt)

    def _decide(self, dispatched: Dispatched | None) -> _Storing | None:
        """Decide a chunk and send its documents."""
        if dispatched is None:
            return None
        parts = self._parts
        parts.telemetry.stage(Stage.SCORE)
        assessments = parts.engine.assess(dispatched)
        parts.telemetry.stage(Stage.DECIDE)
        settled = parts.patience.call(lambda: parts.engine.start_storing(assessments))
        return _Storing(assessments, settled)

    def _store(self, storing: _Storing | None) -> list[Settled]:
        """Take what stands of a chunk."""
        engine, parts = self._parts.engine, self._parts
        if storing is None:
            return []
        latest: Pending[list[Settled]] | None = storing.settled

        def attempt() -> list[Settled]:
            nonlocal latest
            under_way, latest = latest or engine.start_storing(storing.assessments), None
            return under_way.result()

        parts.telemetry.stage(Stage.DECIDE)
        settled = parts.patience.call(attempt)
        parts.telemetry.settled(settled)
        return settled

    def _settle(self, batch: Batch, storing: _Storing | None) -> None:
        """Finish a chunk that is decided, and start sending it to Firehose."""
        parts = self._parts
        settled = self._store(storing)
        self._label(batch, settled)
        letters = batch.letters + _conflicts(batch, settled)
        if letters:
            parts.telemetry.stage(Stage.DEAD_LETTER)
            parts.patience.call(lambda: parts.dead_letters.put(letters))
        # The limit is checked once the letters are stored: what an operator has to
        # look at is then there to be looked at. Labels neither count as bad nor dilute.
        parts.flood.note(len(batch.records) - len(batch.labels), len(letters))
        self._publish(batch, [each.stored.document for each in settled if is_ours(each)])

    def _label(self, batch: Batch, settled: Sequence[Settled]) -> None:
        """Work the labels of a chunk, and those that its documents already hold."""
        waited = [each.stored.effect for each in settled if each.stored.effect is not None]
        if batch.labels or waited:
            parts = self._parts
            parts.telemetry.stage(Stage.LABEL)
            parts.telemetry.labelled(parts.labels.note(batch.labels, waited, parts.clock.now_ms()))

    def _publish(self, batch: Batch, documents: list[bytes]) -> None:
        ticket = self._progress.start(batch.last)
        if self._parts.sink is None or not documents:
            self._progress.finish(ticket)
            return
        future = self._parts.sink.publish(documents)
        started_s = self._parts.clock.monotonic_s()
        first = batch.records[0].position
        self._publishing.append(_Publishing(ticket, first, documents, future, started_s))
        while len(self._publishing) > _OUTSTANDING_LIMIT:
            self._acknowledge(self._publishing[0])

    def _reap(self) -> None:
        """
        Take note of what is acknowledged, and wait for what should be.

        Without traffic nothing else would ever ask for rows that hang.
        """
        limit_s = self._settings.progress_limit_s * _OVERDUE_SHARE
        overdue_s = self._parts.clock.monotonic_s() - limit_s
        for publishing in list(self._publishing):
            if publishing.future.done() or publishing.started_s <= overdue_s:
                self._acknowledge(publishing)

    def _acknowledge(self, publishing: _Publishing) -> None:
        """Wait until *publishing* is acknowledged, sending it again after a failure."""
        self._parts.telemetry.stage(Stage.PUBLISH)

        def attempt() -> None:
            try:
                publishing.future.result(_SILENCE_S)
            except TimeoutError as error:
                raise Unavailable("firehose", "rows are not acknowledged") from error
            except Unavailable:
                if self._parts.sink is not None:
                    publishing.future = self._parts.sink.publish(publishing.documents)
                raise

        self._parts.patience.call(attempt)
        self._publishing.remove(publishing)
        self._progress.finish(publishing.ticket)

    def _finish_publishing(self) -> None:
        while self._publishing:
            self._acknowledge(self._publishing[0])

    def _drain(self, checkpoint: Checkpoint) -> None:
        self._finish_publishing()
        self._checkpoint(checkpoint)
        self._rest()

    def _checkpoint_when_due(self, checkpoint: Checkpoint) -> None:
        now_s = self._parts.clock.monotonic_s()
        if checkpoint_is_due(now_s, self._checkpointed_s, self._settings.checkpoint_interval_s):
            self._checkpoint(checkpoint)

    def _checkpoint(self, checkpoint: Checkpoint) -> None:
        position = self._progress.safe
        if position is None or position == self._checkpointed or self._parts.flood.suspicious:
            return
        self._parts.telemetry.stage(Stage.CHECKPOINT)
        self._confirm()
        checkpoint(position)
        self._checkpointed = position
        self._checkpointed_s = self._parts.clock.monotonic_s()
        self._parts.telemetry.checkpointed(position)
        if self._parts.suspects is not None:
            self._parts.suspects.saved(position)

    def _confirm(self) -> None:
        """
        Wait for the copies of what was written; leave if it may be lost.

        The stream then delivers it again: same ids, same effects, and those that
        did survive are known and change nothing.
        """
        durability = self._parts.durability
        if durability is not None and not self._parts.patience.call(durability.confirm):
            message = "a primary was replaced: what was written since the checkpoint is done again"
            raise Replaced("redis", message)


def _conflicts(batch: Batch, settled: Sequence[Settled]) -> list[DeadLetter]:
    """A letter for each transaction whose id was already decided with other content."""
    positions = {
        each.assessment.origin.position for each in settled if each.stored.stored is Stored.CONFLICT
    }
    error = Rejected("conflict", "the transaction_id was decided before with other content")
    return [dead_letter(record, error) for record in batch.records if record.position in positions]


def is_ours(settled: Settled) -> bool:
    """
    Whether this record's row may be missing in Firehose.

    It may when its document is new, and when the document came from this very
    record: an earlier delivery may have ended before the acknowledgement. A
    producer's duplicate has another position, and the record that was first
    answers for the row.
    """
    return settled.stored.stored in (Stored.CREATED, Stored.REDELIVERED)
