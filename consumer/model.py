"""
The nouns of the system, as frozen values.

Money is an integer of minor units (cents for EUR, yen for JPY), time is aware
UTC on events and integer seconds or milliseconds since the epoch where the
name says so. Nothing here touches a network or knows a vendor.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

TransactionId = NewType("TransactionId", str)
ShardId = NewType("ShardId", str)


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """
    A place in one shard: the sequence number and, for aggregated records, the
    sub-sequence number. Several user records of one KPL aggregate share the
    first and differ in the second, so order and checkpoints use the pair.
    """

    sequence_number: int
    sub_sequence_number: int = 0

    def __str__(self) -> str:
        return f"{self.sequence_number}:{self.sub_sequence_number}"


@dataclass(frozen=True, slots=True)
class Record:
    """One user record as delivered; ``arrival_ms`` is Kinesis's approximate arrival."""

    shard_id: ShardId
    position: Position
    arrival_ms: int
    data: bytes


class Kind(StrEnum):
    """What a transaction does; only purchases enter spend."""

    PURCHASE = "purchase"
    REFUND = "refund"
    REVERSAL = "reversal"


@dataclass(frozen=True, slots=True)
class Transaction:
    """
    One card transaction, decoded and checked.

    ``amount_minor`` is in minor units of ``currency``; ``base_amount_minor`` is
    the same money in the base currency of the settings, which features use.
    ``digest`` is the SHA-256 (hex) of the canonical transaction: equal ids with
    different digests are a conflict, never the same transaction. ``former_digests``
    are of the same content under the keys that card numbers were hashed with before.
    """

    transaction_id: TransactionId
    event_time: datetime
    card_id: str
    merchant_id: str
    amount_minor: int
    currency: str
    base_amount_minor: int
    digest: str
    kind: Kind = Kind.PURCHASE
    customer_id: str | None = None
    terminal_id: str | None = None
    merchant_category: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    channel: str | None = None
    entry_mode: str | None = None
    device_id: str | None = None
    ip_address: str | None = None
    extra: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    former_digests: tuple[str, ...] = ()


class LabelValue(StrEnum):
    """What a transaction turned out to be."""

    FRAUD = "fraud"
    LEGITIMATE = "legitimate"


@dataclass(frozen=True, slots=True)
class Label:
    """
    What became known about a transaction, by whom and when.

    ``label_id`` is the hash of transaction, source, label and time, so that the
    same statement sent twice is one label. ``keys`` (entity field → value) and
    ``event_time`` of the transaction are carried for when its document is gone.
    """

    label_id: str
    transaction_id: TransactionId
    label: LabelValue
    label_time: datetime
    source: str
    event_time: datetime | None = None
    keys: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelEffect:
    """
    What one label means for the feature state of its transaction's entities.

    ``keys`` (entity field → value) and ``event_time_s`` (whole seconds since the
    epoch) are the transaction's, as its features were counted. ``label_time_ms``
    decides between two labels of one transaction: the newest wins.
    """

    transaction_id: TransactionId
    label_id: str
    fraud: bool
    label_time_ms: int
    event_time_s: int
    keys: Mapping[str, str]


class LabelOutcome(StrEnum):
    """
    What became of a label.

    It stands (``applied``), stood before (``repeated``), gave way to a newer one
    (``superseded``), waits for its transaction (``unmatched``), or changed entity
    state alone, because the document is gone (``expired``).
    """

    APPLIED = "applied"
    REPEATED = "repeated"
    SUPERSEDED = "superseded"
    UNMATCHED = "unmatched"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A label's outcome, with its effect where it has one."""

    outcome: LabelOutcome
    effect: LabelEffect | None = None


class Applied(StrEnum):
    """What one entity did with an event."""

    APPLIED = "applied"
    REPEATED = "repeated"
    LATE = "late_dropped"
    READ = "read"


