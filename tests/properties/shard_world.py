"""Everything around the workers of a shard: the KCL, the stores and Firehose."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import orjson

from consumer.adapters.kinesis import CheckpointRefused
from consumer.document import DocumentFormat
from consumer.engine import Engine, Settled
from consumer.errors import Held, Rejected, Unavailable
from consumer.intake import Batch, FloodLimit, Intake
from consumer.labels import Labels
from consumer.model import (
    Assessment,
    Label,
    LabelEffect,
    Labelled,
    LabelOutcome,
    Position,
    Record,
    Scores,
    ShardId,
    Stored,
    StoredDecision,
)
from consumer.patience import Patience
from consumer.ports import DecisionSink, FeatureLabels, FeatureStore, Observe
from consumer.row import build_row
from consumer.settings import Worker as WorkerSettings
from consumer.worker import Worker, WorkerParts
from tests.fakes.clock import FakeClock
from tests.fakes.dead_letters import FakeDeadLetters
from tests.fakes.documents import FakeDocuments
from tests.fakes.entities import Counters, FakeEntities
from tests.properties.shard_stream import RULES, Shard, Stream
from tests.properties.unreliable import (
    Fuse,
    Killed,
    Publication,
    UnreliableDocuments,
    UnreliableFeatures,
    UnreliableLetters,
)
from tests.rulebook import a_book

FIELDS = ("card_id", "merchant_id")
HORIZON_S = 90_000
LIFETIME_MS = 172_800_000
FLOOD_SHARE, FLOOD_WINDOW = 0.5, 20
PATIENCE_S = 5.0


class Entities(FeatureStore, FeatureLabels, Protocol):
    """A feature store with its side for labels, that can be looked into."""

    tells_labels: bool

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def state(self) -> Mapping[tuple[str, str], Counters]: ...


class Documents(Protocol):
    """A document store that can be looked into."""

    @property
    def documents(self) -> Mapping[str, bytes]: ...

    @property
    def waiting(self) -> Mapping[str, bytes]: ...

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]: ...

    def label(self, labels: Sequence[Label]) -> list[Labelled]: ...


@dataclass(frozen=True)
class Protections:
    """What keeps the guarantees; a test may exchange one for something that does not."""

    entities: Callable[["World"], Entities] = lambda world: FakeEntities(
        FIELDS, HORIZON_S, world.before_effect
    )
    documents: Callable[[DocumentFormat], Documents] = FakeDocuments
    letters: Callable[[], FakeDeadLetters] = FakeDeadLetters
    sink: Callable[[DecisionSink], DecisionSink] = lambda sink: sink
    worker: Callable[[WorkerParts, WorkerSettings], Worker] = Worker


@dataclass(frozen=True, slots=True)
class Counted:
    """A transaction on its way into the state of one entity."""

    field: str
    key: str
    transaction_id: str
    time_s: int
    amount_minor: int
    purchase: bool


class Moods:
    """Scores that are never the same twice, so that a second decision would differ."""

    def __init__(self) -> None:
        self._random = Random(7)

    def start(self, rows: Sequence[Sequence[float]], inference_id: str) -> "Moods":
        self._scores = [self._score() for _ in rows]
        pending = Moods()
        pending._scores = self._scores
        return pending

    def result(self) -> list[Scores]:
        return self._scores

    def _score(self) -> Scores:
        if self._random.random() < 0.2:
            return Scores(None, None, ("fraud:timeout", "anomaly:timeout"))
        return Scores(round(self._random.random(), 6), round(self._random.random(), 6))


class Witness:
    """Telemetry of one worker: what it said it settled last."""

    def __init__(self) -> None:
        self.settled_now: list[Settled] = []

    def spent(self, stage: str, seconds: float) -> None: ...

    def started(self, shard_id: ShardId) -> None: ...
    def stage(self, name: str) -> None: ...
    def delivered(self, records: Sequence[Record]) -> None: ...
    def under_way(self, first: Position, last: Position) -> None: ...
    def nothing_under_way(self) -> None: ...
    def crashed(self, position: Position, error: Rejected) -> None: ...
    def sorted(self, batch: Batch) -> None: ...

    def settled(self, settled: Sequence[Settled]) -> None:
        for each in settled:
            stored = orjson.loads(each.stored.document)
            same = stored["digest"] == each.assessment.transaction.digest
            assert same == (each.stored.stored is not Stored.CONFLICT), "a conflict was answered"
        self.settled_now = list(settled)

    def labelled(self, outcomes: Sequence[LabelOutcome]) -> None: ...
    def progressed(self, position: Position | None, millis_behind: int | None) -> None: ...
    def checkpointed(self, position: Position) -> None: ...


@dataclass
class Seat:
    """A process that works a shard, or believes it does."""

    name: str
    shard: Shard
    worker: Worker
    witness: Witness
    began: int
    cursor: int
    refused: bool = False
    pending: list[Publication] = field(default_factory=list)
    sent: set[tuple[bytes, ...]] = field(default_factory=set)


class World:
    """The KCL, the stores and Firehose around up to two seats."""

    def __init__(self, protections: Protections, chunk_size: int) -> None:
        self.clock, self.fuse, self.stream = FakeClock(), Fuse(), Stream()
        self.protections, self.chunk_size = protections, chunk_size
        self.counted: list[Counted] = []
        self.effects: list[tuple[str, LabelEffect]] = []
        self.entities = protections.entities(self)
        form = DocumentFormat(self.entities.names, "f" * 64, "EUR")
        self.documents = protections.documents(form)
        self.letters = protections.letters()
        self.rows: list[bytes] = []
        self.acknowledged: set[str] = set()
        self.prompt, self.answers = True, list[str]()
        self.scoring = Moods()
        self.seats: dict[str, Seat] = {}
        self.owner: Seat | None = None
        self.tolerant = False
        self.rows_of_the_dead_arrive = False

    def before_effect(self, name: str, effect: Observe | LabelEffect) -> None:
        """Note what reaches entity state, unless it does not come to that."""
        self.fuse.boundary("redis")
        self.note(name, effect)

    def note(self, name: str, effect: Observe | LabelEffect) -> None:
        """Note what reaches the state of the entity that the field *name* keys."""
        if isinstance(effect, LabelEffect):
            self.effects.append((name, effect))
            return
        transaction = effect.transaction
        self.counted.append(
            Counted(
                name,
                getattr(transaction, name),
                transaction.transaction_id,
                effect.time_s,
                transaction.base_amount_minor,
                transaction.kind == "purchase",
            )
        )

    def take_over(self, name: str) -> None:
        """Give the lease to a new process *name*, which goes on from the checkpoint."""
        shard = self.stream.shard
        witness = Witness()
        seat = Seat(name, shard, self._worker(name, witness), witness, shard.safe(), shard.safe())
        self.seats[name] = self.owner = seat
        seat.worker.start(shard.shard_id, shard.checkpoint)

    def _worker(self, name: str, witness: Witness) -> Worker:
        features = UnreliableFeatures(self.fuse, self.entities, self.entities)
        documents = UnreliableDocuments(self.fuse, self.documents)
        patience = Patience(self.clock, self.clock.sleep, PATIENCE_S, lambda _error, _waited: None)
        share = 1.0 if self.tolerant else FLOOD_SHARE
        parts = WorkerParts(
            intake=Intake(RULES, LIFETIME_MS),
            flood=FloodLimit(share, FLOOD_WINDOW),
            engine=Engine(
                features=features,
                scoring=self.scoring,
                documents=documents,
                judge=a_book(),
                clock=self.clock,
                timing=witness,
            ),
            labels=Labels(documents, features, patience, LIFETIME_MS),
            dead_letters=UnreliableLetters(self.fuse, self.letters),
            sink=self.protections.sink(SeatSink(self, name)),
            patience=patience,
            telemetry=witness,
            clock=self.clock,
        )
        settings = WorkerSettings(chunk_size=self.chunk_size, checkpoint_interval_s=2.0)
        return self.protections.worker(parts, settings)

    def call(self, seat: Seat, method: Callable[[Callable[[Position], None]], None]) -> bool:
        """
        Call *method* of *seat*'s worker as the KCL would; whether the process outlived it.

        After a refused checkpoint nothing is processed until the KCL says that the
        lease is lost.
        """
        if seat.refused:
            return True
        try:
            method(lambda position: self._checkpoint(seat, position))
        except CheckpointRefused:
            assert seat is not self.owner, "the owner's checkpoint was refused"
            seat.refused = True
        except (Killed, Unavailable):
            self.crash(seat)
            return False
        except Held:
            bad = {letter.position for letter in self.letters.letters.values()}
            worked = {entry.position for entry in seat.shard.entries[seat.began : seat.cursor]}
            assert len(bad & worked) > FLOOD_SHARE * FLOOD_WINDOW, "held without a flood to look at"
            assert not self.tolerant
            self.crash(seat)
            return False
        return True

    def crash(self, seat: Seat) -> None:
        """Drop the memory of a process; rows on their way may still arrive, unheard of."""
        self.fuse.left = None
        del self.seats[seat.name]
        if self.owner is seat:
            self.owner = None
        for publication in seat.pending:
            if self.rows_of_the_dead_arrive and not publication.done():
                self._accept(publication.documents)

    def deliver(self, seat: Seat, size: int) -> bool:
        """Hand over the next records, as far as there are any."""
        if seat.refused:
            return True
        entries = seat.shard.entries[seat.cursor : seat.cursor + size]
        seat.cursor += len(entries)
        records = [entry.record for entry in entries]
        return self.call(seat, lambda checkpoint: seat.worker.process(records, 0, checkpoint))

    def _checkpoint(self, seat: Seat, position: Position) -> None:
        self.fuse.boundary("dynamodb")
        if seat is not self.owner or seat.shard.ended:
            raise CheckpointRefused("ShutdownException")
        delivered = [entry.position for entry in seat.shard.entries[: seat.cursor]]
        assert position in delivered, "a checkpoint at what was not delivered"
        before = seat.shard.checkpoint
        assert before is None or position > before, "a checkpoint went back"
        seat.shard.checkpoint = position
        self.fuse.boundary("dynamodb")

    def settle(self, publication: Publication, how: str) -> None:
        """Let Firehose answer: acknowledge, lose the reply, refuse all, or refuse half."""
        documents = publication.documents
        accepted = {"refuse": 0, "refuse_half": len(documents) // 2}.get(how, len(documents))
        self._accept(documents[:accepted])
        for seat in self.seats.values():
            if publication in seat.pending:
                seat.pending.remove(publication)
        if how == "acknowledge":
            rows = map(orjson.loads, documents)
            self.acknowledged.update(row["prediction_id"] for row in rows)
            publication.set_result(None)
        else:
            publication.set_exception(Unavailable("firehose", how))

    def answer(self, publication: Publication) -> None:
        """Settle what is waited for in the way that is next."""
        self.settle(publication, self.answers.pop(0) if self.answers else "acknowledge")

    def _accept(self, documents: Sequence[bytes]) -> None:
        self.rows += map(build_row, documents)

    @property
    def pending(self) -> list[Publication]:
        """What waits for an answer, of both seats."""
        return [publication for seat in self.seats.values() for publication in seat.pending]


class SeatSink:
    """Firehose as one process sees it."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name

    def publish(self, documents: Sequence[bytes]) -> Publication:
        world, seat = self._world, self._world.seats[self._name]
        if tuple(documents) not in seat.sent:
            _check_rows_are_of(seat.witness.settled_now, documents)
            seat.sent.add(tuple(documents))
        publication = Publication(documents, world.answer)
        try:
            world.fuse.boundary("firehose")
            seat.pending.append(publication)
            if world.prompt:
                world.answer(publication)
            world.fuse.boundary("firehose")
        except Unavailable:
            # The port never raises: what fails is told by the future.
            if not publication.done():
                world.settle(publication, "refuse")
        return publication


def _check_rows_are_of(settled: Sequence[Settled], documents: Sequence[bytes]) -> None:
    """What is published was settled just now: of these very records, and each once."""
    positions = {str(each.assessment.origin.position) for each in settled}
    origins = [orjson.loads(document)["origin"]["position"] for document in documents]
    assert positions.issuperset(origins), "a row that another record answers for"
    assert len(set(origins)) == len(origins), "two records answered by one row"
