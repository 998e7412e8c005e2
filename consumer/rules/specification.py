"""
``rules.yaml`` → rules, with every mistake reported at once and at its line.

The file is data from a person, so nothing in it is trusted. What an expression may say is
checked later, by ``compilation.py``.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import orjson
import yaml

from consumer.errors import Misconfigured, Problem
from consumer.model import Outcome
from consumer.yaml_document import read_yaml

Yaml = object

_Word = TypeVar("_Word", bound=StrEnum)
_ID = re.compile(r"[a-z][a-z0-9_]{0,63}")


class Mode(StrEnum):
    """Whether rules decide, are only recorded, or are not evaluated."""

    LIVE = "live"
    SHADOW = "shadow"
    OFF = "off"


class OnError(StrEnum):
    """What a rule asks for when its expression gives no value."""

    SKIP = "skip"
    REVIEW = "review"
    DECLINE = "decline"


@dataclass(frozen=True, slots=True)
class Place:
    """Where an expression begins in its file, both from 1; ``exact`` for all of its lines."""

    line: int
    column: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """
    One rule as it was written.

    It asks for ``outcome`` or, where that is None, adds ``add`` to the fraud score.
    ``hits`` and ``misses`` are its examples, name → value.
    """

    rule_id: str
    version: int
    when: str
    outcome: Outcome | None
    add: float
    code: str
    text: str
    mode: Mode
    on_error: OnError
    hits: Sequence[Mapping[str, Yaml]]
    misses: Sequence[Mapping[str, Yaml]]
    place: Place


@dataclass(frozen=True, slots=True)
class Specification:
    """
    The rules of one file, in its order.

    ``mode`` is that of the whole file; ``hash`` the SHA-256 (hex) of everything that decides:
    equal hashes decide alike. ``source`` names the file in messages, ``text`` is its content.
    """

    rules: Sequence[Rule]
    mode: Mode
    hash: str
    source: str
    text: str


def parse_rules(text: str, source: str) -> Specification:
    """Read *text*. Raises Misconfigured with every problem found."""
    read = read_yaml(text, source)
    nodes = [] if read.node is None else _rule_nodes(read.node)
    reader = _Reader(source, nodes, [*text.split("\n"), ""])
    rules, mode = reader.read(read.value)
    if reader.problems:
        raise Misconfigured(reader.problems)
    return Specification(rules, mode, _hash(rules, mode), source, text)


def _hash(rules: Sequence[Rule], mode: Mode) -> str:
    canonical = [
        [r.rule_id, r.version, r.when, r.outcome, r.add, r.code, r.text, r.mode, r.on_error]
        for r in rules
    ]
    return hashlib.sha256(orjson.dumps([mode, canonical])).hexdigest()


def _rule_nodes(root: yaml.Node) -> list[yaml.Node]:
    listed = _child(root, "rules")
    return list(listed.value) if isinstance(listed, yaml.SequenceNode) else []


def _child(node: yaml.Node, key: str) -> yaml.Node | None:
    """Return the node of *key* in a mapping."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _place(node: yaml.Node, lines: Sequence[str]) -> Place:
    """Find where the text of the scalar *node* begins in *lines*, those of its file."""
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    style = getattr(node, "style", None)
    if style == "|":
        # It begins on the next line, and all of it is indented alike.
        first = lines[line]
        return Place(line + 1, len(first) - len(first.lstrip(" ")) + 1, exact=True)
    if style in ("'", '"'):
        column += 1
    return Place(line, column, exact=style != ">" and node.start_mark.line == node.end_mark.line)


_RULE_KEYS = frozenset(
    {"id", "version", "when", "outcome", "reason", "mode", "on_error", "examples"}
)


