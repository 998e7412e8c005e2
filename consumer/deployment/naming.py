"""Names that say what they stand for, and tags that say whose they are."""

import hashlib
import re
from typing import Final

import msgspec

from consumer.errors import Misconfigured, Problem

KIND: Final = "fraudstream:kind"
MODEL: Final = "fraudstream:model"
ENDPOINT: Final = "fraudstream:endpoint"
PREVIOUS: Final = "fraudstream:previous"
INPUT: Final = "fraudstream:input"
"""Tags of what is made here, beside those that workers read."""

_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_EXPECTED: Final = "letters, digits and single hyphens between them, 63 at most"
_SHOWN: Final = 40
_DIGITS: Final = 8


def check_name(key: str, name: str) -> str:
    """Return *name*. Raises Misconfigured where SageMaker takes none such."""
    if not _NAME.fullmatch(name):
        raise Misconfigured([Problem("arguments", key, repr(name), _EXPECTED)])
    return name


def digest(value: object) -> str:
    """The beginning of the SHA-256 of *value* as JSON: equal values have equal ones."""
    encoded = msgspec.json.encode(value, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:_DIGITS]


def version_name(endpoint: str, model: str, content: object) -> str:
    """
    The name of a model or configuration of *endpoint* with that *content*.

    ``<endpoint>-<digits of the archive's SHA-256>-<digest>``: told again it is the same
    name, and another content never has it.
    """
    shown = endpoint[:_SHOWN].rstrip("-")
    return f"{shown}-{model}-{digest(content)}"
