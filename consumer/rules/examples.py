"""The examples beside each rule, run: what it is to hit, and what it is to leave alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from consumer.currency import EXPONENTS
from consumer.errors import Misconfigured, Problem
from consumer.model import Kind, Scores, Transaction, TransactionId
from consumer.rules.cel import Type
from consumer.rules.compilation import RuleSet, compile_rules
from consumer.rules.facts import Case, Catalogue
from consumer.rules.lists import Entry, Lists, build_lists
from consumer.rules.references import closest
from consumer.rules.specification import Mode, Rule, Specification
from consumer.yaml_document import read_yaml

_USUAL = Transaction(
    transaction_id=TransactionId("tx_example"),
    event_time=datetime(2026, 6, 1, 12, tzinfo=UTC),
    card_id="card_1",
    merchant_id="merchant_1",
    amount_minor=1_250,
    currency="EUR",
    base_amount_minor=1_250,
    digest="0" * 64,
)
"""What an example that says nothing of the event has: the required fields, nothing else."""

_TYPES = {
    Type.TEXT: ("a text", str),
    Type.NUMBER: ("a number", int | float),
    Type.TIME: ("a time such as 2026-06-01T12:00:00Z", datetime),
    Type.ANY: ("a text, a number or a truth value", str | int | float),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One example: what was ``expected`` of the rule and what it did; equal when all is well."""

    rule_id: str
    number: int
    expected: str
    found: str

    @property
    def good(self) -> bool:
        """Whether the rule did what the example says."""
        return self.expected == self.found


def run_examples(specification: Specification, lists: Lists, catalogue: Catalogue) -> list[Finding]:
    """
    Run the examples of every rule, by itself and as if it were live.

    What an example does not name is as in ``_USUAL``, features 0, scores absent, lists empty.
    Raises Misconfigured where a rule cannot be compiled.
    """
    findings = []
    for rule in specification.rules:
        runner = _Runner(specification, rule, lists, catalogue)
        for kind, examples in (("hits", rule.hits), ("misses", rule.misses)):
            findings += [
                Finding(rule.rule_id, number, kind, runner.run(example))
                for number, example in enumerate(examples, start=1)
            ]
    return findings


def check_examples(specification: Specification, lists: Lists, catalogue: Catalogue) -> None:
    """Raise Misconfigured with every example that its rule does not bear out, at its place."""
    bad = [each for each in run_examples(specification, lists, catalogue) if not each.good]
    if not bad:
        return
    document = read_yaml(specification.text, specification.source)
    places = {rule.rule_id: place for place, rule in enumerate(specification.rules)}
    raise Misconfigured(
        [
            Problem(
                document.place(
                    specification.source,
                    f"rules[{places[each.rule_id]}].examples.{each.expected}[{each.number - 1}]",
                ),
                f"rule {each.rule_id}: examples.{each.expected}[{each.number - 1}]",
                f"that it {each.found}" if each.found in _DONE else each.found,
                each.expected,
            )
            for each in bad
        ]
    )


_DONE = ("hits", "misses")


@dataclass(frozen=True, slots=True)
class _Runner:
    specification: Specification
    rule: Rule
    lists: Lists
    catalogue: Catalogue
    compiled: dict[str, RuleSet] = field(default_factory=dict)

    def run(self, example: Mapping[str, object]) -> str:
        """What the rule does on *example*: hits, misses, or a sentence about what is wrong."""
        try:
            case = self._case(example)
            lists = self._example_lists(example)
        except ValueError as error:
            return str(error)
        rules = self._compile(lists)
        ruled = rules.evaluate(case)
        if ruled.errors:
            return f"gives no value: {rules.explain(case)}"
        return "hits" if ruled.live else "misses"

    def _compile(self, lists: Lists) -> RuleSet:
        """The rule alone and live, once for the examples that fill no list."""
        if lists.hash not in self.compiled:
            alone = [replace(self.rule, mode=Mode.LIVE)]
            one = replace(self.specification, rules=alone, mode=Mode.LIVE)
            self.compiled[lists.hash] = compile_rules(one, lists, self.catalogue)
        return self.compiled[lists.hash]

    def _case(self, example: Mapping[str, object]) -> Case:
        places = {fact.name: place for place, fact in enumerate(self.catalogue.features)}
        values = [0.0] * len(places)
        scores: dict[str, float | None] = {"fraud": None, "anomaly": None}
        changes: dict[str, object] = {}
        for name, value in example.items():
            root, _, last = str(name).partition(".")
            if root == "tx" and last in self.catalogue.fields:
                changes[last] = _checked(name, value, self.catalogue.fields[last].type)
            elif name in places:
                values[places[name]] = _number(name, value)
            elif root == "scores" and last in scores:
                scores[last] = _number(name, value)
            elif root != "lists" or last not in self.lists.ends:
                close = closest(str(name), self._names())
                hint = f"did you mean {close}?" if close else "see 'fraudstream rules fields'"
                message = f"names {name}, which does not exist: {hint}"
                raise ValueError(message)
        transaction = self._transaction(changes)
        time_s = int(transaction.event_time.timestamp())
        return Case(transaction, values, Scores(scores["fraud"], scores["anomaly"]), time_s)

    def _names(self) -> list[str]:
        catalogue = self.catalogue
        facts = (*catalogue.fields.values(), *catalogue.features, *catalogue.scores)
        return [fact.name for fact in facts] + [f"lists.{name}" for name in self.lists.ends]

    def _transaction(self, changes: dict[str, object]) -> Transaction:
        currency = str(changes.setdefault("currency", self.catalogue.base_currency))
        if currency not in EXPONENTS:
            message = f"tx.currency: {currency} is no ISO 4217 code"
            raise ValueError(message)
        amount = float(changes.pop("amount", 12.5))  # type: ignore[arg-type]
        base_amount = float(changes.pop("base_amount", amount))  # type: ignore[arg-type]
        known: dict[str, Any] = {
            name: value for name, value in changes.items() if hasattr(_USUAL, name)
        }
        extra: dict[str, Any] = {
            name: value for name, value in changes.items() if name not in known
        }
        if "kind" in known:
            known["kind"] = Kind(known["kind"])
        return replace(
            _USUAL,
            amount_minor=round(amount * 10 ** EXPONENTS[currency]),
            base_amount_minor=round(base_amount * 10 ** EXPONENTS[self.catalogue.base_currency]),
            extra=extra,
            **known,
        )

    def _example_lists(self, example: Mapping[str, object]) -> Lists:
        given: dict[str, Sequence[Entry]] = dict.fromkeys(self.lists.ends, ())
        for name, values in example.items():
            root, _, last = str(name).partition(".")
            if root == "lists":
                if not isinstance(values, list):
                    message = f"{name}: expected a list of values"
                    raise ValueError(message)
                given[last] = [Entry(str(value)) for value in values]
        return build_lists(given)


def _number(name: str, value: object) -> float:
    _checked(name, value, Type.NUMBER)
    return float(value)  # type: ignore[arg-type]


def _checked(name: str, value: object, type_: Type) -> object:
    expected, wanted = _TYPES[type_]
    if not isinstance(value, wanted) or (isinstance(value, bool) and type_ is not Type.ANY):
        message = f"{name}: {value!r} where {expected} is expected"
        raise ValueError(message)
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return value
