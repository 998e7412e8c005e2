"""
Two sets of rules on decisions that were made, with what became of the transactions.

Nothing is computed again but rules and policy: features and scores are those that were
logged, so a rule is tried on exactly what it would have seen.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from random import Random
from typing import Any

from consumer.decision import Policy, decide
from consumer.model import Decision, LabelValue, Outcome, Ruled
from consumer.rules.compilation import RuleSet
from consumer.rules.facts import Case


class Truth(StrEnum):
    """What a transaction turned out to be, as far as anyone said."""

    FRAUD = "fraud"
    LEGITIMATE = "legitimate"
    UNLABELLED = "unlabelled"

    @classmethod
    def of(cls, label: LabelValue | None) -> "Truth":
        """The truth of a *label*, or of none."""
        return cls.UNLABELLED if label is None else cls(label.value)


@dataclass(slots=True)
class Tally:
    """Transactions and their money in minor units of the base currency, by truth."""

    count: Counter[Truth] = field(default_factory=Counter)
    minor: Counter[Truth] = field(default_factory=Counter)

    def add(self, truth: Truth, amount_minor: int) -> None:
        """Count one."""
        self.count[truth] += 1
        self.minor[truth] += amount_minor

    @property
    def total(self) -> int:
        """All transactions in it."""
        return sum(self.count.values())

    @property
    def precision(self) -> float | None:
        """The share of frauds among those with a label; None without any."""
        labelled = self.count[Truth.FRAUD] + self.count[Truth.LEGITIMATE]
        return self.count[Truth.FRAUD] / labelled if labelled else None


class Shift(StrEnum):
    """How the outcome of a transaction differs from that of the live set."""

    DECLINED = "newly declined"
    MISSED = "newly missed"
    REVIEWED = "newly reviewed"
    RELEASED = "no longer reviewed"


def shift_of(before: Outcome, after: Outcome) -> Shift | None:
    """What became of a transaction between two outcomes; None for no change."""
    if before is after:
        return None
    if after is Outcome.DECLINE:
        return Shift.DECLINED
    if before is Outcome.DECLINE:
        return Shift.MISSED
    return Shift.REVIEWED if after is Outcome.REVIEW else Shift.RELEASED


@dataclass(slots=True)
class RuleTally:
    """
    A rule's matches, and those of them whose outcome would be another one without it.

    ``shadow``: it did not count, being in shadow.
    """

    matches: Tally = field(default_factory=Tally)
    alone: Tally = field(default_factory=Tally)
    shadow: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One transaction of interest: why, what both sets said, and what it turned out to be."""

    why: str
    case: Case
    truth: Truth
    before: Decision | None
    after: Decision
    rules: tuple[str, ...]


@dataclass(slots=True)
class Backtest:
    """
    *new* against *live*, which is None where nothing is compared.

    ``changed`` names the rules of *new* that *live* does not have as they are; they are what
    samples are drawn from first. Samples are drawn by *seed*, the same from the same rows.
    """

    new: RuleSet
    live: RuleSet | None
    samples: int = 20
    seed: int = 0
    changed: frozenset[str] = frozenset()
    transactions: Tally = field(default_factory=Tally)
    rules: dict[str, RuleTally] = field(default_factory=dict)
    outcomes: dict[Outcome, Tally] = field(default_factory=dict)
    former: dict[Outcome, Tally] = field(default_factory=dict)
    shifts: dict[Shift, Tally] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    _drawn: list[Sample] = field(default_factory=list)
    _seen: int = 0
    _random: Random = field(default_factory=Random)

    def __post_init__(self) -> None:
        """Find what is new, and give every rule its row."""
        self._random.seed(self.seed)
        self.changed = changed_rules(self.new, self.live)
        self.rules = {each.rule.rule_id: RuleTally() for each in self.new.rules}
        self.outcomes = {outcome: Tally() for outcome in Outcome}
        self.former = {outcome: Tally() for outcome in Outcome}
        self.shifts = {shift: Tally() for shift in Shift}

    def take(self, case: Case, label: LabelValue | None, policy: Policy) -> None:
        """Judge *case*, of which *label* is known, by both sets under *policy*."""
        truth, amount = Truth.of(label), case.transaction.base_amount_minor
        self.transactions.add(truth, amount)
        ruled = self.new.evaluate(case)
        after = decide(case.scores, policy, amount, ruled)
        self.outcomes[after.outcome].add(truth, amount)
        self.errors.update(ruled.errors)
        matched = self._tally(case, policy, ruled, after, truth)
        before = None
        if self.live is not None:
            before = decide(case.scores, policy, amount, self.live.evaluate(case))
            self.former[before.outcome].add(truth, amount)
            shift = shift_of(before.outcome, after.outcome)
            if shift is not None:
                self.shifts[shift].add(truth, amount)
                self._draw(Sample(shift, case, truth, before, after, matched))
                return
        if self.changed & set(matched):
            self._draw(Sample("matched", case, truth, before, after, matched))

    @property
    def drawn(self) -> list[Sample]:
        """The samples, in order of event time."""
        return sorted(self._drawn, key=lambda each: each.case.transaction.event_time)

    def _tally(
        self, case: Case, policy: Policy, ruled: Ruled, after: Decision, truth: Truth
    ) -> tuple[str, ...]:
        amount = case.transaction.base_amount_minor
        for hit in ruled.live:
            tally = self.rules[hit.rule_id]
            tally.matches.add(truth, amount)
            others = tuple(each for each in ruled.live if each is not hit)
            without = decide(case.scores, policy, amount, replace(ruled, live=others))
            if without.outcome is not after.outcome:
                tally.alone.add(truth, amount)
        for hit in ruled.shadow:
            tally = self.rules[hit.rule_id]
            tally.shadow = True
            tally.matches.add(truth, amount)
        return tuple(hit.rule_id for hit in (*ruled.live, *ruled.shadow))

    def _draw(self, sample: Sample) -> None:
        """Keep each with equal probability (Vitter's reservoir, algorithm R)."""
        self._seen += 1
        if len(self._drawn) < self.samples:
            self._drawn.append(sample)
            return
        place = self._random.randrange(self._seen)
        if place < self.samples:
            self._drawn[place] = sample


