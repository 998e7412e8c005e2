"""
The service as one ASGI application: routes, who is let in, and what every answer goes through.

From the outside in: count and time the answer and turn what is raised into a problem document;
see who asks; find the operation.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from consumer.api import authentication
from consumer.api.access import Forbidden
from consumer.api.operations import Operation, as_app
from consumer.api.problems import Kind, Problem, Refused, retry_after
from consumer.errors import Unavailable
from consumer.logs import get_logger
from consumer.metrics import ApiMetrics

_UNROUTED: Final = "(none)"
_RETRY_AFTER_S: Final = 1.0


def build_router(operations: Sequence[Operation], further: Sequence[BaseRoute]) -> ASGIApp:
    """The routes of *operations*, then *further* ones."""
    routes = [Route(each.path, _named(each), methods=[each.method]) for each in operations]
    return Router([*routes, *further], redirect_slashes=False)


def open_paths(operations: Sequence[Operation]) -> frozenset[str]:
    """The paths that need nobody to be known."""
    return frozenset(each.path for each in operations if each.scope is None)


def _named(operation: Operation) -> ASGIApp:
    """*operation* as an application that tells the outermost layer its route."""
    app = as_app(operation)

    async def named(scope: Connection, receive: Receive, send: Send) -> None:
        scope["state"]["seen"].route = operation.path
        await app(scope, receive, send)

    return _Application(named)


class _Application:
    """What a route takes for an ASGI application rather than for a function of a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


@dataclass(slots=True)
class _Seen:
    """What became of one request."""

    route: str = _UNROUTED
    status: int = 0


class Front:
    """The outermost layer around *app*: a problem document for whatever is raised, and metrics."""

    def __init__(self, app: ASGIApp, metrics: ApiMetrics, in_flight: Callable[[], int]) -> None:
        self._app = app
        self._metrics = metrics
        metrics.in_flight.set_function(in_flight)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Handle one connection of ASGI 3."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = _Seen()
        started_s = time.perf_counter()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            await send(message)

        # A router raises what it does not find only within an application.
        inner = {**scope, "app": self, "state": {**scope.get("state", {}), "seen": seen}}
        try:
            await self._app(inner, receive, watched)
        except Exception as error:
            if seen.status:
                # Too late for an answer: the client must see that this one is not whole.
                raise
            await authentication.answer(problem_of(error), scope, watched)
        self._count(scope["method"], seen, time.perf_counter() - started_s)

    def count_refused(self, status: int) -> None:
        """Count an answer to what is no request of an application."""
        self._metrics.answers.labels(_UNROUTED, "other", str(status)).inc()

    def _count(self, method: str, seen: _Seen, seconds: float) -> None:
        known = method if method in _METHODS else "other"
        self._metrics.answers.labels(seen.route, known, str(seen.status)).inc()
        if seen.route != _UNROUTED:
            self._metrics.seconds.labels(seen.route).observe(seconds)


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})


def problem_of(error: Exception) -> Problem:
    """The problem that *error* is answered with; logs what nobody expected."""
    match error:
        case Refused():
            return error.problem
        case Unavailable():
            detail = f"{error.dependency} does not answer: {error.message}"
            return retry_after(Kind.UNAVAILABLE, detail, _RETRY_AFTER_S)
        case Forbidden():
            return Problem(Kind.FORBIDDEN, str(error))
        case HTTPException(status_code=405):
            return Problem(Kind.WRONG_METHOD, headers=dict(error.headers or {}))
        case HTTPException(status_code=404):
            return Problem(Kind.NOT_FOUND)
    get_logger(__name__).error("a request failed", exc_info=error)
    return Problem(Kind.FAILED)
