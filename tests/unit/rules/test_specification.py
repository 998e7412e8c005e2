"""``rules.yaml``: what it may say, and how a mistake in it is told."""

import pytest
import yaml

from consumer.errors import Misconfigured, Problem
from consumer.model import Outcome
from consumer.rules.specification import Mode, OnError, parse_rules
from tests.rulebook import a_rule, a_specification


def problems_of(*rules: object, **top: object) -> list[Problem]:
    text = yaml.safe_dump({"version": 1, "rules": list(rules)} | top, sort_keys=False)
    return problems_of_text(text)


def problems_of_text(text: str) -> list[Problem]:
    with pytest.raises(Misconfigured) as refused:
        parse_rules(text, "rules.yaml")
    return list(refused.value.problems)


def test_a_rule_that_says_little_is_live_and_skips_errors() -> None:
    (rule,) = a_specification(a_rule("one", "true")).rules
    assert (rule.rule_id, rule.version, rule.outcome, rule.add) == ("one", 1, Outcome.DECLINE, 0.0)
    assert (rule.mode, rule.on_error) == (Mode.LIVE, OnError.SKIP)


def test_an_outcome_can_be_a_score_to_add() -> None:
    (rule,) = a_specification(a_rule("one", "true", outcome={"add": -0.2})).rules
    assert (rule.outcome, rule.add) == (None, -0.2)


def test_an_example_does_not_change_the_hash_and_a_text_does() -> None:
    one = a_specification(a_rule("one", "true"))
    tried = a_specification(a_rule("one", "true", examples={"hits": [{}], "misses": [{}]}))
    told = a_specification(a_rule("one", "true", reason={"code": "one_code", "text": "Other."}))
    assert one.hash == tried.hash
    assert one.hash != told.hash


ORDER = ("id", "version", "when", "outcome", "reason", "examples", "mode", "on_error", "why", "whn")


@pytest.mark.parametrize(
    ("change", "place", "told"),
    [
        ({"id": "Card-Burst"}, "3:7", "a rule: id: found 'Card-Burst'"),
        ({"id": None}, "3:7", "a rule: id: found nothing"),
        ({"version": 0}, "4:12", "rule one: version: found 0"),
        ({"version": "1"}, "4:12", "rule one: version: found '1', expected a whole number from 1"),
        ({"version": True}, "4:12", "rule one: version: found true"),
        ({"when": ""}, "5:9", "rule one: when: found ''"),
        ({"when": 5}, "5:9", "rule one: when: found 5"),
        ({"outcome": "refuse"}, "6:12", "rule one: outcome: found 'refuse'"),
        ({"outcome": {"add": 2}}, "7:5", "rule one: outcome: found {'add': 2}"),
        ({"outcome": {"add": "much"}}, "7:5", "rule one: outcome: found {'add': 'much'}"),
        ({"outcome": {"add": True}}, "7:5", "rule one: outcome: found {'add': True}"),
        ({"outcome": ["decline"]}, "7:3", "rule one: outcome: found ['decline']"),
        ({"reason": {"code": "Bad Code", "text": "x"}}, "8:11", "rule one: reason.code: found 'Ba"),
        ({"reason": {"code": "good", "text": " "}}, "9:11", "rule one: reason.text: found ' '"),
        ({"reason": "because"}, "7:11", "rule one: reason: found 'because', expected a mapping of"),
        ({"examples": None}, "10:13", "rule one: examples: found nothing, expected a mapping of"),
        ({"examples": {"hits": [{}]}}, "11:5", "rule one: examples.misses: found nothing"),
        ({"examples": {"hits": [], "misses": [{}]}}, "11:11", "rule one: examples.hits: found []"),
        ({"examples": {"hits": [{}], "misses": ["x"]}}, "14:7", "rule one: examples.misses[0]: fo"),
        ({"mode": "alive"}, "15:9", "rule one: mode: found 'alive', expected live or shadow or"),
        ({"on_error": "ignore"}, "15:13", "rule one: on_error: found 'ignore'"),
        ({"on_error": False}, "15:13", "rule one: on_error: found false"),
        ({"why": "x"}, "15:3", "rule one: found the key 'why', expected one of examples, id"),
        ({"whn": "x"}, "15:3", "rule one: found the key 'whn', expected when? one of examples"),
    ],
)
def test_a_wrong_value_is_told_with_its_rule_at_its_line_and_column(
    change: dict[str, object], place: str, told: str
) -> None:
    rule = a_rule("one", "true") | change
    (problem,) = problems_of({key: rule[key] for key in ORDER if key in rule})
    assert str(problem).startswith(f"rules.yaml:{place}: {told}")


def test_a_key_that_is_missing_is_told_once_where_its_rule_begins() -> None:
    rule = a_rule("one", "true")
    del rule["examples"], rule["reason"]
    first, second = problems_of(rule)
    assert (first.source, first.key) == ("rules.yaml:3:3", "rule one: reason")
    assert (second.source, second.key) == ("rules.yaml:3:3", "rule one: examples")


def test_a_mode_that_yaml_reads_as_a_truth_value_is_understood() -> None:
    rule = "  - {id: one, when: 'true', outcome: review, mode: off, reason: {code: a, text: A},\n"
    rule += "     examples: {hits: [{}], misses: [{}]}}\n"
    parsed = parse_rules(f"version: 1\nmode: off\nrules:\n{rule}", "rules.yaml")
    assert (parsed.mode, parsed.rules[0].mode) == (Mode.OFF, Mode.OFF)


def test_everything_wrong_is_told_at_once() -> None:
    found = problems_of(a_rule("one", "true", version=0), a_rule("two", "true", mode="x"), mode="y")
    assert len(found) == 3


def test_an_id_occurs_once() -> None:
    (problem,) = problems_of(a_rule("one", "true"), a_rule("one", "false"))
    assert (problem.key, problem.expected) == ("rule one: id", "ids that occur once")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("", "the file"),
        ("[]", "the file"),
        ("version: 2\nrules: []", "version"),
        ("version: 1\nrules: {}", "rules"),
        ("version: 1\nrules: []\nruels: []", "the file"),
        ("version: 1\nrules: [5]", "a rule"),
        ("version: 1\nrules: [", "the file"),
        ("version: 1\nrules: \x00", "the file"),
        ("version: 1\nrules: 2026-02-31", "the file"),
        ("[" * 5000, "the file"),
    ],
)
def test_a_file_of_another_shape_is_refused(text: str, key: str) -> None:
    assert key in [problem.key for problem in problems_of_text(text)]


def test_no_rules_are_rules_too() -> None:
    assert parse_rules("version: 1\nrules: []\n", "rules.yaml").rules == []
    assert parse_rules("version: 1\n", "rules.yaml").rules == []
