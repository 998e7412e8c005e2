"""``/v1/session``: signing in to the page by a token, asking who is, signing out; new tokens."""

from dataclasses import replace
from typing import Annotated, Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from consumer.api import access
from consumer.api.access import AccessWatcher, Principal
from consumer.api.access_list import NAME_PATTERN
from consumer.api.authentication import (
    Disconnected,
    Limits,
    answer,
    read_body,
    read_head,
    unauthenticated,
)
from consumer.api.canonical_request import Request, gather_headers
from consumer.api.operations import Content, Description, Parameter
from consumer.api.problems import Kind, Problem, Refused, invalid
from consumer.api.sessions import CSRF_HEADER, SESSION_SCOPES, Sessions
from consumer.api.sigv4 import Forged
from consumer.masking import holds_card_number

PATH: Final = "/v1/session"
TOKENS_PATH: Final = "/v1/session/tokens"

_MAX_BODY_BYTES: Final = 1_024
_TIMEOUT_S: Final = 5.0
_METHODS: Final = "DELETE, GET, POST"


class SignIn(msgspec.Struct, forbid_unknown_fields=True):
    """What signs in: a token that was printed at the start, or that an administrator asked for."""

    token: str


class Invitation(msgspec.Struct, forbid_unknown_fields=True):
    """Who is to sign in."""

    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]


class SessionAnswer(msgspec.Struct, frozen=True):
    """Who is signed in; ``csrf`` is the code that changes have to carry."""

    name: str
    scopes: tuple[str, ...]
    csrf: str


class TokenAnswer(msgspec.Struct, frozen=True):
    """A token with which ``name`` can sign in once; ``link`` leads to the page with it."""

    token: str
    link: str
    name: str


class SessionEndpoint:
    """
    An ASGI application of one path, which needs no authentication before it.

    ``POST {"token": …}`` signs in and sets the cookie, ``GET`` tells who is signed in with the
    code that changes need, ``DELETE`` signs out.
    """

    def __init__(self, sessions: Sessions, watcher: AccessWatcher) -> None:
        self._sessions = sessions
        self._watcher = watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request of ASGI 3."""
        try:
            body = await read_body(scope, receive, Limits(_MAX_BODY_BYTES, _TIMEOUT_S))
            request = replace(read_head(scope), body=body)
            await self._handle(request, send)
        except Forged as error:
            self._watcher.refused(error.flaw, None)
            await answer(unauthenticated(error), scope, send)
        except Refused as error:
            await answer(error.problem, scope, send)
        except Disconnected:
            return

    async def _handle(self, request: Request, send: Send) -> None:
        if request.method == "POST":
            opened = self._sessions.open(request, _read_token(request))
            await _respond(send, 200, self._describe(opened.name, opened.csrf), opened.cookie)
        elif request.method in ("GET", "HEAD"):
            session = self._sessions.find(request)
            found = self._describe(session.name, self._sessions.csrf(session))
            await _respond(send, 200, found)
        elif request.method == "DELETE":
            await _respond(send, 204, None, self._sessions.close(request))
        else:
            detail = f"expected one of {_METHODS}"
            raise Refused(Problem(Kind.WRONG_METHOD, detail, headers={"Allow": _METHODS}))

    def _describe(self, name: str, csrf: str) -> SessionAnswer:
        return SessionAnswer(name, tuple(sorted(SESSION_SCOPES)), csrf)


class TokenEndpoint:
    """
    An ASGI application of one path, behind authentication: an administrator asks for a token.

    ``POST {"name": …}`` answers with a token with which that person can sign in once.
    """

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request of ASGI 3. Raises Forbidden."""
        principal: Principal = scope["state"]["principal"]
        principal.require(access.Scope.ADMIN)
        try:
            body = await read_body(scope, receive, Limits(_MAX_BODY_BYTES, _TIMEOUT_S))
            name = _read_name(replace(read_head(scope), body=body))
            token = self._sessions.issue_token(name)
            await _respond(send, 201, TokenAnswer(token, f"/#token={token}", name))
        except Refused as error:
            await answer(error.problem, scope, send)
        except Disconnected:
            return


