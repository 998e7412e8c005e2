"""
A YAML settings file, read with the line of every key.

Lines are what turns "wrong type" into a place to go to, so the document is read
as nodes first, which know where they stand, and only then as values.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from consumer.errors import Misconfigured, Problem
from consumer.yaml_document import YamlDocument, read_yaml

_MAPPING = "settings by section, such as 'redis:' with 'url: redis://…' indented below it"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """
    What a file says, and where.

    ``values`` are nested mappings, ``lines`` go from dotted key to line number
    (from 1), and ``problems`` are those that leave the rest readable.
    """

    path: Path
    values: Mapping[str, object]
    lines: Mapping[str, int]
    problems: tuple[Problem, ...] = field(default=())


def read_settings_file(path: Path) -> SettingsFile:
    """
    Read *path*; keys that stand twice are problems of the result.

    Raises Misconfigured when there is nothing to go on with: no such file, not
    text, not YAML (with the line), or not a mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error), "a readable file") from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"byte {error.start} that is not UTF-8", "UTF-8 text") from error
    return _parse(path, read_yaml(text, str(path), unique_keys=False))


def _unreadable(path: Path, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem(str(path), "(file)", found, expected)])


def _parse(path: Path, document: YamlDocument) -> SettingsFile:
    """Build the values and the lines from the same nodes."""
    node = document.node
    if node is None or (not node.value and isinstance(node, yaml.ScalarNode)):
        return SettingsFile(path, {}, {})
    if not isinstance(node, yaml.MappingNode) or not isinstance(document.value, dict):
        source = f"{path}:{node.start_mark.line + 1}"
        raise Misconfigured([Problem(source, "(file)", _kind(node), _MAPPING)])
    lines: dict[str, int] = {}
    problems: list[Problem] = []
    for key, line in _keys(node, ""):
        if key in lines:
            expected = f"each key once; it stands on line {lines[key]} already"
            problems.append(Problem(f"{path}:{line}", key, "the key again", expected))
        lines.setdefault(key, line)
    return SettingsFile(path, document.value, lines, tuple(problems))


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _keys(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, int]]:
    """Yield every key below *node*, dotted, with its line, in the order of the file."""
    for key_node, value_node in node.value:
        key = f"{prefix}{key_node.value}"
        yield key, key_node.start_mark.line + 1
        if isinstance(value_node, yaml.MappingNode):
            yield from _keys(value_node, f"{key}.")
