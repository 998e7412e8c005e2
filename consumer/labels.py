"""
Labels: what each one does to the document of its transaction and to entity state.

Documents decide which label of a transaction stands; entity state is told of the
one that does. Both may be told again without effect, so a worker that died in
between repeats both. A label without a document waits in the document store for
its transaction; one that is too old for that, because the document has expired,
brings the keys and the time that entity state needs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from consumer.document import milliseconds
from consumer.features.plan import ENTITY_FIELDS
from consumer.model import Kind, Label, LabelEffect, Labelled, LabelOutcome, LabelValue
from consumer.patience import Patience
from consumer.ports import DocumentStore, FeatureLabels


class Labels:
    """
    The one place where labels are worked.

    *features* is None where no feature reads labels. *lifetime_ms* is that of
    documents: a label whose transaction is older has no document to wait for.
    """

    def __init__(
        self,
        documents: DocumentStore,
        features: FeatureLabels | None,
        patience: Patience,
        lifetime_ms: int,
    ) -> None:
        self._documents = documents
        self._features = features
        self._patience = patience
        self._lifetime_ms = lifetime_ms

    def note(
        self, labels: Sequence[Label], waited: Sequence[LabelEffect], now_ms: int
    ) -> list[LabelOutcome]:
        """
        Note *labels* on their documents, then all effects in entity state.

        *waited* are the effects of labels that documents already hold: those that
        waited for the transactions of this chunk, and those of redelivered ones.
        One outcome a label comes back. Raises Unavailable once patience is over.
        """
        noted = self._patience.call(lambda: self._documents.label(labels)) if labels else []
        worked = [
            self._expired(label, now_ms) or each if each.outcome is LabelOutcome.UNMATCHED else each
            for label, each in zip(labels, noted, strict=True)
        ]
        effects = [*waited, *(each.effect for each in worked if each.effect is not None)]
        if effects and self._features is not None:
            features = self._features
            self._patience.call(lambda: features.label(effects))
        return [each.outcome for each in worked]

    def _expired(self, label: Label, now_ms: int) -> Labelled | None:
        """What *label* does without its document, when that can no longer come."""
        if label.event_time is None or not label.keys:
            return None
        event_ms = milliseconds(label.event_time)
        if now_ms - event_ms <= self._lifetime_ms:
            return None
        effect = LabelEffect(
            transaction_id=label.transaction_id,
            label_id=label.label_id,
            fraud=label.label is LabelValue.FRAUD,
            label_time_ms=milliseconds(label.label_time),
            event_time_s=event_ms // 1000,
            keys=label.keys,
        )
        return Labelled(LabelOutcome.EXPIRED, effect)


def build_label(label: Label) -> bytes:
    """What a document holds of *label*, as JSON; the id tells a repetition from a correction."""
    return orjson.dumps(
        {
            "id": label.label_id,
            "label": label.label,
            "source": label.source,
            "time_ms": milliseconds(label.label_time),
        }
    )


def read_effect(document: Mapping[str, Any]) -> LabelEffect | None:
    """
    Read what the label of a decoded *document* means for entity state.

    None without a label, and for a refund or reversal, which entity state never
    counted. Its ``transaction``, ``event_ms``, ``origin`` and ``label`` suffice.
    """
    label, transaction = document.get("label"), document["transaction"]
    if label is None or transaction["kind"] != Kind.PURCHASE:
        return None
    # The feature time of the transaction: its event, clamped to its arrival.
    time_ms = min(document["event_ms"], document["origin"]["arrival_ms"])
    return LabelEffect(
        transaction_id=document["transaction_id"],
        label_id=label["id"],
        fraud=label["label"] == LabelValue.FRAUD,
        label_time_ms=label["time_ms"],
        event_time_s=time_ms // 1000,
        keys={name: transaction[name] for name in ENTITY_FIELDS if name in transaction},
    )
