"""
An operation of the service: what it takes, who may ask for it, what it answers.

One value says all of it, so that the document for clients (``openapi.py``) and what is checked
here cannot differ.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from consumer.api.access import Principal, Scope
from consumer.api.problems import FieldError, Kind, Problem, Refused
from consumer.compression import inflate
from consumer.errors import Rejected
from consumer.masking import mask_text

JSON: Final = "application/json"
_SHOWN_NAME: Final = 64

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the path or of the query, or a header; ``schema`` as JSON Schema has it."""

    name: str
    schema: Schema
    description: str
    place: str = "query"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as an operation sees it, its body decompressed."""

    path: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes
    connection: Connection


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    body: bytes
    status: int = 200
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


Handle = Callable[[Asked], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Content:
    """What a body is: its schema, or the type whose schema it is, and its media type."""

    schema: Any
    media_type: str = JSON
    description: str = ""


@dataclass(frozen=True, slots=True)
class Description:
    """
    One method of one path, as the document tells of it.

    ``scope`` is what a principal needs, None for what needs nobody or, with ``session``, somebody
    who is signed in to the page. ``problems`` are the kinds that it answers beside those of every
    operation; ``status`` is that of success, and ``statuses`` are further answers that are no
    problems.
    """

    name: str
    method: str
    path: str
    scope: Scope | None
    summary: str
    answer: Content | None
    description: str = ""
    parameters: Sequence[Parameter] = ()
    request: Content | None = None
    body_limit: int = 0
    problems: Sequence[Kind] = ()
    status: int = 200
    statuses: Mapping[int, str] = field(default_factory=dict)
    session: bool = False
    tag: str = ""

    @property
    def query_names(self) -> frozenset[str]:
        """The parameters that its query may have."""
        return frozenset(each.name for each in self.parameters if each.place == "query")


@dataclass(frozen=True, slots=True)
class Operation(Description):
    """A description and what answers it."""

    handle: Handle = field(kw_only=True)


class OperationApp:
    """*operation* as an ASGI application, behind a router and an authentication."""

    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._names = operation.query_names

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Handle one request of ASGI 3. Raises Refused, Forbidden and what the handler does."""
        operation = self._operation
        if operation.scope is not None:
            principal: Principal = scope["state"]["principal"]
            principal.require(operation.scope)
        asked = Asked(
            scope.get("path_params", {}),
            read_query(scope["query_string"], self._names),
            await self._read_body(scope, receive),
            scope,
        )
        await respond(await operation.handle(asked), send)

    async def _read_body(self, scope: Connection, receive: Receive) -> bytes:
        if self._operation.request is None:
            return b""
        headers = dict(scope["headers"])
        _check_type(headers.get(b"content-type", b""))
        limit = self._operation.body_limit
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        if len(body) > limit:
            raise Refused(Problem(Kind.TOO_LARGE, f"expected a body of at most {limit} bytes"))
        return _decoded(body, headers.get(b"content-encoding", b"identity"), limit)


async def respond(reply: Reply, send: Send) -> None:
    """Send *reply*."""
    headers = {"content-type": reply.media_type, "cache-control": "no-store", **reply.headers}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", b"%d" % len(reply.body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": raw})
    await send({"type": "http.response.body", "body": reply.body})


def read_query(query: bytes, names: frozenset[str]) -> dict[str, str]:
    """Read the parameters that *names* allows, each once. Raises Refused, naming all others."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=100
        )
    except ValueError:
        errors = [FieldError("query", "something unreadable", "name=value&… in UTF-8")]
        raise Refused(Problem(Kind.INVALID, errors=errors)) from None
    found: dict[str, str] = {}
    errors = []
    for name, value in pairs:
        if name not in names:
            known = ", ".join(sorted(names)) or "no parameter"
            shown = mask_text(name)[:_SHOWN_NAME]
            errors.append(FieldError(shown, "a parameter that is not known", known))
        elif name in found:
            errors.append(FieldError(name, "several", "one"))
        found[name] = value
    if errors:
        raise Refused(Problem(Kind.INVALID, errors=errors))
    return found


def _check_type(told: bytes) -> None:
    media_type, _, parameters = told.partition(b";")
    name, _, charset = parameters.strip().lower().partition(b"=")
    fits = not name or (name, charset.strip(b'"')) == (b"charset", b"utf-8")
    if media_type.strip().lower() != JSON.encode() or not fits:
        raise Refused(Problem(Kind.WRONG_MEDIA_TYPE, f"Content-Type: expected {JSON} in UTF-8"))


def _decoded(body: bytes, encoding: bytes, limit: int) -> bytes:
    match encoding.strip().lower():
        case b"identity" | b"":
            return body
        case b"gzip":
            try:
                return inflate(body, limit)
            except Rejected as error:
                kind = Kind.TOO_LARGE if error.code == "too_large" else Kind.NOT_JSON
                raise Refused(Problem(kind, error.message)) from None
    raise Refused(Problem(Kind.WRONG_MEDIA_TYPE, "Content-Encoding: expected gzip or none"))


def as_app(operation: Operation) -> ASGIApp:
    """*operation* for a router."""
    return OperationApp(operation)
