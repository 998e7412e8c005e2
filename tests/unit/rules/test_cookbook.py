"""The rules in the documentation are right: they compile, and their examples hold."""

import re
from pathlib import Path

import pytest

from consumer.features.specification import load_plan
from consumer.outside import build_rule_source
from consumer.rules.examples import run_examples
from consumer.rules.specification import parse_rules
from consumer.settings import Settings

PAGE = Path(__file__).parents[3] / "docs" / "rules.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split()[2])
def test_a_rule_of_the_cookbook_does_what_it_says(block: str) -> None:
    settings = Settings()
    source = build_rule_source(settings, load_plan(settings.features.path, "EUR"))
    _, lists = source.read()
    text = block if block.startswith("version:") else f"version: 1\nrules:\n{block}"
    rules = parse_rules(text, "docs/rules.md")
    found = run_examples(rules, lists, source.catalogue)
    assert found
    assert [each for each in found if not each.good] == []
