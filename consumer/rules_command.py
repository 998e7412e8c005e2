"""``fraudstream rules``: check rules, try their examples, and see what they may use."""

import argparse
import getpass
import socket
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict

import orjson

from consumer import configuration
from consumer.clock import SystemClock
from consumer.errors import Misconfigured, Problem
from consumer.features.specification import load_plan
from consumer.outside import build_accepted_rules, build_rule_source
from consumer.rules.accepted import copy_of, encode
from consumer.rules.compilation import RuleSet
from consumer.rules.examples import Finding, run_examples
from consumer.rules.facts import Catalogue, Fact
from consumer.rules.lint import find_doubts
from consumer.rules.source import RuleSource
from consumer.rules.specification import Mode
from consumer.rules_arguments import add_backtest_arguments, with_rules_at
from consumer.settings import Settings
from consumer.warming_view import view_warming, warming_lines

_ACTIONS = {
    "lint": "check every rule and list and run the examples, with the line and column of each "
    "mistake",
    "test": "run the examples beside each rule",
    "fields": "every name that rules may use, with type, unit and an example",
    "show": "the rules with their versions, modes and outcomes, and which wait for features",
    "accept": "keep them as the last good ones, also where they tripped; workers in which they "
    "tripped take them over again",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, meaning in _ACTIONS.items():
        each = actions.add_parser(name, help=meaning, description=meaning)
        each.add_argument(
            "--rules", metavar="PATH", help="another file, or s3://bucket/key, than rules.path"
        )
        each.add_argument("--json", action="store_true", help="as JSON, for scripts")
    meaning = "what other rules would have done with decisions on record, against the live ones"
    each = actions.add_parser("backtest", help=meaning, description=meaning)
    add_backtest_arguments(each)


def run(arguments: argparse.Namespace) -> int:
    """
    Do what is asked; 1 where rules are wrong or an example fails.

    Raises Misconfigured for the settings and features, and Unavailable.
    """
    settings = configuration.load(arguments.config).settings
    if arguments.action == "backtest":
        return _backtest(settings, arguments)
    return _look(with_rules_at(settings, arguments.rules), arguments)


def _look(settings: Settings, arguments: argparse.Namespace) -> int:
    plan = load_plan(settings.features.path, settings.events.base_currency)
    source = build_rule_source(settings, plan)
    if arguments.action == "fields":
        return _say(_fields(source.catalogue), _field_lines(source.catalogue), arguments)
    try:
        if arguments.action == "test":
            return _test(source, arguments)
        if arguments.action == "accept":
            return _accept(source.load(), settings, arguments)
        if arguments.action == "lint":
            return _lint(source, arguments)
        rules = source.compile()
    except Misconfigured as error:
        return _refuse(error.problems, arguments)
    view = view_warming(settings, plan, rules.rules)
    shown = {**_shown(rules), "warming": asdict(view)}
    return _say(shown, [*_rule_lines(rules), *warming_lines(view)], arguments)


def _backtest(settings: Settings, arguments: argparse.Namespace) -> int:
    # Reads files of millions of rows, with libraries that a check of rules can do without.
    from consumer import rules_backtest  # noqa: PLC0415

    plan = load_plan(settings.features.path, settings.events.base_currency)
    try:
        found = rules_backtest.backtest_rules(settings, plan, arguments)
    except Misconfigured as error:
        return _refuse(error.problems, arguments)
    return _say(rules_backtest.as_json(*found), rules_backtest.render(*found), arguments)


def _lint(source: RuleSource, arguments: argparse.Namespace) -> int:
    rules = source.load()
    doubts = find_doubts(rules.specification, rules.lists, source.catalogue)
    lines = [*_rule_lines(rules), *(f"warning: {doubt}" for doubt in doubts)]
    return _say({**_shown(rules), "warnings": _problems(doubts)}, lines, arguments)


def _test(source: RuleSource, arguments: argparse.Namespace) -> int:
    rules = source.compile()
    findings = run_examples(rules.specification, rules.lists, source.catalogue)
    bad = [finding for finding in findings if not finding.good]
    lines = [_finding_line(finding) for finding in bad]
    lines.append(f"{len(findings) - len(bad)} of {len(findings)} examples are as expected")
    shown = {
        "examples": len(findings),
        "failed": [
            {"rule": f.rule_id, "example": f"{f.expected}[{f.number}]", "found": f.found}
            for f in bad
        ],
    }
    _say(shown, lines, arguments)
    return 1 if bad else 0


def _accept(rules: RuleSet, settings: Settings, arguments: argparse.Namespace) -> int:
    if rules.mode is not Mode.LIVE:
        expected = "live: a start must not fall back on rules that decide nothing"
        problem = Problem(rules.specification.source, "mode", str(rules.mode), expected)
        return _refuse([problem], arguments)
    copy = copy_of(rules, SystemClock().now_ms(), _who(), by_hand=True)
    if copy is None:
        found, expected = "a card number in it", "a token, or nothing: a copy of it lies in Redis"
        return _refuse(
            [Problem(rules.specification.source, "the file", found, expected)], arguments
        )
    with ExitStack() as stack:
        build_accepted_rules(settings, stack).accept(copy.version, encode(copy))
    kept = "with their lists" if copy.lists is not None else "without the lists, being too large"
    shown = {"version": copy.version, "by": copy.by, "lists": copy.lists is not None}
    return _say(shown, [f"accepted {copy.version} as the last good ones, {kept}"], arguments)


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _finding_line(finding: Finding) -> str:
    return f"rule {finding.rule_id}: {finding.expected}, example {finding.number}: {finding.found}"


def _refuse(problems: Sequence[Problem], arguments: argparse.Namespace) -> int:
    lines = [*map(str, problems), f"{len(problems)} to correct"]
    _say({"problems": _problems(problems)}, lines, arguments)
    return 1


def _problems(problems: Sequence[Problem]) -> list[dict[str, str]]:
    return [
        {"place": p.source, "key": p.key, "found": p.found, "expected": p.expected}
        for p in problems
    ]


def _all_facts(catalogue: Catalogue) -> list[Fact]:
    return [*catalogue.fields.values(), *catalogue.features, *catalogue.scores]


def _fields(catalogue: Catalogue) -> list[dict[str, object]]:
    return [
        {
            "name": fact.name,
            "type": fact.type,
            "unit": fact.unit,
            "example": fact.example,
            "optional": fact.optional,
        }
        for fact in _all_facts(catalogue)
    ]


def _field_lines(catalogue: Catalogue) -> list[str]:
    rows = [("name", "type", "unit", "example")]
    for fact in _all_facts(catalogue):
        unit = f"{fact.unit}, may be absent".lstrip(", ") if fact.optional else fact.unit
        rows.append((fact.name, str(fact.type), unit, str(fact.example)))
    return _columns(rows)


def _shown(rules: RuleSet) -> dict[str, object]:
    return {
        "source": rules.specification.source,
        "hash": rules.specification.hash,
        "mode": rules.mode,
        "lists": {name: len(ends) for name, ends in rules.lists.ends.items()},
        "lists_hash": rules.lists.hash,
        "rules": [
            {
                "id": each.rule.rule_id,
                "version": each.rule.version,
                "mode": each.rule.mode,
                "outcome": each.rule.outcome or {"add": each.rule.add},
                "code": each.rule.code,
                "text": each.rule.text,
                "on_error": each.rule.on_error,
                "when": each.rule.when,
            }
            for each in rules.rules
        ],
    }


def _rule_lines(rules: RuleSet) -> list[str]:
    rows = [("rule", "mode", "outcome", "reason")]
    for each in rules.rules:
        outcome = each.rule.outcome or f"add {each.rule.add:g}"
        rows.append(
            (f"{each.rule.rule_id}@{each.rule.version}", each.rule.mode, outcome, each.rule.text)
        )
    lists = ", ".join(f"{name} {len(ends)}" for name, ends in rules.lists.ends.items())
    specification = rules.specification
    summary = f"{len(rules.rules)} rules of {specification.source}, mode {rules.mode}"
    return [
        *_columns(rows),
        f"{summary}, hash {specification.hash[:16]}",
        f"lists: {lists or 'none'}; hash {rules.lists.hash[:16]}",
    ]


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _say(shown: object, lines: Iterable[str], arguments: argparse.Namespace) -> int:
    if arguments.json:
        option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
        sys.stdout.write(orjson.dumps(shown, option=option).decode())
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0
