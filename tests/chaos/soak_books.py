"""
The account of a run of hundreds of thousands of transactions, compared part by part.

Documents, rows, letters, alerts and labels of an epoch are compared and forgotten; what the
oracle was told of the entities stays, as does their state in Redis. Each entity is read at
the end of every epoch, the features of decisions are recomputed for a sample: the oracle
looks at all events of an entity for every answer.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from consumer.features.plan import EntityPlan, Windowed
from consumer.local.oracle import Event, Oracle, Verdict
from consumer.recomputation import questions_of
from tests.chaos.checker import (
    Difference,
    Expectation,
    Kind,
    compare_entities,
    compare_records,
    decided_by,
)
from tests.chaos.found import Found
from tests.chaos.traffic import Ledger

_LABELS = "fraud"
# A worker that died may read features again when what followed in its deliveries is applied.
_LATER_PLACES = 3_000


@dataclass(slots=True)
class _Pending:
    """Features of one entity in a decision that were not those of its place in the stream."""

    event: Event
    key: str
    found: Mapping[str, float]
    text: str
    left: int = _LATER_PLACES


class EntityBook:
    """What happened to the cards, the merchants, …, and the features that tell of it."""

    def __init__(self, entity: EntityPlan, against: Expectation) -> None:
        plan = against.plan
        self.key_field = entity.key
        self.oracle = Oracle(
            questions_of(plan, entity),
            horizon_s=against.horizon_s,
            exponent=plan.exponent,
            cap_s=plan.longest_window_s,
        )
        own = [
            feature
            for feature in plan.features
            if isinstance(feature, Windowed) and feature.entity == entity.name
        ]
        self._labelled = any(feature.aggregation.startswith(_LABELS) for feature in own)
        # Labels have no place in the stream: what counts them is compared at the end alone.
        self._names = [
            feature.name for feature in own if not feature.aggregation.startswith(_LABELS)
        ]
        self._pending: list[_Pending] = []
        self._given_up: list[_Pending] = []

    def tell(self, told: Event | Verdict, features: Mapping[str, float] | None) -> None:
        """Tell the oracle; *features* are those of the decision, if it is in the sample."""
        if isinstance(told, Verdict):
            if self._labelled:
                self.oracle.label(told)
            return
        if features is None:
            self.oracle.apply(told)
            self._look_again(told)
            return
        expected, _ = self.oracle.observe(told)
        self._look_again(told)
        wrong = [name for name in self._names if features[name] != expected[name]]
        if wrong:
            text = (
                f"{told.transaction_id} was decided on {wrong[0]} = {features[wrong[0]]}, "
                f"expected {expected[wrong[0]]} or what it was at a later place of the stream"
            )
            key = told.keys.get(self.key_field, "")
            part = {name: features[name] for name in self._names}
            self._pending.append(_Pending(told, key, part, text))

    def unexplained(self) -> list[str]:
        """The decisions since the last call on features that no place in the stream gives."""
        found = [each.text for each in (*self._given_up, *self._pending)]
        self._pending, self._given_up = [], []
        return found

    def _look_again(self, told: Event) -> None:
        """Whether *told*, a later event, brings the entity to what a decision was made on."""
        if not self._pending:
            return
        kept: list[_Pending] = []
        for each in self._pending:
            each.left -= 1
            if told.keys.get(self.key_field) == each.key and self._equals(each):
                continue
            (kept if each.left > 0 else self._given_up).append(each)
        self._pending = kept

    def _equals(self, pending: _Pending) -> bool:
        expected, _ = self.oracle.observe(pending.event)
        return all(expected[name] == value for name, value in pending.found.items())


class Books:
    """
    What was told so far, of all entities since their state began.

    *sampled* is the share of decisions whose features are recomputed, chosen by *choice*.
    """

    def __init__(self, against: Expectation, choice: random.Random, sampled: float) -> None:
        self._against = against
        self._choice = choice
        self._sampled = sampled
        self._books = {entity.name: EntityBook(entity, against) for entity in against.plan.entities}

    def close(self, ledgers: Sequence[Ledger], found: Found) -> list[Difference]:
        """Every difference of an epoch, *ledgers* being one a shard, whose entities are apart."""
        differences = [
            *compare_records(ledgers, found, self._against),
            *self._tell(ledgers, found),
        ]
        oracles = {name: book.oracle for name, book in self._books.items()}
        keys = {name: book.key_field for name, book in self._books.items()}
        return [*differences, *compare_entities(oracles, keys, found)]

    def _tell(self, ledgers: Sequence[Ledger], found: Found) -> Iterator[Difference]:
        for ledger in ledgers:
            for placed, told in ledger.story:
                features = None
                if isinstance(told, Event) and self._choice.random() < self._sampled:
                    document = decided_by(placed, told, found)
                    features = None if document is None else document["features"]
                for book in self._books.values():
                    book.tell(told, features)
            for book in self._books.values():
                for text in book.unexplained():
                    yield Difference(Kind.EXTRA, text)
