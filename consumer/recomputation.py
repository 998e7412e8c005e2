"""
The features of one decision, recomputed from the documents of its entities.

Feature state is not asked: what an entity had counted when the decision was made is put
together from decision documents and evaluated by the oracle, which shares no code with
the feature engine.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from math import isclose

from consumer.decided import Decided
from consumer.features.plan import EntityPlan, Plan, Windowed
from consumer.local.oracle import Oracle, Question, Verdict
from consumer.model import Applied
from consumer.situation import COUNTED, ORDERS, arrange

_NEAR_MS = 5_000
# At an entity of many events fewer orders are tried.
_FEWEST_ORDERS = 8
_LABELS_TRIED = 32
_LABELS = ("fraud_count", "fraud_rate")
_PLACES = ("distance", "speed")
_BUSY = 128


class Outcome(StrEnum):
    """
    How a stored value compares with its recomputation.

    ``reordered``: equal, if events of other shards that were under way at the time (or
    labels, whose arrival no document tells) came in another order than was guessed.
    """

    EQUAL = "equal"
    REORDERED = "reordered"
    DIFFERENT = "different"
    UNCOVERED = "uncovered"


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    One value of one decision.

    ``remark`` is the likely cause of a difference, or why it is not covered. ``strict``
    holds for features of a card whose events all came by one shard: these must be equal.
    """

    feature: str
    outcome: Outcome
    transaction_id: str
    online: float | None
    offline: float | None = None
    remark: str = ""
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """
    What documents, in their order, tell of one entity: all its events after ``since_s``.

    ``problem`` says why nothing can be told, and is empty otherwise.
    """

    documents: Sequence[Decided] = ()
    since_s: int = 0
    problem: str = ""


class Recomputation:
    """Compares decisions made with *plan* and an id horizon of *horizon_s* seconds."""

    def __init__(self, plan: Plan, horizon_s: int) -> None:
        self._plan = plan
        self._horizon_s = horizon_s
        self._questions = {entity.name: questions_of(plan, entity) for entity in plan.entities}

    def compare(self, decided: Decided, known: Mapping[str, Known]) -> list[Comparison]:
        """Compare every aggregation in *decided*; *known* holds what is known by entity."""
        found: list[Comparison] = []
        for entity in self._plan.entities:
            found += _Reading(self, entity, decided, known[entity.name]).compare()
        return found

    def questions(self, entity: EntityPlan) -> tuple[Question, ...]:
        """What is asked of *entity*."""
        return self._questions[entity.name]

    def evaluate(
        self,
        entity: EntityPlan,
        events: Sequence[Decided],
        labels: Sequence[Verdict],
        decided: Decided,
    ) -> dict[str, float]:
        """Return feature name → value of *entity* for *decided* after *events* and *labels*."""
        oracle = Oracle(
            self._questions[entity.name],
            horizon_s=self._horizon_s,
            exponent=self._plan.exponent,
            cap_s=self._plan.longest_window_s,
        )
        for each in events:
            oracle.apply(each.event)
        for label in labels:
            oracle.label(label)
        return oracle.observe(decided.event)[0]

    def reading_s(self, decided: Decided, events: Sequence[Decided]) -> int:
        """The time that *decided* is read at: its own, or the horizon if it is behind that."""
        newest = max((each.event.time_s for each in events), default=decided.event.time_s)
        return max(decided.event.time_s, newest - self._horizon_s)

    def is_busy(self, events: Sequence[Decided], reading_s: int) -> bool:
        """Whether there are so many events that late readings promise less."""
        newest = max((each.event.time_s for each in events), default=0)
        return reading_s < newest and len(events) > _BUSY

    @property
    def cap_s(self) -> int:
        """The longest age and gap that are told."""
        return self._plan.longest_window_s


