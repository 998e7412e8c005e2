"""Decision documents in memory."""

from collections.abc import Sequence

import orjson

from consumer.document import DocumentFormat, build_alert, build_document, milliseconds
from consumer.errors import Unavailable
from consumer.model import Assessment, Label, Outcome, Stored, StoredDecision


class FakeDocuments:
    """Keeps the first document of an id; ``fail`` makes the next calls unavailable."""

    def __init__(self, form: DocumentFormat) -> None:
        self._form = form
        self.documents: dict[str, bytes] = {}
        self.alerts: list[bytes] = []
        self.failures = 0

    def fail(self, times: int) -> None:
        self.failures = times

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]:
        self._answer()
        return [self._decide(assessment) for assessment in assessments]

    def label(self, labels: Sequence[Label]) -> list[bool]:
        self._answer()
        return [self._label(label) for label in labels]

    def _answer(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("redis", "told to fail")

    def _decide(self, assessment: Assessment) -> StoredDecision:
        transaction = assessment.transaction
        known = self.documents.get(transaction.transaction_id)
        if known is None:
            document = build_document(assessment, self._form)
            self.documents[transaction.transaction_id] = document
            if assessment.decision.outcome is not Outcome.APPROVE:
                self.alerts.append(build_alert(assessment))
            return StoredDecision(Stored.CREATED, document)
        same = orjson.loads(known)["digest"] == transaction.digest
        return StoredDecision(Stored.EXISTING if same else Stored.CONFLICT, known)

    def _label(self, label: Label) -> bool:
        known = self.documents.get(label.transaction_id)
        if known is None:
            return False
        document = orjson.loads(known)
        time_ms = milliseconds(label.label_time)
        if document.get("label", {"time_ms": -1})["time_ms"] < time_ms:
            document["label"] = {"label": label.label, "source": label.source, "time_ms": time_ms}
            self.documents[label.transaction_id] = orjson.dumps(document)
        return True