@dataclass
class _Reader:
    """Reads one document, noting what is wrong with it."""

    source: str
    nodes: list[yaml.Node]
    lines: Sequence[str]
    problems: list[Problem] = field(default_factory=list)
    _where: str = ""

    def read(self, document: Yaml) -> tuple[list[Rule], Mode]:
        self._where = self.source
        top = self._mapping(document, "the file", {"version", "mode", "rules"})
        if top.get("version") != 1:
            self._note("version", top.get("version"), "1")
        mode = self._choice(Mode, top.get("mode", "live"), "mode")
        listed = top.get("rules", [])
        if not isinstance(listed, list):
            self._note("rules", listed, "a list of rules")
            listed = []
        rules = []
        known: set[str] = set()
        for value, node in zip(listed, self.nodes, strict=False):
            rule = self._rule(value, node)
            if rule.rule_id in known:
                self._note(f"rule {rule.rule_id}", "its id again", "ids that occur once")
            known.add(rule.rule_id)
            rules.append(rule)
        return rules, mode

    def _rule(self, value: Yaml, node: yaml.Node) -> Rule:
        self._where = f"{self.source}:{node.start_mark.line + 1}"
        rule = self._mapping(value, "a rule", _RULE_KEYS)
        rule_id = rule.get("id")
        if not isinstance(rule_id, str) or _ID.fullmatch(rule_id) is None:
            self._note("id", rule_id, "a lower-case word such as card_velocity")
            rule_id = "?"
        name = f"rule {rule_id}"
        version = rule.get("version", 1)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            self._note(f"{name}: version", version, "a whole number from 1")
            version = 1
        when_node = _child(node, "when")
        outcome, add = self._outcome(rule.get("outcome"), name)
        code, text = self._reason(rule.get("reason"), name)
        examples = self._mapping(rule.get("examples"), f"{name}: examples", {"hits", "misses"})
        return Rule(
            rule_id=rule_id,
            version=version,
            when=self._text(rule.get("when"), f"{name}: when"),
            outcome=outcome,
            add=add,
            code=code,
            text=text,
            mode=self._choice(Mode, rule.get("mode", "live"), f"{name}: mode"),
            on_error=self._choice(OnError, rule.get("on_error", "skip"), f"{name}: on_error"),
            hits=self._examples(examples.get("hits"), f"{name}: examples.hits"),
            misses=self._examples(examples.get("misses"), f"{name}: examples.misses"),
            place=_place(when_node or node, self.lines),
        )

    def _outcome(self, value: Yaml, name: str) -> tuple[Outcome | None, float]:
        expected = "approve, review, decline or {add: 0.2}, between -1 and 1"
        if isinstance(value, dict) and set(value) == {"add"}:
            add = value["add"]
            if isinstance(add, int | float) and not isinstance(add, bool) and -1 <= add <= 1:
                return None, float(add)
        elif isinstance(value, str) and value in set(Outcome):
            return Outcome(value), 0.0
        self._note(f"{name}: outcome", value, expected)
        return Outcome.APPROVE, 0.0

    def _reason(self, value: Yaml, name: str) -> tuple[str, str]:
        reason = self._mapping(value, f"{name}: reason", {"code", "text"})
        code = self._text(reason.get("code"), f"{name}: reason.code")
        if code and _ID.fullmatch(code) is None:
            self._note(f"{name}: reason.code", code, "a lower-case word such as card_busy")
        return code, self._text(reason.get("text"), f"{name}: reason.text")

    def _examples(self, value: Yaml, name: str) -> list[Mapping[str, Yaml]]:
        if not isinstance(value, list) or not value:
            self._note(name, value, "a list of at least one example")
            return []
        for example in value:
            if not isinstance(example, dict):
                self._note(name, example, "{name: value, …}")
        return [example for example in value if isinstance(example, dict)]

    def _choice(self, kind: type[_Word], value: Yaml, name: str) -> _Word:
        words = [str(word) for word in kind]
        if value is False:
            # YAML reads a plain off as false.
            value = "off"
        if value in words:
            return kind(value)
        self._note(name, value, " or ".join(words))
        return kind(words[0])

    def _text(self, value: Yaml, name: str) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self._note(name, value, "a text")
        return ""

    def _mapping(self, value: Yaml, name: str, keys: set[str] | frozenset[str]) -> dict[str, Yaml]:
        """Return *value* as a mapping with *keys*; what it is not, is noted."""
        if not isinstance(value, dict):
            self._note(name, value, f"a mapping of {', '.join(sorted(keys))}")
            return {}
        for key in value.keys() - keys:
            self._note(name, f"the key {key}", f"one of {', '.join(sorted(keys))}")
        return {key: value[key] for key in value if key in keys}

    def _note(self, key: str, found: Yaml, expected: str) -> None:
        shown = "nothing" if found is None else str(found)
        self.problems.append(Problem(self._where, key, shown[:80], expected))
