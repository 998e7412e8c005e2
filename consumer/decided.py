"""What a decision document says of the events that features were counted from."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from consumer.errors import Rejected
from consumer.evidence import Origin, Scalar
from consumer.features.plan import DISTINCT_FIELDS, Plan
from consumer.local.oracle import Event, Verdict
from consumer.model import Applied, Kind, LabelValue


class _Label(msgspec.Struct, frozen=True):
    id: str
    label: str
    time_ms: int


class _Document(msgspec.Struct, frozen=True):
    """The parts of a stored document that tell what was counted, and when."""

    transaction_id: str
    event_ms: int
    transaction: dict[str, Scalar]
    origin: Origin
    features: dict[str, float | None]
    feature_hash: str
    applied: tuple[str, ...]
    decided_ms: int
    stored_ms: int = 0
    label: _Label | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """
    One decided transaction as an event of its entities.

    ``event.time_s`` is the feature time: the event's second, clamped to its arrival.
    Features were read between ``received_ms`` and ``decided_ms``. ``applied`` tells by
    entity what became of it; a document of another feature list tells only whether it
    can have been counted. ``position`` orders the records of a shard; both are None for
    what did not come by the stream.
    """

    event: Event
    event_ms: int
    received_ms: int
    decided_ms: int
    stored_ms: int
    shard: str | None
    position: tuple[int, int] | None
    features: Mapping[str, float | None]
    feature_hash: str
    applied: Mapping[str, Applied]
    label: Verdict | None

    @property
    def order(self) -> tuple[int, tuple[int, int]]:
        """Sorts by when it was received, and within a batch by place."""
        return self.received_ms, self.position or (0, 0)


def read_decided(document: bytes, plan: Plan) -> Decided:
    """Read a stored *document*. Raises Rejected (``bad_document``) for what is none."""
    try:
        found = msgspec.json.decode(document, type=_Document)
        position = _position(found.origin.position)
        applied = _applied(found, plan)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Rejected("bad_document", f"not a decision document: {error}") from error
    transaction = found.transaction
    keys = {name: str(transaction[name]) for name in DISTINCT_FIELDS if transaction.get(name)}
    latitude, longitude = transaction.get("latitude"), transaction.get("longitude")
    placed = isinstance(latitude, int | float) and isinstance(longitude, int | float)
    time_s = min(found.event_ms, found.origin.arrival_ms) // 1000
    event = Event(
        transaction_id=found.transaction_id,
        time_s=time_s,
        amount_minor=round(float(transaction.get("base_amount") or 0) * 10**plan.exponent),
        keys=keys,
        purchase=transaction.get("kind") == Kind.PURCHASE,
        place=(float(latitude), float(longitude)) if placed else None,  # type: ignore[arg-type]
    )
    return Decided(
        event=event,
        event_ms=found.event_ms,
        received_ms=found.origin.received_ms,
        decided_ms=found.decided_ms,
        stored_ms=found.stored_ms,
        shard=found.origin.shard_id,
        position=position,
        features=found.features,
        feature_hash=found.feature_hash,
        applied=applied,
        label=_verdict(found.label, event),
    )


def _applied(found: _Document, plan: Plan) -> dict[str, Applied]:
    names = plan.entity_names
    if found.feature_hash == plan.hash:
        return dict(zip(names, map(Applied, found.applied), strict=True))
    purchase = found.transaction.get("kind") == Kind.PURCHASE
    return dict.fromkeys(names, Applied.APPLIED if purchase else Applied.READ)


def _position(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    sequence, _, sub = text.partition(":")
    return int(sequence), int(sub)


def _verdict(label: _Label | None, event: Event) -> Verdict | None:
    """The label of a purchase; nothing else is counted in entity state."""
    if label is None or not event.purchase:
        return None
    return Verdict(
        transaction_id=event.transaction_id,
        label_id=label.id,
        fraud=label.label == LabelValue.FRAUD,
        label_time_ms=label.time_ms,
        time_s=event.time_s,
        keys=event.keys,
    )
