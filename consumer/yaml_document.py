"""
YAML that a person wrote, read without being trusted.

PyYAML's safe loader keeps code out, and no more: it follows nesting to the recursion
limit, copies aliases into structures that would fill the memory when written out, takes
the last of equal keys, and fails with any exception at all over a tag that does not fit
its value. Here each of these is one problem with its line.
"""

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import yaml

from consumer.errors import Misconfigured, Problem

_MAX_DEPTH = 32
# With aliases written out; the shipped files have a few thousand.
_MAX_CHARACTERS = 4_000_000
_MAX_INT = 2**63 - 1
_OPENING = (yaml.SequenceStartEvent, yaml.MappingStartEvent)
_CLOSING = (yaml.SequenceEndEvent, yaml.MappingEndEvent)
_MERGE = "tag:yaml.org,2002:merge"
_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")
_SHOWN = 80
# What the constructors of PyYAML raise over a value that its tag does not fit.
_MISFITS = (
    yaml.YAMLError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
)


class _Mark(Protocol):
    """Where something stands, both from 0; PyYAML and its C part each have their own."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A document as nodes, which know their lines (None when it is empty), and as values."""

    node: yaml.Node | None
    value: object

    def place(self, source: str, path: str, *, key: bool = False) -> str:
        """
        Return ``source:line:column`` of the value at *path*, such as ``rules[2].reason.code``.

        With *key* that of its last key instead. Where the path leads nowhere, as for a key
        that is missing, that of the last value on the way.
        """
        if self.node is None:
            return source
        name = value = self.node
        for index, word in _STEP.findall(path):
            step = _step(value, index, word)
            if step is None:
                name = value
                break
            name, value = step
        return _place(source, (name if key else value).start_mark)


def _step(node: yaml.Node, index: str, word: str) -> tuple[yaml.Node, yaml.Node] | None:
    """The key and the value of *word* in a mapping, or twice what stands at *index* of a list."""
    if isinstance(node, yaml.MappingNode):
        found = [(key, value) for key, value in node.value if key.value == word]
        return found[0] if found else None
    if isinstance(node, yaml.SequenceNode) and index and int(index) < len(node.value):
        return node.value[int(index)], node.value[int(index)]
    return None


def _place(source: str, mark: _Mark) -> str:
    return f"{source}:{mark.line + 1}:{mark.column + 1}"


def show_found(value: object) -> str:
    """*value* for the ``found`` of a problem, so that ``'1'`` and ``1`` are told apart."""
    if isinstance(value, bool):
        return str(value).lower()
    return "nothing" if value is None else repr(value)[:_SHOWN]


def expect_key(word: object, keys: Collection[str]) -> str:
    """What is expected in the place of the unknown key *word*, the closest of *keys* first."""
    close = difflib.get_close_matches(str(word), keys, n=1)
    others = f"one of {', '.join(sorted(keys))}"
    return f"{close[0]}? {others}" if close else others


def read_yaml(text: str, source: str, *, unique_keys: bool = True) -> YamlDocument:
    """
    Read the one document of *text*; *source* names its file in problems.

    Every text in it can be written as UTF-8, every whole number has at most 64 bits, no
    key stands twice in one mapping, and nothing contains itself. A caller that tells of
    repeated keys itself asks for no *unique_keys*. Raises Misconfigured.
    """
    try:
        _check_depth(text, source)
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return YamlDocument(None, None)
        _Check(source, unique_keys=unique_keys).check(node)
        return YamlDocument(node, loader.construct_document(node))
    except _MISFITS as error:
        mark = getattr(error, "problem_mark", None)
        raise _refused(source, mark, _reason(error), "valid YAML") from error


def _reason(error: Exception) -> str:
    """Return what PyYAML or a constructor has to say, in a line."""
    said: str = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return said or type(error).__name__


def _refused(source: str, mark: _Mark | None, found: str, expected: str) -> Misconfigured:
    place = source if mark is None else _place(source, mark)
    return Misconfigured([Problem(place, "the file", found, expected)])


def _check_depth(text: str, source: str) -> None:
    """Refuse nesting that would exhaust the stack, before anything recurses."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, _OPENING) - isinstance(event, _CLOSING)
        if depth > _MAX_DEPTH:
            raise _too_deep(source, event.start_mark)


def _too_deep(source: str, mark: _Mark | None) -> Misconfigured:
    return _refused(source, mark, "deeper nesting", f"at most {_MAX_DEPTH} levels")


class _Check:
    """Looks at every node once, aliases included."""

    def __init__(self, source: str, *, unique_keys: bool) -> None:
        self._source = source
        self._unique_keys = unique_keys
        self._scalars = yaml.constructor.SafeConstructor()
        # Node → its characters and its levels; None while it is being looked at.
        self._known: dict[int, tuple[int, int] | None] = {}

    def check(self, node: yaml.Node, depth: int = 1) -> tuple[int, int]:
        """Return the characters and the levels of *node*, aliases written out."""
        place = id(node)
        if place in self._known:
            known = self._known[place]
            if known is None:
                raise self._found(node, "a value that contains itself", "values that end")
            return known
        if depth > _MAX_DEPTH:
            raise _too_deep(self._source, node.start_mark)
        self._known[place] = None
        characters, levels = 1, 0
        for child in self._children(node):
            more, below = self.check(child, depth + 1)
            characters, levels = characters + more, max(levels, below)
        levels += 1
        if isinstance(node, yaml.ScalarNode):
            characters = len(node.value) + 1
        if levels > _MAX_DEPTH:
            raise _too_deep(self._source, node.start_mark)
        if characters > _MAX_CHARACTERS:
            expected = f"at most {_MAX_CHARACTERS} characters with aliases written out"
            raise self._found(node, "more", expected)
        self._known[place] = (characters, levels)
        return characters, levels

    def _children(self, node: yaml.Node) -> Iterator[yaml.Node]:
        if isinstance(node, yaml.ScalarNode):
            self._check_scalar(node)
        elif isinstance(node, yaml.SequenceNode):
            yield from node.value
        elif isinstance(node, yaml.MappingNode):
            if self._unique_keys:
                self._check_keys(node)
            for pair in node.value:
                yield from pair

    def _check_scalar(self, node: yaml.ScalarNode) -> None:
        try:
            node.value.encode()
        except UnicodeEncodeError:
            found = "half of a surrogate pair"
            raise self._found(node, found, "the character itself, or \\U and 8 digits") from None
        if node.tag == _MERGE:
            return
        try:
            value = self._scalars.construct_object(node)
        except _MISFITS as error:
            found = f"{node.value[:40]!r} as {node.tag.rpartition(':')[2]}, {_reason(error)}"
            raise self._found(node, found, "a value of that type, or quotes around it") from error
        if isinstance(value, int) and abs(value) > _MAX_INT:
            raise self._found(node, "a larger whole number", f"at most {_MAX_INT}")

    def _check_keys(self, node: yaml.MappingNode) -> None:
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name = (key.tag, key.value)
            if name in lines:
                found = f"the key {key.value[:40]} again"
                raise self._found(key, found, f"each key once; it stands on line {lines[name]}")
            lines[name] = key.start_mark.line + 1

    def _found(self, node: yaml.Node, found: str, expected: str) -> Misconfigured:
        return _refused(self._source, node.start_mark, found, expected)
