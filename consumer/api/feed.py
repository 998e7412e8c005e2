"""
The live page and what it reads: ``/``, ``/ui/…``, ``/v1/alerts``, ``/v1/live``, ``/v1/evidence/…``.

The files of the page hold no data and are for everybody; each answer with data needs the scope
``read``. Errors are raised as ``Refused``, ``Forbidden`` and ``Unavailable``, which the service
answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec
import orjson
from anyio import CapacityLimiter, to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from consumer.alert_log import START, AlertLog, parse_cursor
from consumer.api.access import Principal, Scope
from consumer.api.event_stream import MEDIA_TYPE, EventStream
from consumer.api.evidence_view import Documents, EvidenceView, read_view
from consumer.api.limits import overloaded
from consumer.api.live import Live, Sources
from consumer.api.operations import Asked, Content, Operation, OperationApp, Parameter, Reply
from consumer.api.operations import read_query as read_names
from consumer.api.page_files import PageFiles
from consumer.api.problems import Kind, Problem, Refused, invalid
from consumer.api.transactions import LONGEST_ID, check_text
from consumer.clock import Clock
from consumer.errors import Rejected
from consumer.masking import is_card_number
from consumer.model import Outcome, TransactionId

DEFAULT_ALERTS, MOST_ALERTS = 100, 1_000
MOST_VIEWERS = 100
"""Streams at once; each costs a connection."""

_TRUTH: Final = {"true": True, "false": False}
_ALERT_PARAMETERS: Final = (
    Parameter(
        "cursor",
        {"type": "string", "pattern": "^[0-9]{1,20}-[0-9]{1,20}$"},
        "`cursor` of an earlier answer: only what came after it; without one from the oldest on",
    ),
    Parameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": MOST_ALERTS, "default": DEFAULT_ALERTS},
        "Alerts a page",
    ),
    Parameter(
        "tail",
        {"type": "boolean", "default": False},
        "The newest alerts instead of the oldest; not beside a cursor",
    ),
)


class Alert(msgspec.Struct, frozen=True):
    """
    One review or decline. ``decided`` is there where a second assessment, with all scores, is
    worse than the decision that stands: it names that one, ``outcome`` the worse.
    """

    transaction_id: str
    prediction_id: str
    card_id: str
    merchant_id: str
    amount: float
    currency: str
    outcome: Outcome
    reasons: tuple[str, ...]
    decided_ms: int
    fraud_score: float | None = None
    anomaly_score: float | None = None
    decided: Outcome | None = None


class AlertEntry(msgspec.Struct, frozen=True):
    """An alert, and the cursor after it."""

    cursor: str
    alert: Alert


class AlertsAnswer(msgspec.Struct, frozen=True):
    """
    Alerts in the order in which they came; ``cursor`` goes on after the last of them.

    ``lost`` says that alerts after the cursor that was given may have left the stream already,
    which keeps the newest ``redis.alerts_max_length``.
    """

    alerts: tuple[AlertEntry, ...]
    cursor: str
    lost: bool


@dataclass(frozen=True, slots=True)
class Feed:
    """
    The routes, the operations among them for the document of the service, and what serves them.

    ``live.close`` has to be called when the service begins to drain, since streams do not end
    by themselves.
    """

    routes: tuple[BaseRoute, ...]
    operations: tuple[Operation, ...]
    live: Live


def is_open(path: str) -> bool:
    """Whether *path* is one of the page's files, which need nobody to be signed in."""
    return path == "/" or path.startswith("/ui/")


def build_feed(
    sources: Sources, documents: Documents, clock: Clock, *, card_like_ids: bool = False
) -> Feed:
    """
    Return the routes over *sources* and *documents*.

    *card_like_ids* says that an id of a transaction may look like a card number; if not, one
    that does is refused before it reaches Redis and its logs.
    """
    live = Live(sources, clock, MOST_VIEWERS)
    page = PageFiles()
    alerts = _describe_alerts(AlertReader(sources.alerts))
    evidence = _describe_evidence(EvidenceReader(documents, card_like_ids=card_like_ids))

    async def file(request: Request) -> Response:
        return page.answer(request)

    routes = (
        Route("/", file, methods=["GET"]),
        Route("/ui/{name:path}", file, methods=["GET"]),
        Route(alerts.path, PageOrStream(NamedOperation(alerts), live), methods=["GET"]),
        Route("/v1/live", LiveStream(live), methods=["GET"]),
        Route(evidence.path, NamedOperation(evidence), methods=["GET"]),
    )
    return Feed(routes, (alerts, evidence), live)


class AlertReader:
    """Reads pages of *alerts*."""

    def __init__(self, alerts: AlertLog) -> None:
        self._alerts = alerts
        self._limit = CapacityLimiter(2)

    async def read(self, asked: Asked) -> Reply:
        """A page of alerts."""
        cursor, limit = _cursor(asked.query.get("cursor"), "cursor"), _limit(asked.query)
        if _flag(asked.query, "tail"):
            if cursor is not None:
                raise invalid("tail", "true", "no cursor beside it")
            page = await to_thread.run_sync(self._alerts.newest, limit, limiter=self._limit)
        else:
            start = cursor or START
            page = await to_thread.run_sync(self._alerts.after, start, limit, limiter=self._limit)
        found = [
            {"cursor": each.cursor, "alert": orjson.Fragment(each.alert)} for each in page.entries
        ]
        lost = page.lost and cursor is not None
        return Reply(orjson.dumps({"alerts": found, "cursor": page.cursor, "lost": lost}))


