"""Decision documents in memory."""

from collections.abc import Sequence

import orjson

from consumer.document import DocumentFormat, build_alert, build_document, came_from
from consumer.errors import Unavailable
from consumer.labels import build_label, read_effect
from consumer.model import (
    Assessment,
    Label,
    Labelled,
    LabelOutcome,
    Outcome,
    Stored,
    StoredDecision,
    TransactionId,
)
from consumer.ports import Pending
from tests.fakes.eager import at_once


class FakeDocuments:
    """Keeps the first document of an id; ``fail`` makes the next calls unavailable."""

    def __init__(self, form: DocumentFormat) -> None:
        self._form = form
        self.documents: dict[str, bytes] = {}
        self.alerts: list[bytes] = []
        self.waiting: dict[str, bytes] = {}
        self.failures = 0

    def fail(self, times: int) -> None:
        self.failures = times

    def start(self, assessments: Sequence[Assessment]) -> Pending[list[StoredDecision]]:
        return at_once(lambda: self.decide(assessments))

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]:
        self._answer()
        return [self._decide(assessment) for assessment in assessments]

    def label(self, labels: Sequence[Label]) -> list[Labelled]:
        self._answer()
        return [self._label(label) for label in labels]

    def write_second(
        self, transaction_id: TransactionId, assessment: bytes, alert: bytes | None
    ) -> bool:
        self._answer()
        known = self.documents.get(transaction_id)
        if known is None or "second_assessment" in orjson.loads(known):
            return False
        self.documents[transaction_id] = known[:-1] + b',"second_assessment":' + assessment + b"}"
        if alert is not None:
            self.alerts.append(alert)
        return True

    def find(self, transaction_ids: Sequence[TransactionId]) -> list[bytes | None]:
        self._answer()
        return [self.documents.get(each) for each in transaction_ids]

    def _answer(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("redis", "told to fail")

    def _decide(self, assessment: Assessment) -> StoredDecision:
        transaction = assessment.transaction
        known = self.documents.get(transaction.transaction_id)
        if known is None:
            document = build_document(assessment, self._form)
            waiting = self.waiting.pop(transaction.transaction_id, None)
            if waiting is not None:
                document = document[:-1] + b',"label":' + waiting + b"}"
            self.documents[transaction.transaction_id] = document
            if assessment.decision.outcome is not Outcome.APPROVE:
                self.alerts.append(build_alert(assessment))
            return StoredDecision(Stored.CREATED, document, read_effect(orjson.loads(document)))
        stored = orjson.loads(known)
        if stored["digest"] not in (transaction.digest, *transaction.former_digests):
            return StoredDecision(Stored.CONFLICT, known)
        again = came_from(stored, assessment.origin)
        return StoredDecision(
            Stored.REDELIVERED if again else Stored.EXISTING, known, read_effect(stored)
        )

    def _label(self, label: Label) -> Labelled:
        body, known = build_label(label), self.documents.get(label.transaction_id)
        if known is None:
            waiting = self.waiting.get(label.transaction_id)
            if waiting is None or _rank(orjson.loads(waiting), body) is LabelOutcome.APPLIED:
                self.waiting[label.transaction_id] = body
            return Labelled(LabelOutcome.UNMATCHED)
        document = orjson.loads(known)
        outcome = LabelOutcome.APPLIED
        if "label" in document:
            outcome = _rank(document["label"], body)
        if outcome is LabelOutcome.APPLIED:
            document["label"] = orjson.loads(body)
            self.documents[label.transaction_id] = orjson.dumps(document)
        return Labelled(outcome, read_effect(document))


def _rank(known: dict[str, object], body: bytes) -> LabelOutcome:
    said = orjson.loads(body)
    if said["id"] == known["id"]:
        return LabelOutcome.REPEATED
    newest = max(known, said, key=lambda label: (label["time_ms"], label["id"]))
    return LabelOutcome.APPLIED if newest is said else LabelOutcome.SUPERSEDED
