"""From simulated history to two trained models, through S3 and the engine's own feature store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from consumer.decode import DecodeRules, decode
from consumer.document import milliseconds
from consumer.features.plan import DISTINCT_FIELDS, Plan
from consumer.features.warming import CountedStore
from consumer.local.oracle import Event, Verdict
from consumer.local.simulator.display import Report
from consumer.local.simulator.history import Place, read_history
from consumer.model import Kind, Label, LabelEffect, LabelValue, Observation, Transaction
from consumer.ports import Observe
from consumer.settings import Settings
from consumer.training.dataset import collect, label
from consumer.training.examples import InMemory
from consumer.training.settings import AnomalySettings, SplitSettings, TrainingSettings
from consumer.training.train import Trained, train

# Chargebacks arrive for up to ten days, so younger rows would be learnt as legitimate.
_LABEL_DELAY_S = 10 * 86_400
# The longest window has to fill before a vector says what it will say live.
_WARM_UP_S = 30 * 86_400
# Twenty days are left after warm-up and label delay, too few for another gap among them.
# The shape is what measuring chooses on this traffic; it takes four forests to find out.
_HOW = TrainingSettings(
    split=SplitSettings(gap=0, validation=0.25), anomaly=AnomalySettings(shape="standard")
)


@dataclass(frozen=True, slots=True)
class Learned:
    """What history gave: two models, and its transactions as the oracle needs them."""

    trained: Trained
    events: list[Event]
    verdicts: list[Verdict]


@dataclass
class _Labelling:
    """
    A feature store that is told of each label when its time has come.

    *effects*, in order of label time, are counted before the first chunk of
    transactions that begins after them, as live traffic would have them.
    """

    store: CountedStore
    effects: Sequence[LabelEffect]
    told: int = 0

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        """Count what became known before *requests*, then observe them."""
        first = self.told
        while self.told < len(self.effects) and _is_due(self.effects[self.told], requests[0]):
            self.told += 1
        self.store.label(self.effects[first : self.told])
        return self.store.observe(requests)

    def finish(self) -> None:
        """Count the labels that came after the last transaction."""
        self.store.label(self.effects[self.told :])
        self.told = len(self.effects)


def _is_due(effect: LabelEffect, request: Observe) -> bool:
    return effect.label_time_ms <= request.time_s * 1000


def learn(
    history: Place,
    settings: Settings,
    plan: Plan,
    store: CountedStore,
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

    labels = [
        event
        for _, bodies in read_history(history, "labels")
        for event in (decode(body, rules) for body in bodies)
        if isinstance(event, Label)
    ]
    labelling = _Labelling(store, [_effect(each) for each in labels])
    vectors = collect(
        transactions(), labelling, plan.names, plan.hash, lambda done: report(done, "transactions")
    )
    labelling.finish()
    cutoff = datetime.fromtimestamp(int(vectors.times_s.max()), UTC)
    dataset = label(vectors, labels, cutoff=cutoff, delay_s=_LABEL_DELAY_S, warmup_s=_WARM_UP_S)
    verdicts = [_verdict(effect) for effect in labelling.effects]
    trained = train(InMemory(dataset), folder, _HOW)
    return Learned(trained, events, verdicts)


def _observed(transaction: Transaction) -> Event:
    keys = {name: getattr(transaction, name) for name in DISTINCT_FIELDS}
    latitude, longitude = transaction.latitude, transaction.longitude
    return Event(
        transaction.transaction_id,
        int(transaction.event_time.timestamp()),
        transaction.base_amount_minor,
        {name: value for name, value in keys.items() if value},
        purchase=transaction.kind is Kind.PURCHASE,
        place=None if latitude is None or longitude is None else (latitude, longitude),
    )


def _effect(label: Label) -> LabelEffect:
    """What a label that carries its transaction's time and keys means for its entities."""
    event_time = label.event_time or label.label_time
    return LabelEffect(
        transaction_id=label.transaction_id,
        label_id=label.label_id,
        fraud=label.label is LabelValue.FRAUD,
        label_time_ms=milliseconds(label.label_time),
        event_time_s=milliseconds(event_time) // 1000,
        keys=label.keys,
    )


def _verdict(effect: LabelEffect) -> Verdict:
    return Verdict(
        transaction_id=effect.transaction_id,
        label_id=effect.label_id,
        fraud=effect.fraud,
        label_time_ms=effect.label_time_ms,
        time_s=effect.event_time_s,
        keys=effect.keys,
    )