class EvidenceReader:
    """Reads decisions with their neighbours from *documents*."""

    def __init__(self, documents: Documents, *, card_like_ids: bool) -> None:
        self._documents = documents
        self._card_like_ids = card_like_ids
        self._limit = CapacityLimiter(2)

    async def read(self, asked: Asked) -> Reply:
        """One decision and its neighbours."""
        identity = asked.path["transaction_id"]
        check_text("transaction_id", identity)
        if not self._card_like_ids and is_card_number(identity):
            raise invalid("transaction_id", "a card number", "the id of a transaction")
        try:
            view = await to_thread.run_sync(
                read_view, self._documents, TransactionId(identity), limiter=self._limit
            )
        except Rejected as error:
            raise Refused(Problem(Kind.FAILED, error.message)) from error
        if view is None:
            raise Refused(Problem(Kind.UNKNOWN_TRANSACTION))
        return Reply(msgspec.json.encode(view))


class NamedOperation:
    """*operation* as an application that tells the front its route, for metrics."""

    def __init__(self, operation: Operation) -> None:
        self._path, self._app = operation.path, OperationApp(operation)

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Handle one request of ASGI 3."""
        scope["state"]["seen"].route = self._path
        await self._app(scope, receive, send)


class PageOrStream:
    """A page of alerts, or all to come where the client accepts events alone."""

    def __init__(self, page: NamedOperation, live: Live) -> None:
        self._page, self._live = page, live

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Handle one request of ASGI 3."""
        request = Request(scope, receive)
        if MEDIA_TYPE not in request.headers.get("accept", ""):
            await self._page(scope, receive, send)
            return
        told = read_names(scope["query_string"], frozenset({"cursor"}))
        cursor = _cursor(told.get("cursor"), "cursor")
        await open_stream(self._live, request, cursor, figures=False)(scope, receive, send)


class LiveStream:
    """What the page shows: a summary every second, and alerts."""

    def __init__(self, live: Live) -> None:
        self._live = live

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Handle one request of ASGI 3."""
        read_names(scope["query_string"], frozenset())
        request = Request(scope, receive)
        await open_stream(self._live, request, None, figures=True)(scope, receive, send)


def open_stream(live: Live, request: Request, cursor: str | None, *, figures: bool) -> EventStream:
    """A stream from *cursor* on, or from where a client that comes back says it was."""
    principal: Principal = request.state.principal
    principal.require(Scope.READ)
    came_back = _cursor(request.headers.get("last-event-id") or None, "Last-Event-ID")
    if live.full:
        raise Refused(overloaded(f"{MOST_VIEWERS} streams are open"))
    return EventStream(live.follow(came_back or cursor, figures=figures))


def _describe_alerts(reader: AlertReader) -> Operation:
    return Operation(
        name="list_alerts",
        method="GET",
        path="/v1/alerts",
        scope=Scope.READ,
        summary="Reviews and declines in the order in which they came",
        description="With `Accept: text/event-stream` the answer is a stream of Server-Sent "
        "Events: `alert` with an alert as its data and the cursor as its id, and `gap` where "
        "alerts left the stream unseen. `Last-Event-ID` or `cursor` goes on after that one; "
        "without either only what is to come is sent.",
        parameters=_ALERT_PARAMETERS,
        answer=Content(AlertsAnswer),
        handle=reader.read,
        problems=(Kind.OVERLOADED, Kind.UNAVAILABLE),
        tag="alerts",
    )


def _describe_evidence(reader: EvidenceReader) -> Operation:
    identity = {"type": "string", "minLength": 1, "maxLength": LONGEST_ID}
    return Operation(
        name="read_evidence",
        method="GET",
        path="/v1/evidence/{transaction_id}",
        scope=Scope.READ,
        summary="One decision beside what is usual for its card, and its neighbours",
        parameters=(Parameter("transaction_id", identity, "The id of the event", "path"),),
        answer=Content(EvidenceView),
        handle=reader.read,
        problems=(Kind.UNKNOWN_TRANSACTION, Kind.UNAVAILABLE),
        tag="transactions",
    )


def _cursor(text: str | None, name: str) -> str | None:
    if text is None:
        return None
    try:
        cursor = parse_cursor(text)
    except Rejected:
        cursor = ""
    # No clock gives one out that is a card number, and Redis's log of slow commands would show it.
    if not cursor or any(map(is_card_number, cursor.split("-"))):
        raise invalid(name, "something else", "a cursor that an earlier answer gave")
    return cursor


def _limit(told: Mapping[str, str]) -> int:
    text = told.get("limit", str(DEFAULT_ALERTS))
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_ALERTS))
    if not (digits and 1 <= int(text) <= MOST_ALERTS):
        raise invalid("limit", "something else", f"1 to {MOST_ALERTS}")
    return int(text)


def _flag(told: Mapping[str, str], name: str) -> bool:
    value = _TRUTH.get(told.get(name, "false"))
    if value is None:
        raise invalid(name, "something else", "true or false")
    return value
