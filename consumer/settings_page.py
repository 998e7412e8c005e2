"""The page of all settings for people: ``python -m consumer.settings_page > docs/settings.md``."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from consumer.settings import SHIPPED, Settings
from consumer.settings_schema import PREFIX, all_keys
from consumer.settings_text import plain

_HEAD = f"""\
# Settings

<!-- Written by `python -m consumer.settings_page > docs/settings.md`; a test holds it in step. -->

Every key of `fraudstream.yaml` with its default, what it may be and what it means. Environment
variables win over the file: `{PREFIX}REDIS__URL` sets `redis.url`, so a variable is `{PREFIX}`,
the section, two underscores and the key, in capitals. Relative paths in the file start from its
folder. `fraudstream init DIR` writes the file, `fraudstream config show` prints what is in
effect and where it came from, `fraudstream check` tries it. Values that contradict each other are
refused at the start, all at once.

Names end in their unit: `_s` seconds, `_ms` milliseconds, `_bytes` bytes."""
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
}


def render_page() -> str:
    """The page, in Markdown."""
    schema = Settings.model_json_schema()
    lines = [_HEAD]
    section = ""
    for name, key in all_keys().items():
        if (first := name.partition(".")[0]) != section:
            section = first
            lines += [*_section_head(schema, section)]
        default = _default(name)
        allowed = _allowed(schema, _property(schema, name))
        lines.append(f"| `{name}` | `{default}` | {allowed} | {_cell(key.description)} |")
    return "\n".join(lines) + "\n"


def _section_head(schema: Mapping[str, Any], section: str) -> Iterator[str]:
    meaning = _resolve(schema, schema["properties"][section]).get("description", "")
    yield f"\n## {section}\n"
    yield f"{' '.join(meaning.replace('``', '`').split())}\n"
    yield "| key | default | may be | meaning |"
    yield "|---|---|---|---|"


def _default(name: str) -> str:
    """The default as one would write it into the file."""
    value: object = Settings()
    for part in name.split("."):
        value = getattr(value, part)
    value = plain(value)
    if isinstance(value, str) and Path(value).parent == SHIPPED:
        value = Path(value).name
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return _cell(text.removesuffix("\n").removesuffix("\n..."))


def _property(schema: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The JSON Schema of one key."""
    found: Mapping[str, Any] = schema
    for part in name.split("."):
        found = _resolve(schema, found)["properties"][part]
    return found


def _resolve(schema: Mapping[str, Any], part: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in part:
        return part
    resolved: Mapping[str, Any] = schema["$defs"][part["$ref"].rpartition("/")[2]]
    return resolved


def _allowed(schema: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    """What the key may be, in words."""
    if "anyOf" in part:
        return ", or ".join(_allowed(schema, each) for each in part["anyOf"])
    part = _resolve(schema, part)
    if words := [part["const"]] if "const" in part else part.get("enum"):
        return " or ".join(f"`{each}`" for each in words)
    if part.get("type") == "null":
        return "empty"
    if part.get("type") == "object":
        return "map"
    if "format" in part:
        formats = {"path": "path", "password": "address"}
        return formats.get(str(part["format"]), str(part["format"]))
    words = _TYPES.get(part.get("type", ""), "text")
    return " ".join([words, *_limits(part)])


def _limits(part: Mapping[str, Any]) -> Iterator[str]:
    low, high = part.get("minimum"), part.get("maximum")
    if low is not None and high is not None:
        yield f"from {low:g} to {high:,}" if isinstance(high, int) else f"from {low:g} to {high:g}"
    elif low is not None:
        yield f"from {low:,}"
    elif high is not None:
        yield f"up to {high:,}"
    if "exclusiveMinimum" in part:
        yield f"above {part['exclusiveMinimum']:g}"
    if "pattern" in part:
        yield f"like `{_cell(part['pattern'])}`"


def _cell(text: str) -> str:
    """*text* in a table of Markdown, where a bar would end the cell."""
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render_page())
