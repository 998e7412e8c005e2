"""
Errors as they are answered: problem documents after RFC 9457.

Every answer that is not a success is one, whoever finds the error. ``type`` is a stable name
under which docs/rest.md says what to do about it; ``errors`` names the fields that are concerned.
None repeats a value that may be a card number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import orjson

from consumer.errors import Rejected
from consumer.masking import mask_text

MEDIA_TYPE: Final = "application/problem+json"
_TYPE_PREFIX = "urn:fraudstream:problem:"
# What stands in a path unescaped (RFC 3986, pchar and the slash).
_OF_PATHS: Final = "/:@!$&'()*+,;=~"


class Kind(Enum):
    """A kind of problem: its name, its status and what it is called."""

    # Of every request.
    NOT_FOUND = ("not-found", HTTPStatus.NOT_FOUND, "There is nothing under this path")
    WRONG_METHOD = ("wrong-method", HTTPStatus.METHOD_NOT_ALLOWED, "Not with this method")
    WRONG_MEDIA_TYPE = (
        "wrong-media-type",
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "The body is not of a type that is read here",
    )
    TOO_LARGE = (
        "too-large",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "The request is larger than it may be",
    )
    SLOW_REQUEST = (
        "slow-request",
        HTTPStatus.REQUEST_TIMEOUT,
        "The request did not arrive in time",
    )
    NOT_HTTP = ("not-http", HTTPStatus.BAD_REQUEST, "The request is none of HTTP/1.1")
    LARGE_HEAD = (
        "large-head",
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The path and the headers are larger than they may be",
    )
    NOT_JSON = ("not-json", HTTPStatus.BAD_REQUEST, "The body is not one JSON document")
    INVALID = ("invalid", HTTPStatus.UNPROCESSABLE_ENTITY, "A field is not as it has to be")
    # Of who asks.
    UNAUTHENTICATED = (
        "unauthenticated",
        HTTPStatus.UNAUTHORIZED,
        "Who asks is not known",
    )
    FORBIDDEN = ("forbidden", HTTPStatus.FORBIDDEN, "Who asks may not do this")
    # Of what is asked for.
    UNKNOWN_TRANSACTION = (
        "unknown-transaction",
        HTTPStatus.NOT_FOUND,
        "There is no decision of this id, or not any more",
    )
    CONFLICT = (
        "conflict",
        HTTPStatus.CONFLICT,
        "This id was decided with other content",
    )
    # Of the service.
    OVERLOADED = ("overloaded", HTTPStatus.TOO_MANY_REQUESTS, "Too much is asked at once")
    UNAVAILABLE = (
        "unavailable",
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Nothing can be decided or read now",
    )
    TIMED_OUT = ("timed-out", HTTPStatus.GATEWAY_TIMEOUT, "It took too long")
    FAILED = ("failed", HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed; see its log")

    def __init__(self, name: str, status: HTTPStatus, title: str) -> None:
        self.type = _TYPE_PREFIX + name
        self.status = status
        self.title = title


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field: where it is, what was found there (never a value of it), what was expected."""

    field: str
    found: str
    expected: str


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer that is not a success. ``headers`` go with it, such as Retry-After."""

    kind: Kind
    detail: str = ""
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)

    def fields(self, instance: str | None = None) -> dict[str, object]:
        """
        The members of the document; *instance* is the path that was asked for, decoded.

        Paths, names and headers are what the client says: what may be a card number is masked.
        """
        members: dict[str, object] = {
            "type": self.kind.type,
            "title": self.kind.title,
            "status": self.kind.status.value,
        }
        if self.detail:
            members["detail"] = _shown(self.detail)
        if instance is not None:
            members["instance"] = quote(mask_text(instance), _OF_PATHS, errors="replace")
        if self.errors:
            members["errors"] = [
                {
                    "field": _shown(each.field),
                    "found": _shown(each.found),
                    "expected": _shown(each.expected),
                }
                for each in self.errors
            ]
        return members

    def body(self, instance: str | None = None) -> bytes:
        """The document as JSON."""
        return orjson.dumps(self.fields(instance))


def _shown(text: str) -> str:
    """*text* without what may be a card number, nor bytes of a header that are no UTF-8."""
    return mask_text(text).encode("utf-8", "replace").decode()


class Refused(Exception):
    """Ends the handling of a request with a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.kind.title)
        self.problem = problem


def invalid(field_name: str, found: str, expected: str) -> Refused:
    """One field that is not as it has to be, ready to be raised."""
    return Refused(Problem(Kind.INVALID, errors=[FieldError(field_name, found, expected)]))


def retry_after(kind: Kind, detail: str, seconds: float) -> Problem:
    """A problem that may have passed in *seconds*, told in whole ones, at least one."""
    whole = max(1, -int(-seconds // 1))
    return Problem(kind, detail, headers={"Retry-After": str(whole)})


# What the decoder finds before it can name a field.
_WHOLE: Final = {"not_json": Kind.NOT_JSON, "not_utf8": Kind.NOT_JSON, "too_large": Kind.TOO_LARGE}


def rejected(error: Rejected, place: str = "") -> Problem:
    """
    The problem of an event that the decoder rejects.

    Its messages are ``field: what was expected``; *place* stands before the field, such as
    ``transactions[3].``.
    """
    name, colon, expected = error.message.partition(": ")
    kind = _WHOLE.get(error.code, Kind.INVALID)
    if not colon:
        return Problem(kind, error.message)
    expected = "a value" if error.code == "missing_field" else expected.removeprefix("expected ")
    expected = expected.replace("expected, ", "a value, ", 1)
    return Problem(kind, error.message, [FieldError(place + name, error.code, expected)])
