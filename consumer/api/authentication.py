"""
Authentication in front of an ASGI application.

The head of a request is looked at before its body is read, the body is read up to its limit
before it is hashed, and the application sees only requests of somebody known: as
``scope["state"]["principal"]``, with the body as it was sent. What it is told of who asks comes
from nowhere else.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consumer.api import access, problems
from consumer.api.access import Authenticator, Forbidden, Principal
from consumer.api.canonical_request import Request
from consumer.api.problems import Kind, Problem, Refused
from consumer.api.sigv4 import ALGORITHM, Forged

_NO_STORE: Final = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a body may be, and how long it may take to arrive."""

    max_body_bytes: int
    timeout_s: float


class ScopeWatcher(Protocol):
    """Hears of requests for which a scope is missing."""

    def forbidden(self, principal: Principal, scope: access.Scope) -> None:
        """*principal* asked for what needs *scope*, and has it not."""
        ...


class Authentication:
    """
    Lets requests through to *app* once *authenticator* knows who sent them.

    Paths for which *is_open* is true need nobody. A Forbidden that *app* raises is answered here.
    """

    def __init__(
        self,
        app: ASGIApp,
        authenticator: Authenticator,
        limits: Limits,
        *,
        is_open: Callable[[str], bool],
        watcher: ScopeWatcher,
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._limits = limits
        self._is_open = is_open
        self._watcher = watcher

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection of ASGI 3; of those with requests only HTTP."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http" or self._is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        try:
            pending = self._authenticator.begin(read_head(scope))
            body = await read_body(scope, receive, self._limits)
            principal = pending.finish(body)
        except Forged as error:
            await answer(unauthenticated(error), scope, send)
            return
        except Refused as error:
            await answer(error.problem, scope, send)
            return
        except Disconnected:
            return
        await self._pass_on(principal, body, scope, receive, send)

    async def _pass_on(
        self, principal: Principal, body: bytes, scope: Scope, receive: Receive, send: Send
    ) -> None:
        state = {**scope.get("state", {}), "principal": principal}
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app({**scope, "state": state}, replay(body, receive), watched)
        except Forbidden as error:
            self._watcher.forbidden(principal, error.scope)
            if begun:
                raise
            problem = Problem(Kind.FORBIDDEN, str(error), headers=_NO_STORE)
            await answer(problem, scope, send)


class Disconnected(Exception):
    """The client has gone before its body was there."""


def read_head(scope: Scope) -> Request:
    """The request in *scope*, byte for byte as it came over the wire, without its body."""
    raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
    return Request(
        scope["method"],
        # Some servers leave the query there.
        _text(raw_path.partition(b"?")[0]),
        _text(scope["query_string"]),
        [(_text(name.lower()), _text(value)) for name, value in scope["headers"]],
    )


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


async def read_body(scope: Scope, receive: Receive, limits: Limits) -> bytes:
    """
    Read the whole body.

    Raises Disconnected, and Refused for one that is too large, by its own word or as it comes,
    or too slow.
    """
    told = [value for name, value in scope["headers"] if name.lower() == b"content-length"]
    if any(value.isdigit() and int(value) > limits.max_body_bytes for value in told):
        raise _too_large(limits)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > limits.max_body_bytes:
                    raise _too_large(limits)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        detail = f"the body did not arrive in {limits.timeout_s:g} s"
        # Else the rest of the body would keep the connection for as long as it likes.
        headers = {**_NO_STORE, "Connection": "close"}
        raise Refused(Problem(Kind.SLOW_REQUEST, detail, headers=headers)) from None


def _too_large(limits: Limits) -> Refused:
    detail = f"expected a body of at most {limits.max_body_bytes} bytes"
    return Refused(Problem(Kind.TOO_LARGE, detail, headers={**_NO_STORE, "Connection": "close"}))


def replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives *body* at once, and then what the client does."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return next_message


def unauthenticated(error: Forged) -> Problem:
    """The answer to a request that does not prove who sent it."""
    challenge = {"WWW-Authenticate": f'{ALGORITHM} realm="fraudstream"'}
    return Problem(Kind.UNAUTHENTICATED, error.detail, headers={**_NO_STORE, **challenge})


async def answer(problem: Problem, scope: Scope, send: Send) -> None:
    """Answer with *problem*."""
    body = problem.body(scope["path"])
    headers = {
        "Content-Type": problems.MEDIA_TYPE,
        "Content-Length": str(len(body)),
        **problem.headers,
    }
    start: dict[str, Any] = {
        "type": "http.response.start",
        "status": problem.kind.status.value,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
    }
    await send(start)
    await send({"type": "http.response.body", "body": body})
