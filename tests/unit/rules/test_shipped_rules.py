"""The rules that come with the package, and every example beside them."""

import pytest

from consumer.features.specification import load_plan
from consumer.outside import build_rule_source
from consumer.rules.examples import Finding, run_examples
from consumer.rules.source import RuleSource
from consumer.settings import Settings

SETTINGS = Settings()


def shipped() -> RuleSource:
    return build_rule_source(SETTINGS, load_plan(SETTINGS.features.path, "EUR"))


def findings() -> list[Finding]:
    source = shipped()
    specification, lists = source.read()
    return run_examples(specification, lists, source.catalogue)


@pytest.mark.parametrize(
    "finding", findings(), ids=lambda f: f"{f.rule_id}-{f.expected}-{f.number}"
)
def test_each_shipped_rule_does_what_its_examples_say(finding: Finding) -> None:
    assert finding.found == finding.expected


def test_the_shipped_rules_are_refused_by_nothing_and_share_one_expression() -> None:
    rules = shipped().load()
    assert 12 <= len(rules.rules) <= 20
    assert len(rules._groups) == 1
