"""
What can go wrong, named after what the caller does about it.

    FraudstreamError
    ├── Rejected        this record can never succeed: dead-letter it and go on
    ├── Unavailable     a dependency may heal: retry to a deadline, then leave
    │   │               without a checkpoint, so that the record comes again
    │   └── Replaced    what was written may be lost: leave at once, likewise
    ├── Held            an operator has to look: stop in a visible state, without
    │                   a checkpoint and without restarting
    └── Misconfigured   refuse to start, with every problem listed at once

Adapters translate the errors of their SDK into these with ``raise … from``.
"""

from collections.abc import Sequence
from dataclasses import dataclass


class FraudstreamError(Exception):
    """The root of everything this package raises on purpose."""


class Rejected(FraudstreamError):
    """
    A record that no retry will make acceptable.

    ``code`` is a stable snake_case word for metrics and filters (``not_json``,
    ``missing_field``, …); the message names the field and what was expected
    and never repeats a value that could be a card number.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Unavailable(FraudstreamError):
    """
    A dependency that did not answer in time or refused for now.

    ``dependency`` is the name used in metrics: ``redis``, ``firehose``, ``s3``,
    ``kinesis``, ``dynamodb``, ``endpoint``. The message of an endpoint is a stable snake_case
    word (``timeout``, ``status_500``, …), which becomes the degraded cause.
    """

    def __init__(self, dependency: str, message: str) -> None:
        super().__init__(f"{dependency}: {message}")
        self.dependency = dependency
        self.message = message


class Replaced(Unavailable):
    """A server took the place of another that may not have passed on what it acknowledged."""


class Held(FraudstreamError):
    """More trouble than may be passed over; going on would drain the stream into dead letters."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to correct: where it stands, what was found, what was expected."""

    source: str
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.source}: {self.key}: found {self.found}, expected {self.expected}"


class Misconfigured(FraudstreamError):
    """Settings, features or a server that the daemon refuses to start with."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)