def _read_name(request: Request) -> str:
    if request.method != "POST":
        raise Refused(Problem(Kind.WRONG_METHOD, "expected POST", headers={"Allow": "POST"}))
    _check_media_type(request)
    try:
        name = msgspec.json.decode(request.body, type=Invitation).name
    except msgspec.DecodeError as error:
        expected = f'a body such as {{"name": "anna"}}, the name like {NAME_PATTERN}'
        raise invalid("name", "something else", expected) from error
    if holds_card_number(name):
        # It stands in logs and beside what that person labels.
        raise invalid("name", "a card number", "whom the token is for")
    return name


def _check_media_type(request: Request) -> None:
    media_type = next(iter(gather_headers(request).get("content-type", ())), "")
    if media_type.partition(";")[0].strip().lower() != "application/json":
        # A form of another site can send other types without asking.
        raise Refused(Problem(Kind.WRONG_MEDIA_TYPE, "expected application/json"))


def _read_token(request: Request) -> str:
    _check_media_type(request)
    try:
        return msgspec.json.decode(request.body, type=SignIn).token
    except msgspec.DecodeError as error:
        raise invalid("token", "something else", 'a body such as {"token": "…"}') from error


async def _respond(
    send: Send, status: int, found: msgspec.Struct | None, cookie: str | None = None
) -> None:
    body = b"" if found is None else msgspec.json.encode(found)
    headers = [(b"cache-control", b"no-store"), (b"content-length", str(len(body)).encode())]
    if found is not None:
        headers.append((b"content-type", b"application/json"))
    if cookie is not None:
        headers.append((b"set-cookie", cookie.encode()))
    if status == 204:  # noqa: PLR2004 - an answer without a body has no length
        headers = [each for each in headers if each[0] != b"content-length"]
    start: dict[str, Any] = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})


_TAG = "session"
_NAME_SCHEMA: Final = {
    "type": "object",
    # As NAME_PATTERN, whose end is one of Python's.
    "properties": {"name": {"type": "string", "pattern": "^[A-Za-z0-9_.@/-]{1,64}$"}},
    "required": ["name"],
    "additionalProperties": False,
}
_ORIGIN: Final = Parameter(
    "Origin",
    {"type": "string"},
    "The service itself, as browsers say it: `https://` and the Host",
    "header",
)
_CSRF: Final = Parameter(
    CSRF_HEADER,
    {"type": "string"},
    "`csrf` of the session: for whatever changes something",
    "header",
)

DESCRIPTIONS: Final = (
    Description(
        "sign_in",
        "POST",
        PATH,
        None,
        "Sign in to the page by a token, which is good once",
        Content(SessionAnswer, description="The session has begun, its cookie is set"),
        parameters=[_ORIGIN],
        request=Content(SignIn),
        problems=[Kind.UNAUTHENTICATED],
        tag=_TAG,
    ),
    Description(
        "read_session",
        "GET",
        PATH,
        None,
        "Who is signed in",
        Content(SessionAnswer),
        problems=[Kind.UNAUTHENTICATED],
        session=True,
        tag=_TAG,
    ),
    Description(
        "sign_out",
        "DELETE",
        PATH,
        None,
        "End the session",
        None,
        parameters=[_ORIGIN, _CSRF],
        problems=[Kind.UNAUTHENTICATED],
        status=204,
        session=True,
        tag=_TAG,
    ),
    Description(
        "invite",
        "POST",
        TOKENS_PATH,
        access.Scope.ADMIN,
        "A token with which somebody can sign in to the page",
        Content(TokenAnswer, description="The token, good once and for a while"),
        request=Content(_NAME_SCHEMA),
        status=201,
        tag=_TAG,
    ),
)
"""What these endpoints answer, for the document of the service."""
