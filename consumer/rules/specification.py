"""
``rules.yaml`` → rules, with every mistake reported at once and at its line.

The file is data from a person, so nothing in it is trusted. What an expression may say is
checked later, by ``compilation.py``.
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

import orjson
import yaml

from consumer.errors import Misconfigured, Problem
from consumer.model import Outcome
from consumer.yaml_document import YamlDocument, expect_key, read_yaml, show_found

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

    def with_rules(self, rules: Sequence[Rule], mode: Mode) -> "Specification":
        """The same with other *rules*, as if they stood in the file."""
        return replace(self, rules=rules, mode=mode, hash=_hash(rules, mode))


def parse_rules(text: str, source: str) -> Specification:
    """Read *text*. Raises Misconfigured with every problem found."""
    document = read_yaml(text, source)
    nodes = [] if document.node is None else _rule_nodes(document.node)
    reader = _Reader(source, document, nodes, [*text.split("\n"), ""])
    rules, mode = reader.read(document.value)
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
    document: YamlDocument
    nodes: list[yaml.Node]
    lines: Sequence[str]
    problems: list[Problem] = field(default_factory=list)
    _name: str = ""
    _path: str = ""

    def read(self, document: Yaml) -> tuple[list[Rule], Mode]:
        top = self._mapping(document, "", {"version", "mode", "rules"}, whole="the file")
        # YAML's true is no version, though it equals 1.
        if isinstance(document, dict) and repr(top.get("version")) != "1":
            self._note("version", top.get("version"), "1")
        mode = self._choice(Mode, top.get("mode", "live"), "mode")
        listed = top.get("rules", [])
        if not isinstance(listed, list):
            self._note("rules", listed, "a list of rules")
            listed = []
        rules = []
        known: set[str] = set()
        for index, (value, node) in enumerate(zip(listed, self.nodes, strict=False)):
            self._path = f"rules[{index}]"
            rule = self._rule(value, node)
            if rule.rule_id in known - {_NAMELESS}:
                self._note("id", rule.rule_id, "ids that occur once")
            known.add(rule.rule_id)
            rules.append(rule)
        return rules, mode

    def _rule(self, value: Yaml, node: yaml.Node) -> Rule:
        rule_id = value.get("id") if isinstance(value, dict) else None
        known = isinstance(rule_id, str) and _ID.fullmatch(rule_id) is not None
        self._name = f"rule {rule_id}" if known else "a rule"
        rule = self._mapping(value, "", _RULE_KEYS)
        if not known and isinstance(value, dict):
            self._note("id", rule_id, "a lower-case word such as card_velocity")
        if not isinstance(value, dict):
            # One problem is enough of what is no rule at all.
            rule = _PLACEHOLDER
        version = rule.get("version", 1)
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            self._note("version", version, "a whole number from 1")
            version = 1
        outcome, add = self._outcome(rule.get("outcome"))
        code, text = self._reason(rule.get("reason"))
        hits, misses = self._examples(rule.get("examples"))
        return Rule(
            rule_id=str(rule_id) if known else _NAMELESS,
            version=version,
            when=self._text(rule.get("when"), "when"),
            outcome=outcome,
            add=add,
            code=code,
            text=text,
            mode=self._choice(Mode, rule.get("mode", "live"), "mode"),
            on_error=self._choice(OnError, rule.get("on_error", "skip"), "on_error"),
            hits=hits,
            misses=misses,
            place=_place(_child(node, "when") or node, self.lines),
        )

    def _outcome(self, value: Yaml) -> tuple[Outcome | None, float]:
        expected = "approve, review, decline or {add: 0.2}, between -1 and 1"
        if isinstance(value, dict) and set(value) == {"add"}:
            add = value["add"]
            if isinstance(add, int | float) and not isinstance(add, bool) and -1 <= add <= 1:
                return None, float(add)
        elif isinstance(value, str) and value in set(Outcome):
            return Outcome(value), 0.0
        self._note("outcome", value, expected)
        return Outcome.APPROVE, 0.0

    def _reason(self, value: Yaml) -> tuple[str, str]:
        reason = self._mapping(value, "reason", {"code", "text"})
        if not isinstance(value, dict):
            return "", ""
        code = self._text(reason.get("code"), "reason.code")
        if code and _ID.fullmatch(code) is None:
            self._note("reason.code", code, "a lower-case word such as card_busy")
        return code, self._text(reason.get("text"), "reason.text")

    def _examples(self, value: Yaml) -> tuple[list[Mapping[str, Yaml]], list[Mapping[str, Yaml]]]:
        examples = self._mapping(value, "examples", {"hits", "misses"})
        if not isinstance(value, dict):
            return [], []
        return self._listed(examples.get("hits"), "examples.hits"), self._listed(
            examples.get("misses"), "examples.misses"
        )

    def _listed(self, value: Yaml, path: str) -> list[Mapping[str, Yaml]]:
        if not isinstance(value, list) or not value:
            self._note(path, value, "a list of at least one example")
            return []
        for number, example in enumerate(value):
            if not isinstance(example, dict):
                self._note(f"{path}[{number}]", example, "{name: value, …}")
        return [example for example in value if isinstance(example, dict)]

    def _choice(self, kind: type[_Word], value: Yaml, path: str) -> _Word:
        words = [str(word) for word in kind]
        # YAML reads a plain off as false.
        word = "off" if value is False else value
        if word in words:
            return kind(word)
        self._note(path, value, " or ".join(words))
        return kind(words[0])

    def _text(self, value: Yaml, path: str) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self._note(path, value, "a text")
        return ""

    def _mapping(
        self, value: Yaml, path: str, keys: Collection[str], *, whole: str = ""
    ) -> dict[str, Yaml]:
        """Return *value* as a mapping with *keys*; what it is not, is noted."""
        if not isinstance(value, dict):
            self._note(path, value, f"a mapping of {', '.join(sorted(keys))}", whole=whole)
            return {}
        for key in [key for key in value if key not in keys]:
            place = self.document.place(self.source, f"{self._path}.{path}.{key}", key=True)
            found, name = f"the key {show_found(key)}", self._key(path) or whole
            self.problems.append(Problem(place, name, found, expect_key(key, keys)))
        return {key: value[key] for key in value if key in keys}

    def _key(self, path: str) -> str:
        """How *path* below the rule that is read is called in problems."""
        return ": ".join(filter(None, (self._name, path)))

    def _note(self, path: str, found: Yaml, expected: str, *, whole: str = "") -> None:
        place = self.document.place(self.source, f"{self._path}.{path}")
        problem = Problem(place, self._key(path) or whole, show_found(found), expected)
        self.problems.append(problem)


_NAMELESS = "?"
_PLACEHOLDER: dict[str, Yaml] = {
    "when": "true",
    "outcome": "approve",
    "reason": {"code": "none", "text": "none"},
    "examples": {"hits": [{}], "misses": [{}]},
}