@dataclass(frozen=True, slots=True)
class Observation:
    """
    The feature vector of one transaction, in the order of the plan's names.

    ``applied`` holds one entry an entity of the plan, in the plan's order. ``warming``
    names the features whose state does not reach as far back as their windows yet.
    """

    values: tuple[float, ...]
    applied: tuple[Applied, ...]
    warming: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Scores:
    """
    What the endpoints said: ``fraud`` a probability in [0, 1], ``anomaly`` an
    unbounded score ≥ 0; None where no answer came, with the cause
    (``fraud:timeout``, ``anomaly:status_500`` …) in ``degraded``.
    """

    fraud: float | None
    anomaly: float | None
    degraded: tuple[str, ...] = ()


class Outcome(StrEnum):
    """What to do with a transaction."""

    APPROVE = "approve"
    REVIEW = "review"
    DECLINE = "decline"


@dataclass(frozen=True, slots=True)
class RuleHit:
    """
    A rule that found what it looks for: it asks for ``outcome`` or, where that is
    None, adds ``add`` to the fraud score; ``code`` and ``text`` say why.
    """

    rule_id: str
    version: int
    outcome: Outcome | None
    add: float
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Ruled:
    """
    What the rules said of one transaction.

    ``live`` hits count, ``shadow`` ones are only recorded; ``warming`` are those of them
    that would count if all features they read were full. ``errors`` are the ids of rules
    that gave no value. The hashes are those of the rules and the lists.
    """

    live: tuple[RuleHit, ...] = ()
    shadow: tuple[RuleHit, ...] = ()
    errors: tuple[str, ...] = ()
    rules_hash: str = ""
    lists_hash: str = ""
    warming: tuple[RuleHit, ...] = ()


NO_RULES = Ruled()
"""What is known where no rules were asked."""


@dataclass(frozen=True, slots=True)
class Bands:
    """
    From which score on, inclusive, to review and to decline.

    ``fraud_from`` and ``anomaly_from`` say whose they are: ``settings``, or the beginning
    of the SHA-256 of the model's archive.
    """

    fraud_review: float
    fraud_decline: float
    anomaly_review: float
    fraud_from: str = "settings"
    anomaly_from: str = "settings"


@dataclass(frozen=True, slots=True)
class Decision:
    """
    An outcome with its reason codes, strongest first, and a text for each.

    ``risk`` is the fraud score with what rules added, None where none did; ``bands`` are
    those that the scores were held against.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    texts: tuple[str, ...] = ()
    risk: float | None = None
    bands: Bands | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """
    Where a transaction came from: ``stream``, or ``rest``, ``replay``, ``redrive``.

    The position is that of its record, also where it came back as a dead letter.
    """

    source: str
    arrival_ms: int
    received_ms: int
    shard_id: ShardId | None = None
    position: Position | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """Everything one transaction was decided on; what a document is written from."""

    transaction: Transaction
    origin: Origin
    observation: Observation
    scores: Scores
    decision: Decision
    decided_ms: int
    future: bool
    rules: Ruled = NO_RULES


class Stored(StrEnum):
    """What the document store did with an assessment."""

    CREATED = "created"
    REDELIVERED = "redelivered"
    EXISTING = "existing"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """
    The decision that stands, as the document store holds it.

    ``document`` is the stored JSON; for a conflict it is the document of the
    other transaction with the same id and must not be answered with. ``effect``
    is that of the label which the document holds, if any.
    """

    stored: Stored
    document: bytes
    effect: LabelEffect | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """
    A record that could not be processed, with its payload masked.

    ``masked`` and ``whole`` are those of ``masking.MaskedPayload``: a payload that is
    whole and not masked can be sent again as it is.
    """

    shard_id: ShardId
    position: Position
    arrival_ms: int
    error: str
    message: str
    payload: str
    masked: bool = False
    whole: bool = True

    @property
    def letter_id(self) -> str:
        """The record's place, so that a redelivery makes no second letter."""
        return (
            f"{self.shard_id}-{self.position.sequence_number}-{self.position.sub_sequence_number}"
        )
