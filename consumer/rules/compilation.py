"""
Rules → one expression that answers for all of them.

``(rule 1 ? 1 : 0) + (rule 2 ? 2 : 0) + …`` costs one call whatever the number of rules; its
bits say which hit. Only when it gives no value is each rule evaluated by itself, to find the
guilty one. An integer of CEL has 64 bits with a sign, so more rules than 62 make several
expressions; so does a rule nested as deeply as the library can bear.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from consumer.errors import Misconfigured, Problem
from consumer.model import Outcome, Ruled, RuleHit
from consumer.rules.cel import Binding, Expression, Failure, Language, NotCompiled, Type
from consumer.rules.facts import Case, Catalogue, Reader, Value
from consumer.rules.lists import Lists
from consumer.rules.patterns import check_patterns
from consumer.rules.references import (
    Known,
    Scanned,
    member_name,
    presence_name,
    scan,
    value_name,
)
from consumer.rules.specification import Mode, OnError, Rule, Specification

MOST_BITS = 62


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """
    A rule with its own expression and the ``features`` that it reads.

    ``failed`` is its hit where the expression gives no value.
    """

    rule: Rule
    text: str
    features: frozenset[str]
    expression: Expression
    hit: RuleHit
    failed: RuleHit | None


@dataclass(frozen=True, slots=True)
class Group:
    """Rules whose bits one expression adds up, the first one's lowest."""

    expression: Expression
    rules: Sequence[CompiledRule]


@dataclass(frozen=True, slots=True)
class Reading:
    """Where the values of the names come from that the expressions read."""

    features: Sequence[tuple[str, int]]
    fields: Sequence[tuple[str, Reader]]
    presence: Sequence[tuple[str, Reader]]
    members: Sequence[tuple[str, Reader, Mapping[Value, float]]]
    asks_scores: bool

    def read(self, case: Case) -> dict[str, object]:
        """Collect name → value of *case*; an absent field or score has no entry."""
        values, transaction = case.values, case.transaction
        facts: dict[str, object] = {name: values[place] for name, place in self.features}
        for name, read in self.fields:
            value = read(transaction)
            if value is not None:
                facts[name] = value
        for name, read in self.presence:
            facts[name] = read(transaction) is not None
        for name, read, ends in self.members:
            # A field that is absent is in no list.
            end = ends.get(read(transaction))
            facts[name] = end is not None and case.time_s < end
        if self.asks_scores:
            for score, value in (("fraud", case.scores.fraud), ("anomaly", case.scores.anomaly)):
                facts[presence_name("scores", score)] = value is not None
                if value is not None:
                    facts[value_name("scores", score)] = value
        return facts


