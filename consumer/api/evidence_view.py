"""One decision with all it was made on, and its neighbours, as the live page shows it."""

from typing import Any

import msgspec

from consumer.api.transactions import Documents
from consumer.errors import Rejected
from consumer.evidence import (
    Evidence,
    Scalar,
    absent_entities,
    compare_amount,
    decode_evidence,
    other_features,
    windows_of,
)
from consumer.model import TransactionId
from consumer.query import Page, Query

__all__ = ["Documents", "EvidenceView", "read_view"]

NEIGHBOURS = 10
"""Decisions on the same card, and at the same merchant, that are shown; the newest."""

_VERSIONS = ("prediction_id", "feature_hash", "digest")


class Compared(msgspec.Struct, frozen=True):
    """The amount as a multiple of what is usual by *feature*."""

    feature: str
    multiple: float


class WindowsView(msgspec.Struct, frozen=True):
    """
    One quantity of one entity over its windows, shortest first.

    ``usual`` is what all but the longest would hold at the pace of the rest of the longest.
    """

    entity: str
    what: str
    windows: tuple[str, ...]
    values: tuple[float, ...]
    usual: tuple[float, ...]


class FeaturesView(msgspec.Struct, frozen=True):
    """
    The features: the amount beside the usual, those over windows, and the others.

    ``absent`` are entities that the event does not name, whose features are 0 for that.
    """

    compared: tuple[Compared, ...]
    windows: tuple[WindowsView, ...]
    others: dict[str, float | None]
    absent: tuple[str, ...]


class Neighbour(msgspec.Struct, frozen=True):
    """Another decision, in brief; times in milliseconds since the epoch."""

    transaction_id: str
    event_ms: int
    amount: Scalar
    currency: Scalar
    card_id: Scalar
    merchant_id: Scalar
    outcome: str
    fraud: float | None
    label: str | None


class Neighbours(msgspec.Struct, frozen=True):
    """The newest decisions of the same card or merchant, of so many in all."""

    id: str
    total: int
    items: tuple[Neighbour, ...]


class EvidenceView(msgspec.Struct, frozen=True):
    """
    One decision with its evidence; times in milliseconds since the epoch.

    ``origin``, ``scores``, ``decision``, ``rules``, ``explanation``, ``label`` and
    ``second_assessment`` are as in the stored document, what is absent there null or empty.
    """

    transaction_id: str
    event_ms: int
    decided_ms: int
    degraded: tuple[str, ...]
    transaction: dict[str, Scalar]
    features: FeaturesView
    versions: dict[str, str]
    neighbours: dict[str, Neighbours]
    origin: dict[str, Any]
    scores: dict[str, Any]
    decision: dict[str, Any]
    rules: dict[str, Any]
    explanation: tuple[dict[str, Any], ...]
    label: dict[str, Any] | None
    second_assessment: dict[str, Any] | None


def read_view(documents: Documents, transaction_id: TransactionId) -> EvidenceView | None:
    """
    The evidence of *transaction_id* and its neighbours; None where there is no document.

    Raises Unavailable, and Rejected for a document that no version of this package wrote.
    """
    document = documents.read(transaction_id)
    if document is None:
        return None
    evidence = decode_evidence(document)
    known = evidence.known
    card, merchant = (str(known.transaction[name]) for name in ("card_id", "merchant_id"))
    neighbours = {
        "card": _neighbours(documents, card, Query(card=card, limit=NEIGHBOURS)),
        "merchant": _neighbours(documents, merchant, Query(merchant=merchant, limit=NEIGHBOURS)),
    }
    as_stored = msgspec.to_builtins(known)
    further = evidence.further
    return EvidenceView(
        transaction_id=known.transaction_id,
        event_ms=known.event_ms,
        decided_ms=known.decided_ms,
        degraded=known.degraded,
        transaction=known.transaction,
        features=_features(evidence),
        versions={name: str(further[name]) for name in _VERSIONS if name in further},
        neighbours=neighbours,
        **{
            name: as_stored[name]
            for name in ("origin", "scores", "decision", "rules", "label", "second_assessment")
        },
        explanation=tuple(as_stored["explanation"]),
    )


def _features(evidence: Evidence) -> FeaturesView:
    features = evidence.known.features
    return FeaturesView(
        compared=tuple(Compared(*each) for each in compare_amount(features)),
        windows=tuple(
            WindowsView(each.entity, each.what, each.windows, each.values, each.usual)
            for each in windows_of(features)
        ),
        others=other_features(features),
        absent=tuple(absent_entities(features, evidence.known.transaction)),
    )


def _neighbours(documents: Documents, identity: str, query: Query) -> Neighbours:
    page = documents.search(query)
    return Neighbours(identity, page.total, tuple(_briefly(page)))


def _briefly(page: Page) -> list[Neighbour]:
    found = []
    for document in page.documents:
        try:
            known = decode_evidence(document).known
        except Rejected:
            # One of another version is no reason to show none.
            continue
        found.append(
            Neighbour(
                known.transaction_id,
                known.event_ms,
                amount=known.transaction.get("amount"),
                currency=known.transaction.get("currency"),
                card_id=known.transaction.get("card_id"),
                merchant_id=known.transaction.get("merchant_id"),
                outcome=known.decision.outcome,
                fraud=known.scores.fraud,
                label=known.label.label if known.label else None,
            )
        )
    return found
