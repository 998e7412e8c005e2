"""Valid values with one thing changed: ``a_transaction(card_id="card_2")``."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from consumer.model import (
    Applied,
    Assessment,
    Decision,
    Label,
    LabelValue,
    Observation,
    Origin,
    Outcome,
    Position,
    Scores,
    ShardId,
    Transaction,
    TransactionId,
)

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
SHARD = ShardId("shardId-000000000000")


def a_transaction(number: int = 1, **changes: Any) -> Transaction:
    transaction = Transaction(
        transaction_id=TransactionId(f"tx_{number}"),
        event_time=NOON + timedelta(seconds=number),
        card_id="card_1",
        merchant_id="merchant_1",
        amount_minor=1250,
        currency="EUR",
        base_amount_minor=1250,
        digest=f"{number:064x}",
    )
    return replace(transaction, **changes)


def an_origin(number: int = 1, **changes: Any) -> Origin:
    arrival_ms = int((NOON + timedelta(seconds=number)).timestamp() * 1000) + 50
    origin = Origin(
        source="stream",
        arrival_ms=arrival_ms,
        received_ms=arrival_ms + 20,
        shard_id=SHARD,
        position=Position(number),
    )
    return replace(origin, **changes)


def an_assessment(number: int = 1, **changes: Any) -> Assessment:
    assessment = Assessment(
        transaction=a_transaction(number),
        origin=an_origin(number),
        observation=Observation(values=(12.5, 1.0), applied=(Applied.APPLIED, Applied.APPLIED)),
        scores=Scores(fraud=0.01, anomaly=0.7),
        decision=Decision(Outcome.APPROVE, ()),
        decided_ms=an_origin(number).received_ms + 5,
        future=False,
    )
    return replace(assessment, **changes)


def a_label(number: int = 1, **changes: Any) -> Label:
    label = Label(
        label_id=f"label_{number}",
        transaction_id=TransactionId(f"tx_{number}"),
        label=LabelValue.FRAUD,
        label_time=NOON + timedelta(days=5),
        source="chargeback",
    )
    return replace(label, **changes)
