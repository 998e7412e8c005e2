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


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"id": "Card-Burst"}, "id"),
        ({"id": None}, "id"),
        ({"version": 0}, "rule one: version"),
        ({"version": True}, "rule one: version"),
        ({"when": ""}, "rule one: when"),
        ({"when": 5}, "rule one: when"),
        ({"outcome": "refuse"}, "rule one: outcome"),
        ({"outcome": {"add": 2}}, "rule one: outcome"),
        ({"outcome": {"add": "much"}}, "rule one: outcome"),
        ({"outcome": {"add": True}}, "rule one: outcome"),
        ({"outcome": ["decline"]}, "rule one: outcome"),
        ({"mode": "alive"}, "rule one: mode"),
        ({"on_error": "ignore"}, "rule one: on_error"),
        ({"on_error": False}, "rule one: on_error"),
        ({"reason": {"code": "Bad Code", "text": "x"}}, "rule one: reason.code"),
        ({"reason": {"code": "good", "text": " "}}, "rule one: reason.text"),
        ({"examples": {"hits": [], "misses": [{}]}}, "rule one: examples.hits"),
        ({"examples": {"hits": [{}], "misses": ["f.amount"]}}, "rule one: examples.misses"),
        ({"why": "x"}, "a rule"),
    ],
)
def test_a_wrong_value_is_told_with_the_rule_and_its_line(
    change: dict[str, object], key: str
) -> None:
    (problem,) = problems_of(a_rule("one", "true") | change)
    assert (problem.source, problem.key) == ("rules.yaml:3", key)


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
    assert (problem.key, problem.expected) == ("rule one", "ids that occur once")


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
