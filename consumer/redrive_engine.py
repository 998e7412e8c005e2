"""Dead letters straight through the engine of a worker, without the stream."""

from collections.abc import Sequence

from consumer.engine import Settled
from consumer.errors import Unavailable
from consumer.model import LabelOutcome, Stored
from consumer.redrive import Outcome, Ready, Result
from consumer.worker import WorkerParts, is_ours

_RESULTS = {
    Stored.CREATED: Result.DECIDED,
    Stored.REDELIVERED: Result.DUPLICATE,
    Stored.EXISTING: Result.DUPLICATE,
    Stored.CONFLICT: Result.CONFLICT,
}


class EngineDelivery:
    """
    Decides letters with *parts*, as a worker decides a chunk, and waits for every effect.

    An entity whose newest event is further ahead than the id horizon does not count what
    is decided this late.
    """

    name = "engine"

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts

    def send(self, letters: Sequence[Ready]) -> list[Outcome]:
        """
        Decide transactions, then work labels; one outcome a letter, in order.

        Raises Unavailable when something stops answering; what was done in part is
        done again without effect.
        """
        transactions = [each for each in letters if each.batch.incoming]
        labels = [each for each in letters if each.batch.labels]
        settled = self._decide(transactions) if transactions else []
        outcomes = {
            each.filed.letter.letter_id: _decided(each, found)
            for each, found in zip(transactions, settled, strict=True)
        }
        for each, label in zip(labels, self._label(labels, settled), strict=True):
            letter_id = each.filed.letter.letter_id
            outcomes[letter_id] = Outcome(letter_id, Result.LABELLED, detail=label)
        self._publish([each.stored.document for each in settled if is_ours(each)])
        self._confirm()
        return [outcomes[each.filed.letter.letter_id] for each in letters]

    def _decide(self, letters: Sequence[Ready]) -> list[Settled]:
        engine, patience = self._parts.engine, self._parts.patience
        incoming = [each.batch.incoming[0] for each in letters]
        dispatched = patience.call(lambda: engine.dispatch(incoming))
        assessments = engine.assess(dispatched)
        settled = patience.call(lambda: engine.store(assessments))
        self._parts.telemetry.settled(settled)
        return settled

    def _label(self, letters: Sequence[Ready], settled: Sequence[Settled]) -> list[LabelOutcome]:
        """Work the labels among *letters*, and those that waited for what was decided."""
        waited = [each.stored.effect for each in settled if each.stored.effect is not None]
        labels = [each.batch.labels[0] for each in letters]
        return self._parts.labels.note(labels, waited, self._parts.clock.now_ms())

    def _publish(self, documents: list[bytes]) -> None:
        sink = self._parts.sink
        if sink is not None and documents:
            self._parts.patience.call(lambda: sink.publish(documents).result())

    def _confirm(self) -> None:
        durability = self._parts.durability
        if durability is not None and not self._parts.patience.call(durability.confirm):
            raise Unavailable("redis", "a primary was replaced: send these letters again")


def _decided(ready: Ready, settled: Settled) -> Outcome:
    result = _RESULTS[settled.stored.stored]
    letter_id = ready.filed.letter.letter_id
    if result is Result.CONFLICT:
        detail = "the transaction_id was decided before with other content"
        return Outcome(letter_id, result, "conflict", detail)
    decision = settled.assessment.decision.outcome
    return Outcome(letter_id, result, detail=decision if result is Result.DECIDED else "")
