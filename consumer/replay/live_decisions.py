"""Decisions of a replay on the live Redis: documents and Firehose, as a worker leaves them."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from consumer.engine import Settled
from consumer.errors import Rejected, Unavailable
from consumer.intake import dead_letter
from consumer.model import Label, Record, Stored
from consumer.replay.target import Result
from consumer.worker import WorkerParts, is_ours

_OUTSTANDING = 32
_CONFLICT = Rejected("conflict", "the transaction_id was decided before with other content")


@dataclass(slots=True)
class _Publishing:
    documents: list[bytes]
    future: "Future[None]"


class LiveDecisions:
    """
    Documents are stored by the engine; here their rows are published and labels are noted.

    A record that is replayed again after an interruption finds the document that was made from
    it, and sends its row again; that of a transaction that was decided otherwise stands,
    and its own record answers for the row.
    """

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._publishing: deque[_Publishing] = deque()
        self._labels: list[Label] = []

    def label(self, label: Label) -> None:
        """Keep *label* until the documents of its chunk are there."""
        self._labels.append(label)

    def take(self, settled: Sequence[Settled], records: Sequence[Record], _ms: float) -> None:
        """
        Publish the rows of new documents, and tell entity state of labels that waited.

        What was decided before with other content becomes a dead letter.
        """
        self._parts.telemetry.settled(settled)
        waited = [each.stored.effect for each in settled if each.stored.effect is not None]
        if waited:
            self._parts.labels.note((), waited, self._parts.clock.now_ms())
        letters = [
            dead_letter(record, _CONFLICT)
            for record, each in zip(records, settled, strict=True)
            if each.stored.stored is Stored.CONFLICT
        ]
        if letters:
            self._parts.patience.call(lambda: self._parts.dead_letters.put(letters))
        self._note_labels()
        self._publish([each.stored.document for each in settled if is_ours(each)])

    def save(self) -> dict[str, object]:
        """Wait until every row is taken and replicas have what was written."""
        self._note_labels()
        while self._publishing:
            self._acknowledge()
        durability = self._parts.durability
        if durability is not None and not self._parts.patience.call(durability.confirm):
            raise Unavailable("redis", "a primary was replaced: resume to send it again")
        return {}

    def finish(self) -> Result:
        """Nothing is left to do."""
        return Result()

    def close(self) -> None:
        """The parts are closed by whoever opened them."""

    def _note_labels(self) -> None:
        labels, self._labels = self._labels, []
        if labels:
            self._parts.labels.note(labels, (), self._parts.clock.now_ms())

    def _publish(self, documents: list[bytes]) -> None:
        sink = self._parts.sink
        if sink is None or not documents:
            return
        self._publishing.append(_Publishing(documents, sink.publish(documents)))
        while len(self._publishing) > _OUTSTANDING:
            self._acknowledge()

    def _acknowledge(self) -> None:
        """Wait for the oldest rows, sending them again after a failure."""
        publishing = self._publishing[0]

        def attempt() -> None:
            try:
                publishing.future.result()
            except Unavailable:
                if self._parts.sink is not None:
                    publishing.future = self._parts.sink.publish(publishing.documents)
                raise

        self._parts.patience.call(attempt)
        self._publishing.popleft()