def changed_rules(new: RuleSet, live: RuleSet | None) -> frozenset[str]:
    """The ids of rules of *new* that *live* does not have, or has otherwise."""
    known = {} if live is None else {each.rule.rule_id: _meaning(each.rule) for each in live.rules}
    return frozenset(
        each.rule.rule_id
        for each in new.rules
        if known.get(each.rule.rule_id) != _meaning(each.rule)
    )


def _meaning(rule: Any) -> tuple[object, ...]:
    return (rule.when, rule.outcome, rule.add, rule.mode, rule.on_error)


def run_backtest(
    backtest: Backtest,
    cases: Iterable[tuple[Case, LabelValue | None, Policy]],
    on_progress: Callable[[int], None] = lambda _done: None,
    every: int = 10_000,
) -> None:
    """Let *backtest* take all *cases*; *on_progress* hears how many are done."""
    done = 0
    for case, label, policy in cases:
        backtest.take(case, label, policy)
        done += 1
        if done % every == 0:
            on_progress(done)
    on_progress(done)


def to_json(backtest: Backtest, exponent: int) -> dict[str, Any]:
    """Everything that was found, money in major units of the base currency."""

    def tally(each: Tally) -> dict[str, Any]:
        counted = {str(truth): each.count[truth] for truth in Truth}
        money = {f"{truth}_amount": each.minor[truth] / 10**exponent for truth in Truth}
        return {"transactions": each.total, **counted, **money, "precision": each.precision}

    def tallies(each: Mapping[Any, Tally]) -> dict[str, Any]:
        return {str(name): tally(value) for name, value in each.items()}

    def outcomes(each: Mapping[Outcome, Tally]) -> dict[str, Any]:
        # Frauds among what is approved are what was missed: no precision.
        told = tallies(each)
        told[str(Outcome.APPROVE)]["precision"] = None
        return told

    return {
        "new": _named(backtest.new),
        "against": None if backtest.live is None else _named(backtest.live),
        "transactions": tally(backtest.transactions),
        "rules": {
            name: {
                "changed": name in backtest.changed,
                "shadow": each.shadow,
                "matches": tally(each.matches),
                "alone": tally(each.alone),
                "errors": backtest.errors[name],
            }
            for name, each in backtest.rules.items()
        },
        "outcomes": outcomes(backtest.outcomes),
        "outcomes_against": None if backtest.live is None else outcomes(backtest.former),
        "shifts": None
        if backtest.live is None
        else {name.replace(" ", "_"): each for name, each in tallies(backtest.shifts).items()},
        "samples": [_sample(each, exponent) for each in backtest.drawn],
    }


def _named(rules: RuleSet) -> dict[str, Any]:
    return {"source": rules.specification.source, "hash": rules.specification.hash}


def _sample(sample: Sample, exponent: int) -> dict[str, Any]:
    transaction, scores = sample.case.transaction, sample.case.scores
    return {
        "why": str(sample.why),
        "transaction_id": transaction.transaction_id,
        "event_time": transaction.event_time.isoformat(),
        "card_id": transaction.card_id,
        "merchant_id": transaction.merchant_id,
        "base_amount": transaction.base_amount_minor / 10**exponent,
        "label": str(sample.truth),
        "fraud_score": scores.fraud,
        "anomaly_score": scores.anomaly,
        "before": None if sample.before is None else str(sample.before.outcome),
        "after": str(sample.after.outcome),
        "reasons": sample.after.reasons,
        "rules": sample.rules,
    }
