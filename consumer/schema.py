"""
The published contract: JSON Schema of both events, generated from their types.

``python -m consumer.schema`` writes ``consumer/schemas/``; a test fails when the
files and the types differ. The number in ``$id`` and file name rises when an
event that was valid no longer is. A schema cannot say everything: ``decode``
also refuses equal keys, too many decimals, a missing conversion and card numbers.
"""

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import msgspec

from consumer.wire import LabelEvent, TransactionEvent

VERSION = 1
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EVENTS: Mapping[str, type[msgspec.Struct]] = {"transaction": TransactionEvent, "label": LabelEvent}


def file_name(event: str) -> str:
    """Name the file of *event* (``transaction`` or ``label``)."""
    return f"{event}.v{VERSION}.json"


def published_schema(event: str) -> str:
    """Return the packaged schema of *event* as text."""
    return (resources.files("consumer.schemas") / file_name(event)).read_text("utf-8")


def build_schema(event: str) -> str:
    """Generate the schema of *event* from its type, as indented JSON that ends in a newline."""
    kind = _EVENTS[event]
    _, components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    root = components.pop(kind.__name__)
    schema = {
        "$schema": _DIALECT,
        "$id": f"urn:fraudstream:event:{event}:v{VERSION}",
        **root,
        "title": f"fraudstream {event} event, version {VERSION}",
    }
    if components:
        schema["$defs"] = {name: components[name] for name in sorted(components)}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write the schemas of both events into *folder* and return their paths."""
    folder.mkdir(exist_ok=True)
    written = []
    for event in _EVENTS:
        path = folder / file_name(event)
        path.write_text(build_schema(event), "utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for written_path in write_schemas(Path(__file__).parent / "schemas"):
        print(written_path)  # noqa: T201 - the answer of a command
