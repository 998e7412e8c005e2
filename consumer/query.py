"""What one may ask the decision documents for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from consumer.model import LabelValue, Outcome

MAX_PAGE = 1_000
"""Documents a page at most; what needs more is a question for Athena."""


@dataclass(frozen=True, slots=True)
class Range:
    """From *low* to *high*, both included; None leaves that side open."""

    low: float | None = None
    high: float | None = None


class Order(StrEnum):
    """What a page is sorted by; documents without the value come last."""

    TIME = "time"
    AMOUNT = "amount"
    FRAUD_SCORE = "fraud_score"
    ANOMALY_SCORE = "anomaly_score"


@dataclass(frozen=True, slots=True)
class Query:
    """
    Which documents, in which order, and which of them: every part that is set must hold.

    Identifiers are compared whole and by case; ``former_tokens`` are what ``card``,
    ``merchant`` and ``device`` may also be stored as, by these names: the tokens of a card
    number under former keys. ``time_ms`` is the event's time in
    milliseconds since the epoch, ``amount`` is in major units of the base currency.
    ``limit`` is 1 to ``MAX_PAGE``. The plain ``Query()`` asks for the newest.
    """

    card: str | None = None
    former_tokens: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    merchant: str | None = None
    device: str | None = None
    decision: Outcome | None = None
    reason: str | None = None
    label: LabelValue | None = None
    time_ms: Range = Range()
    amount: Range = Range()
    fraud_score: Range = Range()
    anomaly_score: Range = Range()
    order: Order = Order.TIME
    ascending: bool = False
    offset: int = 0
    limit: int = 20


@dataclass(frozen=True, slots=True)
class Page:
    """
    A part of the documents found: the stored JSON of each.

    ``total`` counts all that match. ``partial`` is true when the server ran out of
    time and has looked at a part only.
    """

    total: int
    documents: tuple[bytes, ...]
    partial: bool = False
