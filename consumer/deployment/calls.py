"""
What is asked of AWS and told to it, as values.

Planning only asks. What it would change comes back as a list of calls, which a dry run
prints exactly as they would be sent and which anybody can hold against the service's
own description; carrying them out is a loop.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import msgspec

from consumer.errors import Unavailable

Service = Literal["sagemaker", "s3", "logs", "application-autoscaling"]
Shape = TypeVar("Shape")

_ABSENT = ("Could not find", "not found", "does not exist", "No scalable target")
_ABSENT_CODES = frozenset(
    {"ResourceNotFound", "ResourceNotFoundException", "ObjectNotFoundException", "404"}
)
_MADE_OF_CONTENT = frozenset({"create_model", "create_endpoint_config", "create_endpoint"})
_EXISTS = "already existing"
_EXISTS_CODES = frozenset({"ResourceInUse", "ResourceInUseException"})


@dataclass(frozen=True, slots=True)
class Call:
    """One call, named as boto3 names it; a Path stands for the content of that file."""

    service: Service
    operation: str
    parameters: Mapping[str, object] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The call as one line of JSON."""
        return msgspec.json.encode(self, enc_hook=_encode_path)


def _encode_path(value: object) -> str:
    if isinstance(value, Path):
        return f"the file {value.name}, {value.stat().st_size} bytes"
    raise TypeError(type(value))


class Refused(Unavailable):
    """AWS answered, and the answer is no: ``code`` is its word for why."""

    def __init__(self, operation: str, code: str, message: str) -> None:
        super().__init__("aws", f"{operation}: {code}: {message}")
        self.code = code

    @property
    def absent(self) -> bool:
        """
        Whether there is no such thing.

        SageMaker says so with a ValidationException, as it says everything else that it
        does not like, so its sentence has to be read.
        """
        return self.code in _ABSENT_CODES or (
            self.code.startswith("Validation") and any(word in self.message for word in _ABSENT)
        )

    @property
    def exists(self) -> bool:
        """Whether something of that name is there already."""
        return self.code in _EXISTS_CODES or _EXISTS in self.message


class Control(Protocol):
    """AWS beside the data path. Repeats what may heal; raises Refused, or Unavailable at last."""

    def ask(self, call: Call, shape: type[Shape]) -> Shape:
        """Return the answer to *call* as a *shape*."""
        ...

    def ask_all(self, call: Call, shape: type[Shape]) -> Iterator[Shape]:
        """Yield the answer page by page."""
        ...

    def tell(self, call: Call) -> None:
        """Carry *call* out."""
        ...


def carry_out(control: Control, calls: Sequence[Call]) -> None:
    """
    Carry *calls* out in order.

    What exists is passed over: names carry a digest of what they name, so the same call, told
    twice or by another command, made the very same thing a moment ago. Whoever waits for an
    endpoint looks at what it runs. Raises Refused and Unavailable.
    """
    for call in calls:
        try:
            control.tell(call)
        except Refused as error:
            if not (error.exists and call.operation in _MADE_OF_CONTENT):
                raise
