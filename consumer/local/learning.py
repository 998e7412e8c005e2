"""From simulated history to two trained models, through S3 and the engine's own feature store."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from consumer.decode import DecodeRules, decode
from consumer.features.plan import Plan
from consumer.local.oracle import Event
from consumer.local.simulator.display import Report
from consumer.local.simulator.history import Place, read_history
from consumer.model import Kind, Label, Transaction
from consumer.ports import FeatureStore
from consumer.settings import Settings
from consumer.training.dataset import collect, label
from consumer.training.train import Trained, TrainingSettings, train

# Chargebacks arrive for up to ten days, so younger rows would be learnt as legitimate.
_LABEL_DELAY_S = 10 * 86_400
# The longest window has to fill before a vector says what it will say live.
_WARM_UP_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Learned:
    """What history gave: two models, and its transactions as the oracle needs them."""

    trained: Trained
    events: list[Event]


def learn(
    history: Place,
    settings: Settings,
    plan: Plan,
    store: FeatureStore,
    folder: Path,
    report: Report,
) -> Learned:
    """
    Read *history*, run it through *store* and train on the vectors it answers.

    The store is warm for live traffic afterwards. Raises Unavailable,
    Misconfigured (too few frauds) and Rejected (an event of another format).
    """
    rules = DecodeRules.of(settings.events)
    events: list[Event] = []

    def transactions() -> Iterator[Transaction]:
        for _, bodies in read_history(history, "transactions"):
            for body in bodies:
                transaction = decode(body, rules)
                if isinstance(transaction, Transaction):
                    events.append(_observed(transaction))
                    yield transaction

    vectors = collect(
        transactions(), store, plan.names, plan.hash, lambda done: report(done, "transactions")
    )
    labels = [
        event
        for _, bodies in read_history(history, "labels")
        for event in (decode(body, rules) for body in bodies)
        if isinstance(event, Label)
    ]
    cutoff = datetime.fromtimestamp(int(vectors.times_s.max()), UTC)
    dataset = label(vectors, labels, cutoff=cutoff, delay_s=_LABEL_DELAY_S, warmup_s=_WARM_UP_S)
    return Learned(train(dataset, folder, TrainingSettings()), events)


def _observed(transaction: Transaction) -> Event:
    return Event(
        transaction.transaction_id,
        int(transaction.event_time.timestamp()),
        transaction.base_amount_minor,
        {"card_id": transaction.card_id, "merchant_id": transaction.merchant_id},
        purchase=transaction.kind is Kind.PURCHASE,
    )
