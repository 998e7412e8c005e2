"""The service wired to everything outside, by the very parts of a worker."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from prometheus_client import CollectorRegistry
from starlette.routing import Route
from starlette.types import ASGIApp

from consumer.api.access_opening import Access, open_access
from consumer.api.authentication import Authentication
from consumer.api.authentication import Limits as BodyLimits
from consumer.api.catalogue import Catalogue
from consumer.api.daemon_figures import Daemons
from consumer.api.decider import Decider
from consumer.api.entities import Entities, EntityFeatures
from consumer.api.feed import Feed, build_feed, is_open
from consumer.api.labels import LabelDesk
from consumer.api.limits import Admission, Shed
from consumer.api.live import Sources
from consumer.api.operations import Operation
from consumer.api.predictions import Predictions
from consumer.api.predictor import Pace, Predictor
from consumer.api.probes import Probes, Readiness
from consumer.api.publisher import Publisher
from consumer.api.routes import Desks, build_operations
from consumer.api.service import Front, build_router, open_paths
from consumer.api.session_endpoint import (
    DESCRIPTIONS,
    TOKENS_PATH,
    SessionEndpoint,
    TokenEndpoint,
)
from consumer.api.session_endpoint import PATH as SESSION_PATH
from consumer.api.transactions import Documents, Transactions
from consumer.clock import Clock
from consumer.daemon_view import read_registry
from consumer.decode import DecodeRules
from consumer.document import DocumentFormat
from consumer.features.plan import Plan
from consumer.heartbeat import Heartbeat
from consumer.inspection import open_search
from consumer.metrics import AccessMetrics, ApiMetrics
from consumer.outside import (
    build_access_source,
    build_documents,
    build_feature_store,
    build_live_stores,
    build_outbox,
)
from consumer.pan import PanGuard
from consumer.preflight import RecentProbe, answering
from consumer.settings import Settings
from consumer.wiring import Wired, objection, wire

_Part = TypeVar("_Part")

# A call is tried once: whoever asked can ask again, and must not wait for an outage to end.
_NO_PATIENCE_S = 1e-9
# Replicas are waited for within the time that Redis has for any answer.
_WAIT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Opened:
    """
    The service: ``predictor`` and ``publisher`` have to be started, and closed in this order.

    ``refused`` hears of the status of what was answered before it was a request.
    """

    app: ASGIApp
    predictor: Predictor
    publisher: Publisher | None
    readiness: Readiness
    probes: Probes
    access: Access
    feed: Feed
    refused: Callable[[int], None]


def open_service(
    settings: Settings,
    clock: Clock,
    stack: ExitStack,
    registry: CollectorRegistry | None = None,
) -> Opened:
    """
    Wire the service of *settings*; *stack* closes what was opened, last first.

    Raises Misconfigured and Unavailable, also while Redis does not answer.
    """
    registry = registry or CollectorRegistry()
    hurried = in_a_hurry(settings)
    wired = _open_engine(hurried, clock, stack, registry)
    metrics = ApiMetrics(registry)
    publisher = _build_publisher(hurried, wired, clock, stack)
    admission = _build_admission(settings, clock, metrics)
    decider = _build_decider(settings, wired, publisher)
    ping = _needed(wired.outside.ping)
    predictor = Predictor(
        decider,
        admission,
        _pace(settings),
        clock=clock,
        ping=partial(_revive, wired.outside.renew, ping),
        observe_chunk=metrics.chunk.observe,
        blocked=lambda: publisher is not None and publisher.full,
    )
    readiness = Readiness(
        {"engine": lambda: predictor.outage, "redis": RecentProbe(answering(ping), clock)}
    )
    probes = Probes(readiness, lambda: predictor.idle_s, registry, settings.api.metrics)
    reading = _Reading(
        open_search(settings, stack), build_feature_store(hurried, wired.plan, stack), clock
    )
    desks = _build_desks(settings, wired, (predictor, decider), probes, metrics, reading)
    source = build_access_source(settings)
    access = open_access(settings, source, AccessMetrics(registry), clock, stack)
    feed = _open_feed(settings, reading, registry, stack)
    operations = build_operations(desks, settings, [*feed.operations, *DESCRIPTIONS])
    app = build_app(operations, access, feed, settings)
    front = Front(app, metrics, lambda: admission.in_flight)
    return Opened(front, predictor, publisher, readiness, probes, access, feed, front.count_refused)


def _needed(part: _Part | None) -> _Part:
    """A further side of the stores, which ``open_outside`` always opens."""
    if part is None:
        message = "the stores of a worker have every side"
        raise TypeError(message)
    return part


def _revive(renew: Callable[[], None] | None, ping: Callable[[], None]) -> None:
    """
    Ask Redis for a sign of life after an outage, and accept the primaries of now.

    Each chunk is confirmed before it is answered, so that a change of primary costs only what
    was refused. On the thread that decides alone: another would hide a change from it.
    """
    if renew is not None:
        renew()
    ping()


def _pace(settings: Settings) -> Pace:
    api = settings.api
    return Pace(settings.worker.chunk_size, api.batch_wait_ms / 1000, api.timeout_ms / 1000)


def _build_decider(settings: Settings, wired: Wired, publisher: Publisher | None) -> Decider:
    known, rehearsal = _needed(wired.outside.known), _needed(wired.outside.rehearsal)
    return Decider(wired.parts, known, rehearsal, _form(settings, wired.plan), publisher)


def _open_feed(
    settings: Settings, reading: "_Reading", registry: CollectorRegistry, stack: ExitStack
) -> Feed:
    daemons = Daemons(settings.api.daemon_urls, partial(read_registry, "this service", registry))
    sources = Sources(*build_live_stores(settings, stack), daemons)
    card_like_ids = "transaction_id" not in settings.events.pan_fields
    return build_feed(sources, reading.search, reading.clock, card_like_ids=card_like_ids)


def in_a_hurry(settings: Settings) -> Settings:
    """*settings* for somebody who must not wait: each call is tried once, and briefly."""
    limit_ms = settings.api.redis_timeout_ms
    redis = settings.redis.model_copy(
        update={
            "timeout_s": limit_ms / 1000,
            "connect_timeout_s": limit_ms / 1000,
            "outage_limit_s": _NO_PATIENCE_S,
            "wait_timeout_ms": min(settings.redis.wait_timeout_ms, int(limit_ms * _WAIT_SHARE)),
        }
    )
    return settings.model_copy(update={"redis": redis})


def build_app(
    operations: Sequence[Operation], access: Access, feed: Feed, settings: Settings
) -> ASGIApp:
    """*operations* and the page behind whoever finds out who asks."""
    sessions = SessionEndpoint(access.sessions, access.telemetry)
    tokens = TokenEndpoint(access.sessions)
    routes = [Route(SESSION_PATH, sessions), Route(TOKENS_PATH, tokens), *feed.routes]
    free = open_paths(operations) | {SESSION_PATH}
    limits = BodyLimits(settings.api.max_body_bytes, settings.api.timeout_ms / 1000)
    return Authentication(
        build_router(operations, routes),
        access.authenticator,
        limits,
        is_open=lambda path: path in free or is_open(path),
        watcher=access.telemetry,
    )


def _open_engine(
    settings: Settings, clock: Clock, stack: ExitStack, registry: CollectorRegistry
) -> Wired:
    # A place of its own: what a worker leaves in the daemon's would be taken for a shard.
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fraudstream-")))
    supervisor = settings.supervisor.model_copy(update={"run_dir": folder})
    apart = settings.model_copy(update={"supervisor": supervisor})
    heartbeat = stack.enter_context(Heartbeat(folder, clock))
    return wire(apart, heartbeat, clock, stack, registry=registry)


def _form(settings: Settings, plan: Plan) -> DocumentFormat:
    return DocumentFormat(plan.names, plan.hash, settings.events.base_currency)


def _build_publisher(
    settings: Settings, wired: Wired, clock: Clock, stack: ExitStack
) -> Publisher | None:
    sink = wired.outside.sink
    if sink is None:
        return None
    # Connections of its own, since it has a thread of its own.
    known = build_documents(settings, wired.plan, stack)
    return Publisher(sink, build_outbox(settings, stack), known, clock)


def _build_admission(settings: Settings, clock: Clock, metrics: ApiMetrics) -> Admission:
    def tell(shed: Shed, count: int) -> None:
        metrics.shed.labels(shed.value).inc(count)

    return Admission(
        in_flight_limit=settings.api.in_flight_limit,
        max_wait_s=settings.api.max_wait_ms / 1000,
        chunk_size=settings.worker.chunk_size,
        clock=clock,
        tell=tell,
    )


def _build_desks(
    settings: Settings,
    wired: Wired,
    engine: tuple[Predictor, Decider],
    probes: Probes,
    metrics: ApiMetrics,
    reading: "_Reading",
) -> Desks:
    predictor, decider = engine
    rules, guard = DecodeRules.of(settings.events), PanGuard.of(settings.events)

    def count(result: str) -> None:
        metrics.predictions.labels(result).inc()

    return Desks(
        predictions=Predictions(predictor, rules, settings.api.batch_limit, count),
        transactions=Transactions(reading.search, guard, settings.events),
        entities=Entities(reading.features, wired.plan, guard, settings.events, reading.clock),
        labels=LabelDesk(predictor, decider.label, rules),
        catalogue=Catalogue(
            settings,
            wired.plan,
            wired.judge,
            policy=lambda: wired.bands.policy,
            objection=partial(objection, wired.hashes, wired.bands),
            breakers=wired.scorer.breakers,
        ),
        probes=probes,
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    """What answers reads, on connections apart from the engine's."""

    search: Documents
    features: EntityFeatures
    clock: Clock
