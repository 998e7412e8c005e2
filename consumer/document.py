"""
The decision document: what was decided, on what, and when.

One JSON object a transaction, the source of the Firehose row, the alert and
every answer. Absent values are left out rather than null, because RediSearch
does not index null.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from consumer.currency import EXPONENTS
from consumer.model import Assessment, Decision, Origin, Outcome, Ruled, Transaction

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HASH_DIGITS = 16
OPTIONAL_FIELDS: Final = (
    "customer_id",
    "terminal_id",
    "merchant_category",
    "country",
    "latitude",
    "longitude",
    "channel",
    "entry_mode",
    "device_id",
    "ip_address",
)
"""What an event may leave out, in the order of documents and rows."""


def build_prediction_id(transaction: Transaction) -> str:
    """
    The stable id of the decision on *transaction*: 32 hex digits.

    A hash of id and content, so that every owner and every redelivery arrives
    at the same one, and readers can remove repeats by it.
    """
    text = f"{transaction.transaction_id}\n{transaction.digest}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class DocumentFormat:
    """What every document of one process shares: the feature list and the base currency."""

    feature_names: tuple[str, ...]
    feature_hash: str
    base_currency: str


def build_document(assessment: Assessment, form: DocumentFormat) -> bytes:
    """The document of *assessment* as JSON. Raises ValueError for a vector of another length."""
    transaction, scores = assessment.transaction, assessment.scores
    document: dict[str, object] = {
        "transaction_id": transaction.transaction_id,
        "prediction_id": build_prediction_id(transaction),
        "digest": transaction.digest,
        "event_ms": milliseconds(transaction.event_time),
        "transaction": transaction_fields(transaction, form.base_currency),
        "origin": _origin_fields(assessment.origin),
        "features": dict(zip(form.feature_names, assessment.observation.values, strict=True)),
        "feature_hash": form.feature_hash,
        "applied": assessment.observation.applied,
        "scores": {
            name: score
            for name, score in (("fraud", scores.fraud), ("anomaly", scores.anomaly))
            if score is not None
        },
        "decision": _decision_fields(assessment.decision),
        "rules": _rule_fields(assessment.rules),
        "degraded": scores.degraded,
        "decided_ms": assessment.decided_ms,
    }
    if assessment.future:
        document["future"] = True
    return orjson.dumps(document)


def came_from(document: Mapping[str, Any], origin: Origin) -> bool:
    """
    Whether the stored *document* was made from the very record of *origin*.

    Then it came again after a crash or a lost reply; a producer's duplicate
    stands elsewhere in the stream.
    """
    written = document["origin"]
    return bool(
        origin.position is not None
        and written.get("shard_id") == origin.shard_id
        and written.get("position") == str(origin.position)
    )


def build_alert(assessment: Assessment) -> bytes:
    """What the alerts stream carries of a review or decline, as JSON."""
    return orjson.dumps(_alert_fields(assessment))


def build_second_assessment(second: Assessment) -> bytes:
    """What a document says of its *second* assessment, made when all scores were there."""
    return orjson.dumps(
        {
            "scores": {"fraud": second.scores.fraud, "anomaly": second.scores.anomaly},
            "outcome": second.decision.outcome,
            "reasons": second.decision.reasons,
            "assessed_ms": second.decided_ms,
        }
    )


def build_second_alert(second: Assessment, first: Assessment) -> bytes:
    """
    What the alerts stream carries of a *second* assessment that is worse than the *first*.

    An alert by its form, with ``decided``, the outcome that stands. Its own stable
    ``prediction_id`` keeps readers from taking it for a repeat of the first alert.
    """
    fields = _alert_fields(second)
    identity = f"{fields['prediction_id']}\nsecond"
    fields["prediction_id"] = hashlib.sha256(identity.encode()).hexdigest()[:32]
    fields["decided"] = first.decision.outcome
    return orjson.dumps(fields)


def alert_of(document: Mapping[str, Any]) -> bytes | None:
    """Return the alert of a stored *document*, equal to ``build_alert``; None if approved."""
    decision, transaction, scores = (
        document[name] for name in ("decision", "transaction", "scores")
    )
    if decision["outcome"] == Outcome.APPROVE:
        return None
    return orjson.dumps(
        {
            "transaction_id": document["transaction_id"],
            "prediction_id": document["prediction_id"],
            **{
                name: transaction[name] for name in ("card_id", "merchant_id", "amount", "currency")
            },
            "outcome": decision["outcome"],
            "reasons": decision["reasons"],
            "fraud_score": scores.get("fraud"),
            "anomaly_score": scores.get("anomaly"),
            "decided_ms": document["decided_ms"],
        }
    )


def milliseconds(moment: datetime) -> int:
    """
    Whole milliseconds since the epoch of an aware *moment*.

    In integers: a float of seconds is one millisecond low now and then.
    """
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def _alert_fields(assessment: Assessment) -> dict[str, object]:
    transaction = assessment.transaction
    return {
        "transaction_id": transaction.transaction_id,
        "prediction_id": build_prediction_id(transaction),
        "card_id": transaction.card_id,
        "merchant_id": transaction.merchant_id,
        "amount": _major_units(transaction.amount_minor, transaction.currency),
        "currency": transaction.currency,
        "outcome": assessment.decision.outcome,
        "reasons": assessment.decision.reasons,
        "fraud_score": assessment.scores.fraud,
        "anomaly_score": assessment.scores.anomaly,
        "decided_ms": assessment.decided_ms,
    }


def transaction_fields(transaction: Transaction, base_currency: str) -> dict[str, object]:
    """What a document says of *transaction*: the event as it was decoded."""
    fields: dict[str, object] = {
        "event_time": transaction.event_time,
        "card_id": transaction.card_id,
        "merchant_id": transaction.merchant_id,
        "amount": _major_units(transaction.amount_minor, transaction.currency),
        "currency": transaction.currency,
        "base_amount": _major_units(transaction.base_amount_minor, base_currency),
        "kind": transaction.kind,
    }
    for name in OPTIONAL_FIELDS:
        value = getattr(transaction, name)
        if value is not None:
            fields[name] = value
    fields.update(transaction.extra)
    return fields


def _decision_fields(decision: Decision) -> dict[str, object]:
    fields: dict[str, object] = {"outcome": decision.outcome, "reasons": decision.reasons}
    if decision.texts:
        fields["texts"] = decision.texts
    if decision.risk is not None:
        fields["risk"] = decision.risk
    if decision.bands is not None:
        fields["bands"] = decision.bands
    return fields


def _rule_fields(ruled: Ruled) -> dict[str, object]:
    """Hits as ``<id>@<version>``; the beginnings of the hashes are enough to find a version by."""
    fields: dict[str, object] = {
        "hash": ruled.rules_hash[:_HASH_DIGITS],
        "lists_hash": ruled.lists_hash[:_HASH_DIGITS],
    }
    for name, hits in (
        ("hits", ruled.live),
        ("shadow", ruled.shadow),
        ("warming", ruled.warming),
    ):
        if hits:
            fields[name] = [f"{hit.rule_id}@{hit.version}" for hit in hits]
    if ruled.errors:
        fields["errors"] = ruled.errors
    return fields


def _origin_fields(origin: Origin) -> dict[str, object]:
    fields: dict[str, object] = {
        "source": origin.source,
        "arrival_ms": origin.arrival_ms,
        "received_ms": origin.received_ms,
    }
    if origin.shard_id is not None and origin.position is not None:
        fields["shard_id"] = origin.shard_id
        fields["position"] = str(origin.position)
    return fields


def _major_units(minor: int, currency: str) -> float:
    """Money as JSON shows it: 12.5 for 1,250 cents."""
    units: int = 10 ** EXPONENTS[currency]
    return minor / units
