"""What became of one transaction that was asked about: what a stored document says of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from consumer.document import milliseconds, transaction_fields
from consumer.model import Transaction


class ScoresAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The scores that there were: ``fraud`` a probability, ``anomaly`` of no upper bound."""

    fraud: float | None = None
    anomaly: float | None = None


class _DecisionFound(msgspec.Struct, frozen=True):
    outcome: str
    reasons: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    risk: float | None = None


class _RulesFound(msgspec.Struct, frozen=True):
    hits: tuple[str, ...] = ()


class _OriginFound(msgspec.Struct, frozen=True):
    source: str


class Found(msgspec.Struct, frozen=True):
    """What is read of a stored document to answer with."""

    transaction_id: str
    prediction_id: str
    digest: str
    origin: _OriginFound
    decision: _DecisionFound
    decided_ms: int
    scores: ScoresAnswer = ScoresAnswer()
    rules: _RulesFound = _RulesFound()
    degraded: tuple[str, ...] = ()


_DECODER = msgspec.json.Decoder(Found)


@dataclass(frozen=True, slots=True)
class Prediction:
    """The decision that stands, ``repeated`` where it was made before this request."""

    found: Found
    repeated: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """The id was decided with other content; ``fields`` are those that differ."""

    fields: tuple[str, ...]


Answer = Prediction | Conflict


def read_found(document: bytes) -> Found:
    """Read a stored *document*. Raises msgspec.MsgspecError for what no version wrote."""
    return _DECODER.decode(document)


def answer_from(
    document: bytes, transaction: Transaction, base_currency: str, *, repeated: bool
) -> Answer:
    """What the stored *document* of its id means for *transaction*."""
    found = read_found(document)
    if found.digest in (transaction.digest, *transaction.former_digests):
        return Prediction(found, repeated)
    return Conflict(differing_fields(orjson.loads(document), transaction, base_currency))


def differing_fields(
    document: Mapping[str, Any], transaction: Transaction, base_currency: str
) -> tuple[str, ...]:
    """
    The fields in which *transaction* is another one than a decoded *document* was decided on.

    In the order of the document, those that it lacks last.
    """
    stored = document["transaction"]
    asked = orjson.loads(orjson.dumps(transaction_fields(transaction, base_currency)))
    differing = list(_differing(stored, asked))
    if document["event_ms"] != milliseconds(transaction.event_time):
        differing.insert(0, "event_time")
    # It follows from the amount where the event does not say it, at the rate of the day.
    return tuple(name for name in differing if name != "base_amount") or ("base_amount",)


def _differing(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[str]:
    for name in {**stored, **asked}:
        if name != "event_time" and stored.get(name) != asked.get(name):
            yield name
