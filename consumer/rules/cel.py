"""
The Common Expression Language, behind an interface of our own.

The only module that knows the library, ``cel_expr_python``: Google's C++ implementation,
which evaluates an expression of three comparisons 90 times faster than the one in Python.
Numbers are doubles and are compared with doubles only: its type check refuses
``tx.amount > 1000``, and ``1000.0`` is what to write.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NewType

from cel_expr_python import cel

Binding = NewType("Binding", object)
"""The values of one transaction, ready for every expression of the same language."""

_PLACE = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")
_STATUS = re.compile(r" \[[A-Z_]+\]$")
_CODE = re.compile(r"^[A-Z_]+: ")
_ABSENT = re.compile(r'No value with name "(\w+)" found')
_OVERLOAD = re.compile(r"'\((?:double, int|int, double)\)'")


class Type(StrEnum):
    """What a name may hold."""

    TEXT = "text"
    NUMBER = "number"
    TIME = "timestamp"
    TRUTH = "truth"
    ANY = "any"


_TYPES = {
    Type.TEXT: cel.Type.STRING,
    Type.NUMBER: cel.Type.DOUBLE,
    Type.TIME: cel.Type.TIMESTAMP,
    Type.TRUTH: cel.Type.BOOL,
    Type.ANY: cel.Type.DYN,
}


class NotCompiled(Exception):
    """An expression that cannot be used; ``line`` and ``column`` count from 1."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.message = message


@dataclass(frozen=True, slots=True)
class Failure:
    """An evaluation that gave no value: a name without one, a division by zero."""

    message: str

    @property
    def reason(self) -> str:
        """The message without the library's code of it, about names as rules write them."""
        said = _CODE.sub("", self.message)
        absent = _ABSENT.search(said)
        if absent is None:
            return said
        name = absent[1].replace("_", ".", 1)
        return f"{name} is absent there: ask with has({name}) first"


class Expression:
    """A compiled expression."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled

    @property
    def is_truth(self) -> bool:
        """Whether it is true or false, rather than a number or a text."""
        return bool(self._compiled.return_type() == cel.Type.BOOL)

    def evaluate(self, binding: Binding) -> int | Failure:
        """Evaluate to a whole number, or to 0 or 1 where it is false or true; never raises."""
        try:
            value = self._compiled.eval(binding).value()
        except RuntimeError as error:
            return Failure(str(error))
        return value if isinstance(value, int) else Failure(str(value))


class Language:
    """CEL over *variables*, name → type."""

    def __init__(self, variables: Mapping[str, Type]) -> None:
        self._environment: Any = cel.NewEnv(
            variables={name: _TYPES[type_] for name, type_ in variables.items()}
        )

    def compile(self, source: str) -> Expression:
        """Compile and type-check *source*. Raises NotCompiled for its first mistake."""
        try:
            return Expression(self._environment.compile(source))
        except (RuntimeError, ValueError) as error:
            raise _not_compiled(str(error)) from error

    def bind(self, values: Mapping[str, object]) -> Binding:
        """Take *values*, name → value, in; a name that is left out fails what reads it."""
        return Binding(self._environment.Activation(values))


def _not_compiled(message: str) -> NotCompiled:
    found = _PLACE.search(message)
    if found is None:
        return NotCompiled(1, 1, message.splitlines()[0])
    # "found" comes before every message of ours.
    said = _STATUS.sub("", found[3]).removeprefix("found ")
    if _OVERLOAD.search(said):
        said += " (write numbers with a decimal point: 1000.0)"
    return NotCompiled(max(int(found[1]), 1), max(int(found[2]), 1), said)
