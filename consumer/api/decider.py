"""
One chunk of transactions from REST, by the engine of a worker.

As in a worker a chunk is cut in two: one waits for its scores while the next reads its features.
Ids that are decided already are looked up first, so that asking again costs no score and a
transaction of other content under a known id never touches entity state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from consumer.api.answers import Answer, Prediction, answer_from, read_found
from consumer.api.publisher import Publisher
from consumer.document import DocumentFormat, build_document
from consumer.engine import Dispatched, Incoming, Settled
from consumer.errors import Unavailable
from consumer.model import Label, LabelOutcome, Origin, Stored, Transaction, TransactionId
from consumer.ports import FeatureRehearsal, KnownDecisions
from consumer.worker import WorkerParts, is_ours

SOURCE = "rest"


@dataclass(frozen=True, slots=True)
class Begun:
    """
    A chunk of different ids whose new ones wait for their scores.

    ``known`` are the documents of those that were decided before, ``entry`` that of the outbox
    where there are others.
    """

    transactions: tuple[Transaction, ...]
    known: dict[TransactionId, bytes]
    dispatched: Dispatched | None
    entry: str | None = None

    @property
    def ids(self) -> frozenset[TransactionId]:
        """The ids of the chunk."""
        return frozenset(each.transaction_id for each in self.transactions)


class Decider:
    """
    Decides with *parts*; used by one thread.

    Each method raises Unavailable when Redis does; a call may be repeated, and what it did in
    part is done again without effect.
    """

    def __init__(
        self,
        parts: WorkerParts,
        known: KnownDecisions,
        rehearsal: FeatureRehearsal,
        form: DocumentFormat,
        publisher: Publisher | None,
    ) -> None:
        self._parts = parts
        self._known = known
        self._rehearsal = rehearsal
        self._form = form
        self._publisher = publisher

    def turn(self) -> None:
        """Take over the rules and the policy of now, where nothing is to be decided."""
        self._parts.engine.turn()
        self._parts.telemetry.progressed(None, None)

    def begin(self, transactions: Sequence[Transaction]) -> Begun:
        """Look up *transactions*, of different ids, and send the new ones for their scores."""
        ids = [each.transaction_id for each in transactions]
        found = self._known.find(ids)
        known = {
            name: document
            for name, document in zip(ids, found, strict=True)
            if document is not None
        }
        incoming = self._incoming(
            [each for each in transactions if each.transaction_id not in known]
        )
        if not incoming:
            return Begun(tuple(transactions), known, None)
        entry = None
        if self._publisher is not None:
            new = [each.transaction.transaction_id for each in incoming]
            entry = self._publisher.announce(new)
        return Begun(tuple(transactions), known, self._parts.engine.dispatch(incoming), entry)

    def finish(self, begun: Begun) -> list[Answer]:
        """Decide and store what *begun* holds; one answer a transaction, in order."""
        stored = dict(begun.known)
        created: set[TransactionId] = set()
        if begun.dispatched is None:
            # What is known may be what was refused for want of copies.
            self._confirm()
        else:
            settled = self._store(begun.dispatched, begun.entry)
            for each in settled:
                name = each.assessment.transaction.transaction_id
                stored[name] = each.stored.document
                if each.stored.stored is Stored.CREATED:
                    created.add(name)
        return [
            answer_from(
                stored[each.transaction_id],
                each,
                self._form.base_currency,
                repeated=each.transaction_id not in created,
            )
            for each in begun.transactions
        ]

    def rehearse(self, transactions: Sequence[Transaction]) -> list[Answer]:
        """Decide each of *transactions* as if it came alone and now; write nothing."""
        assessments = self._parts.engine.rehearse(self._incoming(transactions), self._rehearsal)
        return [
            Prediction(read_found(build_document(each, self._form)), dry_run=True)
            for each in assessments
        ]

    def label(self, label: Label) -> LabelOutcome:
        """Note *label* on its document and in entity state."""
        (outcome,) = self._parts.labels.note([label], (), self._parts.clock.now_ms())
        self._parts.telemetry.labelled([outcome])
        self._confirm()
        return outcome

    def _incoming(self, transactions: Sequence[Transaction]) -> list[Incoming]:
        now_ms = self._parts.clock.now_ms()
        origin = Origin(source=SOURCE, arrival_ms=now_ms, received_ms=now_ms)
        return [Incoming(each, origin) for each in transactions]

    def _store(self, dispatched: Dispatched, entry: str | None) -> list[Settled]:
        parts = self._parts
        assessments = parts.engine.assess(dispatched)
        settled = parts.engine.store(assessments)
        # A conflict is told to who asked; nothing becomes a dead letter.
        parts.telemetry.settled(
            [each for each in settled if each.stored.stored is not Stored.CONFLICT]
        )
        waited = [each.stored.effect for each in settled if each.stored.effect is not None]
        if waited:
            parts.labels.note((), waited, parts.clock.now_ms())
        self._confirm()
        if self._publisher is not None and entry is not None:
            documents = [each.stored.document for each in settled if is_ours(each)]
            self._publisher.publish(entry, documents)
        return settled

    def _confirm(self) -> None:
        """Wait for the copies of what was written, where there are to be some."""
        durability = self._parts.durability
        if durability is not None and not durability.confirm():
            raise Unavailable("redis", "a primary was replaced: ask again")