class _Reading:
    """One decision at one of its entities."""

    def __init__(
        self, rules: Recomputation, entity: EntityPlan, decided: Decided, known: Known
    ) -> None:
        self._rules = rules
        self._entity = entity
        self._decided = decided
        self._named = entity.key in decided.event.keys
        self._known = known
        documents = known.documents if self._named else ()
        self._situation = arrange(decided, entity.name, documents)
        self._events = next(self._situation.orders())
        self._reading_s = rules.reading_s(decided, self._events)
        self._complete = not self._named or self._is_complete()

    def compare(self) -> list[Comparison]:
        """Compare every feature of the entity."""
        open_, settled = [], []
        for question in self._rules.questions(self._entity):
            reason = self._uncovered(question)
            if reason is None:
                open_.append(question)
            else:
                settled.append(self._apart(question, reason))
        return [*self._closest(open_), *settled]

    def _closest(self, questions: Sequence[Question]) -> list[Comparison]:
        """Compare with the guess, and where that fails with the order that explains most."""
        guess: dict[str, float] | None = None
        best, fewest = dict[str, float](), len(questions) + 1
        tries = max(_FEWEST_ORDERS, ORDERS * _BUSY // (len(self._events) + 1))
        for events, labels in islice(self._situations(questions), tries):
            values = self._values(events, labels)
            guess = guess or values
            wrong = len(self._wrong(questions, values))
            if wrong < fewest:
                best, fewest = values, wrong
            if not fewest:
                break
        return [self._judged(question, best, guess or best) for question in questions]

    def _situations(
        self, questions: Sequence[Question]
    ) -> Iterator[tuple[tuple[Decided, ...], int]]:
        """Events and numbers of labels that may have been counted, the likeliest first."""
        labels, numbers = self._situation.labels, [0]
        if any(question.aggregation in _LABELS for question in questions):
            told = sum(label.label_time_ms <= self._decided.decided_ms for label in labels)
            numbers = sorted(range(len(labels) + 1), key=lambda number: abs(number - told))
        for events in self._situation.orders():
            for number in numbers[:_LABELS_TRIED]:
                yield events, number

    def _values(self, events: Sequence[Decided], labels: int) -> dict[str, float]:
        told = self._situation.labels[:labels]
        return self._rules.evaluate(self._entity, events, told, self._decided)

    def _wrong(self, questions: Sequence[Question], values: Mapping[str, float]) -> list[Question]:
        return [
            each
            for each in questions
            if not _same(each, self._decided.features.get(each.name), values[each.name])
        ]

    def _judged(
        self, question: Question, best: Mapping[str, float], guess: Mapping[str, float]
    ) -> Comparison:
        value = best[question.name]
        if self._wrong([question], best):
            return self._comparison(question, Outcome.DIFFERENT, value, self._cause(question))
        reordered = self._wrong([question], guess)
        return self._comparison(question, Outcome.REORDERED if reordered else Outcome.EQUAL, value)

    def _comparison(
        self, question: Question, outcome: Outcome, offline: float | None, remark: str = ""
    ) -> Comparison:
        decided = self._decided
        return Comparison(
            feature=question.name,
            outcome=outcome,
            transaction_id=decided.event.transaction_id,
            online=decided.features.get(question.name),
            offline=offline,
            remark=remark,
            strict=self._entity.key == "card_id"
            and question.aggregation not in _LABELS
            and len(self._situation.shards) == 1
            and decided.shard is not None,
        )

    def _cause(self, question: Question) -> str:
        """What most likely made a difference that no order of events explains."""
        decided = self._decided
        if question.aggregation in _LABELS:
            return "a label: documents keep the newest one only, and not when it came"
        if decided.applied.get(self._entity.name) is Applied.LATE:
            return "it came late and was read at the horizon behind the entity's newest event"
        near = [
            each
            for each in self._known.documents
            if each.shard != decided.shard
            and abs(each.received_ms - decided.received_ms) < _NEAR_MS
        ]
        if near:
            return "an event of another shard that arrived meanwhile"
        return "unknown: state holds other events than the documents"

    def _uncovered(self, question: Question) -> str | None:
        """Why *question* cannot be answered from documents; None where it can."""
        if self._decided.features.get(question.name) is None:
            return "the document has no value"
        if not self._named:
            return None
        if self._known.problem:
            return self._known.problem
        busy = self._rules.is_busy(self._events, self._reading_s)
        if question.aggregation == "distinct" and busy:
            return "read late at a busy entity, where distinct values are promised less"
        return None if self._complete or self._is_covered(question) else self._too_old(question)

    def _is_covered(self, question: Question) -> bool:
        """Whether all that *question* looks at happened after documents begin."""
        since_s = self._known.since_s
        if question.window_s:
            edge = self._reading_s - question.delay_s - question.window_s
            return edge // question.grid * question.grid >= since_s
        if question.aggregation == "first_seen":
            return False
        placed = question.aggregation in _PLACES
        if placed and self._decided.event.place is None:
            return True
        # The newest event before the reading tells, if it is there.
        return any(
            since_s < each.event.time_s <= self._reading_s
            for each in self._events
            if each is not self._decided and (not placed or each.event.place is not None)
        )

    def _too_old(self, question: Question) -> str:
        if question.window_s:
            return "its window begins before the documents"
        if question.aggregation == "first_seen":
            return "the entity is older than the documents"
        return "nothing before it in the documents"

    def _apart(self, question: Question, reason: str) -> Comparison:
        """
        Judge what documents do not cover: still different where it contradicts them.

        An event that they do not show cannot be younger than what they cover, and an
        entity cannot be younger than its oldest document.
        """
        online = self._decided.features.get(question.name)
        wrong: float | None = None
        if online is not None and not self._known.problem and self._named:
            oldest = min((each.event.time_s for each in self._events), default=self._reading_s)
            unseen = self._reading_s - self._known.since_s
            if question.aggregation == "time_since_last" and online < min(
                unseen, self._rules.cap_s
            ):
                wrong = float(min(unseen, self._rules.cap_s))
            if question.aggregation == "first_seen":
                age = min(max(self._reading_s - oldest, 0), self._rules.cap_s)
                if online < age or age < online < min(unseen, self._rules.cap_s):
                    wrong = float(age)
        if wrong is None:
            return self._comparison(question, Outcome.UNCOVERED, None, reason)
        return self._comparison(question, Outcome.DIFFERENT, wrong, self._cause(question))

    def _is_complete(self) -> bool:
        """
        Whether documents hold all that the entity ever counted.

        Its age says when that began: with the oldest event that documents show. Without
        a feature that tells the age, nothing does.
        """
        for question in self._rules.questions(self._entity):
            online = self._decided.features.get(question.name)
            if question.aggregation != "first_seen" or online is None:
                continue
            if online >= self._rules.cap_s:
                return False
            times = [each.event.time_s for each in self._events]
            if self._decided.applied.get(self._entity.name) in COUNTED:
                times.append(self._decided.event.time_s)
            oldest = min(times, default=self._reading_s)
            return self._reading_s - oldest == online
        return False


def questions_of(plan: Plan, entity: EntityPlan) -> tuple[Question, ...]:
    """Return the aggregations of *entity* in *plan* as the oracle is asked for them."""
    return tuple(
        Question(
            feature.name,
            entity.key,
            feature.aggregation,
            feature.window_s,
            feature.delay_s,
            feature.grid_s,
            feature.field,
        )
        for feature in plan.features
        if isinstance(feature, Windowed) and feature.entity == entity.name
    )


def _same(question: Question, online: float | None, offline: float) -> bool:
    if online is None or question.aggregation != "std":
        return online == offline
    return isclose(online, offline, rel_tol=1e-9)