class RuleSet:
    """
    Compiled rules with the lists they look into; unchanging.

    ``mode`` wins over the modes of the rules where it is the weaker one.
    """

    def __init__(
        self,
        specification: Specification,
        lists: Lists,
        mode: Mode,
        compiled: Sequence[CompiledRule],
        catalogue: Catalogue,
    ) -> None:
        self.specification = specification
        self.lists = lists
        self.mode = weaker(mode, specification.mode)
        self.rules = tuple(compiled)
        used = [each for each in compiled if each.rule.mode is not Mode.OFF]
        scanned = _scan_all([each.rule for each in used], catalogue, lists)
        self._language = Language(_variables(scanned, catalogue))
        self._reading = _reading(scanned, catalogue, lists)
        self._groups = _groups(used, self._language) if self.mode is not Mode.OFF else []
        self._nothing = Ruled((), (), (), specification.hash, lists.hash)

    def evaluate(self, case: Case) -> Ruled:
        """
        Judge *case*. Never raises: a rule without a value is named in ``errors``.

        A rule that reads a warming feature decides nothing.
        """
        if not self._groups:
            return self._nothing
        binding = self._language.bind(self._reading.read(case))
        hits: list[CompiledRule] = []
        failed: list[CompiledRule] = []
        for group in self._groups:
            bits = group.expression.evaluate(binding)
            if isinstance(bits, Failure):
                _evaluate_singly(group, binding, hits, failed)
            elif bits:
                hits += [rule for place, rule in enumerate(group.rules) if bits >> place & 1]
        if not hits and not failed:
            return self._nothing
        return self._result(hits, failed, case.warming)

    def explain(self, case: Case) -> str:
        """Why the first rule without a value for *case* has none; empty where all have one."""
        binding = self._language.bind(self._reading.read(case))
        for group in self._groups:
            for rule in group.rules:
                value = rule.expression.evaluate(binding)
                if isinstance(value, Failure):
                    return value.reason
        return ""

    def _result(
        self, hits: list[CompiledRule], failed: list[CompiledRule], unready: frozenset[str]
    ) -> Ruled:
        live: list[RuleHit] = []
        shadow: list[RuleHit] = []
        warming: list[RuleHit] = []
        found = [(each, each.hit) for each in hits]
        found += [(each, each.failed) for each in failed if each.failed is not None]
        for each, hit in found:
            if not self._decides(each.rule):
                shadow.append(hit)
            elif unready and not unready.isdisjoint(each.features):
                shadow.append(hit)
                warming.append(hit)
            else:
                live.append(hit)
        return Ruled(
            tuple(live),
            tuple(shadow),
            tuple(each.rule.rule_id for each in failed),
            self.specification.hash,
            self.lists.hash,
            tuple(warming),
        )

    def _decides(self, rule: Rule) -> bool:
        return self.mode is Mode.LIVE and rule.mode is Mode.LIVE


def weaker(one: Mode, other: Mode) -> Mode:
    """The mode of the two that lets rules do less."""
    return max(one, other, key=list(Mode).index)


def compile_rules(
    specification: Specification,
    lists: Lists,
    catalogue: Catalogue,
    mode: Mode = Mode.LIVE,
) -> RuleSet:
    """
    Compile and type-check *specification*, rules that are off included.

    Raises Misconfigured with every mistake at its line and column.
    """
    problems: list[Problem] = []
    scans = {
        rule.rule_id: scan(rule.when, _known(catalogue, lists)) for rule in specification.rules
    }
    compiled = []
    language = Language(_variables(list(scans.values()), catalogue))
    for rule in specification.rules:
        scanned = scans[rule.rule_id]
        if scanned.mistakes:
            problems += [
                _problem(specification, rule, mistake.line, mistake.column, mistake.message)
                for mistake in scanned.mistakes
            ]
            continue
        try:
            compiled.append(_compile(rule, scanned, language))
        except NotCompiled as error:
            problems.append(_problem(specification, rule, error.line, error.column, error.message))
    if problems:
        raise Misconfigured(problems)
    return RuleSet(specification, lists, mode, compiled, catalogue)


def _compile(rule: Rule, scanned: Scanned, language: Language) -> CompiledRule:
    expression = language.compile(scanned.text)
    if not expression.is_truth:
        raise NotCompiled(1, 1, "an expression that is neither true nor false")
    check_patterns(rule.when)
    if not scanned.reads_anything:
        value = expression.evaluate(language.bind({}))
        if isinstance(value, Failure):
            raise NotCompiled(1, 1, f"an expression that never has a value: {value.reason}")
    # As it stands in the sum: two parentheses deeper.
    language.compile(_bit(scanned.text, 0))
    return CompiledRule(
        rule,
        scanned.text,
        scanned.features,
        expression,
        RuleHit(rule.rule_id, rule.version, rule.outcome, rule.add, rule.code, rule.text),
        _failed_hit(rule),
    )


def _failed_hit(rule: Rule) -> RuleHit | None:
    if rule.on_error is OnError.SKIP:
        return None
    text = f"This could not be checked: {rule.text}"
    return RuleHit(
        rule.rule_id, rule.version, Outcome(rule.on_error), 0.0, "rule_not_evaluated", text
    )


def _problem(
    specification: Specification, rule: Rule, line: int, column: int, message: str
) -> Problem:
    at, name = place_of(specification, rule, line, column)
    return Problem(at, name, message, "an expression that is true or false, see 'rules fields'")


