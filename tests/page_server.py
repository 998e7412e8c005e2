"""The live page over a real Redis: its routes behind the front and the authentication."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta

import msgspec
import orjson
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from consumer.adapters.redis.alerts import RedisAlerts
from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.explanations import Explanations
from consumer.adapters.redis.figures import RedisFigures
from consumer.adapters.redis.search import RedisSearch
from consumer.api.access import Scope
from consumer.api.access_opening import Access, open_access
from consumer.api.authentication import Authentication, Limits
from consumer.api.daemon_figures import Daemons
from consumer.api.feed import Feed, build_feed, is_open
from consumer.api.labels import LabelAnswer
from consumer.api.limits import overloaded
from consumer.api.live import Sources
from consumer.api.operations import Asked, Content, Operation, Reply
from consumer.api.problems import Refused
from consumer.api.searching import PARAMETERS
from consumer.api.service import Front, build_router
from consumer.api.session_endpoint import PATH, SessionEndpoint
from consumer.api.transactions import Transactions
from consumer.clock import SystemClock
from consumer.daemon_view import DaemonView, WorkerView
from consumer.decode import DecodeRules, decode
from consumer.document import DocumentFormat
from consumer.metrics import AccessMetrics, ApiMetrics
from consumer.model import Assessment, Decision, Label, Observation, Outcome, Ruled, RuleHit, Scores
from consumer.pan import PanGuard
from consumer.settings import Settings
from tests.access_server import Text
from tests.builders import a_transaction, an_assessment, an_origin

WAIT_S = 30.0
FEATURES = (
    *("amount", "card_count_1h", "card_count_24h", "card_count_30d"),
    *("card_sum_1h", "card_sum_24h", "card_sum_30d", "card_mean_30d", "card_max_30d"),
    *(
        "merchant_count_1h",
        "merchant_count_24h",
        "merchant_count_7d",
        "terminal_count_24h",
        "night",
    ),
)
FORM = DocumentFormat(FEATURES, "f" * 64, "EUR")
EXPLANATION = [
    {"feature": "card_count_1h", "value": 7.0, "contribution": 2.31},
    {"feature": "amount", "value": 412.5, "contribution": 1.07},
    {"feature": "merchant_count_24h", "value": 31.0, "contribution": -0.42},
]
DAEMON = DaemonView(
    "http://127.0.0.1:9464",
    workers=(
        WorkerView("shardId-000000000000", 41, "idle", 0.2, 0.4, 120, "ab12"),
        WorkerView("shardId-000000000001", 42, "endpoints", 0.1, 0.9, 3_400, "ab12"),
    ),
    states={'breaker_state{endpoint="fraud"}': 0.0, 'breaker_state{endpoint="anomaly"}': 2.0},
    durations={
        'endpoint_seconds{endpoint="fraud"}': {0.005: 80.0, 0.01: 99.0, float("inf"): 100.0},
        'endpoint_seconds{endpoint="anomaly"}': {0.005: 8.0, 0.01: 60.0, float("inf"): 61.0},
    },
)


class Bank:
    """Decisions as a worker would store them, now."""

    def __init__(self, documents: RedisDocuments, explanations: Explanations) -> None:
        self._documents, self._explanations = documents, explanations
        self._number = 0

    def decide(
        self, outcome: Outcome = Outcome.APPROVE, *, ago_s: float = 0.0, **fields: object
    ) -> str:
        """Store one decision of *outcome*, and return the id of its transaction."""
        self._number += 1
        assessment = _assess(self._number, outcome, ago_s, fields)
        self._documents.decide([assessment])
        identity = assessment.transaction.transaction_id
        if outcome is Outcome.DECLINE:
            self._explanations.write(identity, orjson.dumps(EXPLANATION))
        return identity

    def decide_for(self, seconds: int, per_second: int) -> None:
        """Store the decisions of the last *seconds*."""
        for at in range(seconds * per_second):
            outcome = Outcome.DECLINE if at % 37 == 0 else Outcome.APPROVE
            outcome = Outcome.REVIEW if at % 23 == 0 else outcome
            self.decide(outcome, ago_s=seconds - at / per_second)


def _assess(number: int, outcome: Outcome, ago_s: float, fields: dict[str, object]) -> Assessment:
    time_of = datetime.now(UTC) - timedelta(seconds=ago_s)
    received_ms = int(time_of.timestamp() * 1000) + 40
    minor = 41_250 if outcome is Outcome.DECLINE else 1_000 + number % 97 * 40
    told = {
        "event_time": time_of,
        "card_id": f"card_{number % 29:04}",
        "merchant_id": f"merchant_{number % 11:03}",
        "amount_minor": minor,
        "base_amount_minor": minor,
        "country": "DE",
        "channel": "ecommerce",
        "device_id": f"device_{number % 31}",
        **fields,
    }
    many = outcome is not Outcome.APPROVE
    values = (minor / 100, 7.0 if many else 1.0, 9.0, 31.0, 655.0, 700.2, 1320.4, 42.6, 412.5)
    fraud = {Outcome.APPROVE: 0.03 + number % 20 / 90, Outcome.REVIEW: 0.58, Outcome.DECLINE: 0.93}
    reasons: tuple[str, ...]
    reasons = ("velocity_card_1h", "fraud_score_high") if outcome is Outcome.DECLINE else ()
    reasons = ("unusual_amount",) if outcome is Outcome.REVIEW else reasons
    hit = RuleHit("velocity_card_1h", 3, outcome, 0.0, "velocity_card_1h", "many in an hour")
    return an_assessment(
        number,
        transaction=a_transaction(number, **told),
        origin=an_origin(number, received_ms=received_ms, arrival_ms=received_ms - 20),
        observation=Observation((*values, 4.0, 31.0, 190.0, 0.0, 1.0), ()),
        scores=Scores(None if number % 41 == 0 else fraud[outcome], 0.9 + number % 7 / 5),
        decision=Decision(
            outcome, reasons, ("more transactions in an hour than usual",) if many else ()
        ),
        rules=Ruled((hit,) if many else (), rules_hash="ab12" * 16, lists_hash="cd34" * 16),
        decided_ms=received_ms + 6 + number % 13,
    )


class PageServer:
    """A server of the page on *port*; ``overloaded`` makes it refuse, ``stop`` takes it away."""

    def __init__(
        self, app: ASGIApp, access: Access, bank: Bank, feed: Feed, sources: Sources
    ) -> None:
        self.overloaded = False
        self.bank, self.feed, self.sources = bank, feed, sources
        self._app, self._access = app, access
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_token(self) -> str:
        return self._access.sessions.issue_token()

    def start(self) -> None:
        """Listen; returns when it does."""
        config = uvicorn.Config(
            self._handle, interface="asgi3", port=self.port, ws="none", lifespan="off",
            log_level="critical", timeout_graceful_shutdown=1,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        ends_s = time.monotonic() + WAIT_S
        while not self._server.started and time.monotonic() < ends_s:
            time.sleep(0.01)

    def stop(self) -> None:
        """Close every connection and the port."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = self._server.force_exit = True
            self._thread.join(WAIT_S)

    def drain(self) -> None:
        """What the service does first when it is told to stop."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self.feed.live.close(), self._loop).result(WAIT_S)

    async def _handle(self, scope: Connection, receive: Receive, send: Send) -> None:
        self._loop = asyncio.get_running_loop()
        await self._app({**scope, "overloaded": self.overloaded}, receive, send)


@contextmanager
def serve_page(redis_url: str) -> Iterator[PageServer]:
    """Run the page over the server at *redis_url* until the end of the block."""
    with ExitStack() as stack:
        client = stack.enter_context(closing(connect(redis_url, connect_timeout_s=2, timeout_s=5)))
        documents = RedisDocuments(client, form=FORM, ttl_s=3_600, alerts_max_length=10_000)
        documents.prepare()
        registry, clock, settings = CollectorRegistry(), SystemClock(), Settings()
        search = RedisSearch(client, 4.0)
        daemons = Daemons(["http://127.0.0.1:9464"], read=lambda _url: DAEMON)
        sources = Sources(RedisAlerts(client), RedisFigures(client), daemons)
        feed = build_feed(sources, search, clock)
        access = open_access(settings, Text(), AccessMetrics(registry), clock, stack)
        transactions = Transactions(search, PanGuard.of(settings.events), settings.events)
        operations = [_search(transactions), _labels(documents, settings)]
        router = build_router(operations, feed.routes)
        guarded = Authentication(
            router, access.authenticator, Limits(100_000, WAIT_S), is_open=is_open,
            watcher=access.telemetry,
        )  # fmt: skip
        sessions = SessionEndpoint(access.sessions, access.telemetry)

        async def inner(scope: Connection, receive: Receive, send: Send) -> None:
            if scope["overloaded"] and scope["path"].startswith("/v1/"):
                raise Refused(overloaded("too many at once"))
            await (sessions if scope["path"] == PATH else guarded)(scope, receive, send)

        front = Front(inner, ApiMetrics(registry), lambda: 0)
        bank = Bank(documents, Explanations(client))
        server = PageServer(front, access, bank, feed, sources)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _search(transactions: Transactions) -> Operation:
    return Operation(
        "find_transactions", "GET", "/v1/transactions", Scope.READ, "", Content({}),
        handle=transactions.search, parameters=PARAMETERS,
    )  # fmt: skip


def _labels(documents: RedisDocuments, settings: Settings) -> Operation:
    """As the service has it, without a worker's entity state behind it."""
    rules = DecodeRules.of(settings.events)

    async def note(asked: Asked) -> Reply:
        label = decode(asked.body, rules)
        assert isinstance(label, Label)
        (labelled,) = documents.label([label])
        answer = LabelAnswer(label.label_id, label.transaction_id, labelled.outcome)
        return Reply(msgspec.json.encode(answer))

    return Operation(
        "label", "POST", "/v1/labels", Scope.LABEL, "", Content({}), handle=note,
        request=Content({}), body_limit=65_536,
    )  # fmt: skip
