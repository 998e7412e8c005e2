"""Entity state that learns labels, in memory: the known frauds of each card."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from consumer.errors import Unavailable
from consumer.model import Applied, LabelEffect, Observation
from consumer.ports import Observe


@dataclass
class _Card:
    """Times of the events that were applied, by id, and the labels that stand, by transaction."""

    events: dict[str, int] = field(default_factory=dict)
    labels: dict[str, LabelEffect] = field(default_factory=dict)


class FakeFeatureLabels:
    """
    A card's frauds so far, as the one feature; each label in ``effects``, told twice or not.

    ``failures`` more calls are unavailable.
    """

    def __init__(self) -> None:
        self.effects: list[LabelEffect] = []
        self.failures = 0
        self._cards: dict[str, _Card] = {}

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        self._answer()
        return [self._observe(request) for request in requests]

    def label(self, effects: Sequence[LabelEffect]) -> None:
        self._answer()
        self.effects += effects
        for effect in effects:
            card = self._cards.get(effect.keys.get("card_id", ""))
            # With no event from that time on there is nothing to count it in.
            if card is None or max(card.events.values()) < effect.event_time_s:
                continue
            known = card.labels.get(effect.transaction_id)
            if known is None or _age(effect) > _age(known):
                card.labels[effect.transaction_id] = effect

    def _observe(self, request: Observe) -> Observation:
        transaction = request.transaction
        card = self._cards.setdefault(transaction.card_id, _Card())
        known = transaction.transaction_id in card.events
        card.events.setdefault(transaction.transaction_id, request.time_s)
        frauds = sum(
            label.fraud for label in card.labels.values() if label.event_time_s < request.time_s
        )
        return Observation((float(frauds),), (Applied.REPEATED if known else Applied.APPLIED,))

    def _answer(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("redis", "told to fail")


def _age(effect: LabelEffect) -> tuple[int, str]:
    return effect.label_time_ms, effect.label_id
