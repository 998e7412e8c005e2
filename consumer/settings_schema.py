"""
The schema of the settings as a flat list of keys, for messages and rendering.

``redis.url`` is a key; ``redis`` is a section. The schema itself is the models
of ``settings.py``, and nothing here repeats it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from consumer.settings import Section, Settings

PREFIX = "FRAUDSTREAM_"
"""What the name of every environment variable of the settings begins with."""

SEPARATOR = "__"
"""What separates the names of sections and keys in an environment variable."""


@dataclass(frozen=True, slots=True)
class Key:
    """
    One value that can be set.

    ``name`` is dotted; a ``secret`` is never shown; a ``path`` is relative to
    the file it stands in.
    """

    name: str
    description: str
    secret: bool
    path: bool

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.replace(".", SEPARATOR).upper()


def section_of(field: FieldInfo) -> type[Section] | None:
    """Return the model of *field* if it is a section, None if it is a value."""
    annotation = field.annotation
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


@cache
def all_keys() -> dict[str, Key]:
    """Return every key of the settings by its dotted name, in the order of the schema."""
    return {key.name: key for key in _keys(Settings, "")}


def _keys(model: type[Section], prefix: str) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        section = section_of(field)
        if section is None:
            yield Key(
                f"{prefix}{name}",
                field.description or "",
                secret=_mentions(field.annotation, SecretStr),
                path=_mentions(field.annotation, Path),
            )
        else:
            yield from _keys(section, f"{prefix}{name}.")


def _mentions(annotation: object, wanted: type) -> bool:
    """Tell whether *wanted* stands anywhere in *annotation* (optional, annotated)."""
    return annotation is wanted or any(_mentions(part, wanted) for part in get_args(annotation))