def place_of(specification: Specification, rule: Rule, line: int, column: int) -> tuple[str, str]:
    """Where *line* and *column* of a rule's expression are in its file, and its name."""
    place = rule.place
    at = f"{specification.source}:{place.line}"
    name = f"rule {rule.rule_id}"
    if place.exact:
        # Only a block in YAML has lines of its own, and they are all indented alike.
        at = f"{specification.source}:{place.line + line - 1}:{place.column + column - 1}"
    else:
        name += f", line {line}, column {column} of when"
    return at, name


def _known(catalogue: Catalogue, lists: Lists) -> Known:
    features = [fact.name.removeprefix("f.") for fact in catalogue.features]
    return Known(catalogue.fields, frozenset(features), lists.ends)


def _scan_all(rules: Sequence[Rule], catalogue: Catalogue, lists: Lists) -> list[Scanned]:
    known = _known(catalogue, lists)
    return [scan(rule.when, known) for rule in rules]


def _variables(scans: Sequence[Scanned], catalogue: Catalogue) -> dict[str, Type]:
    variables: dict[str, Type] = {}
    for scanned in scans:
        for name in scanned.fields:
            variables[value_name("tx", name)] = catalogue.fields[name].type
        for name in scanned.features:
            variables[value_name("f", name)] = Type.NUMBER
        for name in scanned.scores:
            variables[value_name("scores", name)] = Type.NUMBER
        for root, name in scanned.present:
            variables[presence_name(root, name)] = Type.TRUTH
        for list_, name in scanned.members:
            variables[member_name(list_, name)] = Type.TRUTH
    return variables


def _reading(scans: Sequence[Scanned], catalogue: Catalogue, lists: Lists) -> Reading:
    fields = sorted({name for each in scans for name in each.fields})
    features = {name for each in scans for name in each.features}
    present = sorted({pair for each in scans for pair in each.present})
    members = sorted({pair for each in scans for pair in each.members})
    readers = catalogue.readers
    places = [fact.name.removeprefix("f.") for fact in catalogue.features]
    return Reading(
        features=[(value_name("f", n), i) for i, n in enumerate(places) if n in features],
        fields=[(value_name("tx", name), readers[name]) for name in fields],
        presence=[(presence_name("tx", n), readers[n]) for root, n in present if root == "tx"],
        members=[
            (member_name(list_, name), readers[name], lists.ends[list_]) for list_, name in members
        ],
        asks_scores=any(each.scores for each in scans) or any(r == "scores" for r, _ in present),
    )


def _groups(rules: Sequence[CompiledRule], language: Language) -> list[Group]:
    """Put *rules* into as few expressions as hold them."""
    if len(rules) <= 1:
        return [Group(language.compile(_bit(each.text, 0)), [each]) for each in rules]
    if len(rules) <= MOST_BITS:
        terms = [_bit(each.text, place) for place, each in enumerate(rules)]
        # The whole may be nested too deeply where each by itself is not.
        with suppress(NotCompiled):
            return [Group(language.compile(_sum(terms)), rules)]
    middle = len(rules) // 2
    return _groups(rules[:middle], language) + _groups(rules[middle:], language)


def _bit(text: str, place: int) -> str:
    # The newline ends a comment on the last line of the rule.
    return f"(({text}\n) ? {1 << place} : 0)"


def _sum(terms: Sequence[str]) -> str:
    """Add *terms* up as a balanced tree: a long row of + is too deep for the parser."""
    if len(terms) == 1:
        return terms[0]
    middle = len(terms) // 2
    return f"({_sum(terms[:middle])} + {_sum(terms[middle:])})"


def _evaluate_singly(
    group: Group, binding: Binding, hits: list[CompiledRule], failed: list[CompiledRule]
) -> None:
    for rule in group.rules:
        value = rule.expression.evaluate(binding)
        if isinstance(value, Failure):
            failed.append(rule)
        elif value:
            hits.append(rule)
