"""
What decides, wired from the settings: endpoints, rules, stores and all that follows them.

The same parts for a worker of the stream, a replay and the REST service. Everything is passed in
by name, so a test wires the same core to other outsides.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry

from consumer.adapters.redis.explanations import Explanations
from consumer.adapters.redis.second_assessments import SecondAssessments
from consumer.adapters.timeseries import TimeSeriesSink
from consumer.bands_watch import BandsWatch
from consumer.clock import Clock
from consumer.decode import DecodeRules
from consumer.engine import Engine
from consumer.feature_hash import FeatureHashWatch
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.followers import follow
from consumer.heartbeat import Heartbeat
from consumer.intake import FloodLimit, Intake
from consumer.labels import Labels
from consumer.metric_files import reserve_metric_files
from consumer.metrics import Metrics
from consumer.multilang import worker_id
from consumer.outside import (
    Open,
    Outside,
    Surroundings,
    build_accepted_rules,
    build_archives,
    build_bands_watch,
    build_endpoints,
    build_explanations,
    build_feature_hash_watch,
    build_rule_source,
    open_outside,
    open_redis,
)
from consumer.patience import Patience
from consumer.ports import Endpoint
from consumer.rules.book import RuleBook, WatchLimits
from consumer.rules.keeping import Keeper
from consumer.rules.source import RulePoller
from consumer.rules.start import begin
from consumer.scoring import Scorer
from consumer.second_assessment import SecondAssessor, SecondDesk
from consumer.settings import Scoring, Settings
from consumer.suspicion import Suspects
from consumer.telemetry import WorkerTelemetry
from consumer.worker import WorkerParts


def build_parts(
    settings: Settings,
    heartbeat: Heartbeat,
    clock: Clock,
    stack: ExitStack,
    open_outside: Open = open_outside,
    registry: CollectorRegistry = REGISTRY,
) -> WorkerParts:
    """Wire what a worker works with, see ``wire``."""
    return wire(settings, heartbeat, clock, stack, open_outside, registry).parts


@dataclass(frozen=True, slots=True)
class Wired:
    """What a worker works with, and who can tell what decides."""

    parts: WorkerParts
    plan: Plan
    outside: Outside
    judge: RuleBook
    bands: BandsWatch
    hashes: FeatureHashWatch
    scorer: Scorer
    metrics: Metrics


def wire(
    settings: Settings,
    heartbeat: Heartbeat,
    clock: Clock,
    stack: ExitStack,
    open_outside: Open = open_outside,
    registry: CollectorRegistry = REGISTRY,
) -> Wired:
    """
    Wire what a worker works with to what *open_outside* opens; *stack* closes it, last first.

    Waits for Redis as long as an outage is waited out. Raises Unavailable after
    that, and Misconfigured.
    """
    plan = load_plan(settings.features.path, settings.events.base_currency)
    reserve_metric_files()
    metrics = Metrics(registry)
    telemetry = WorkerTelemetry(
        metrics, heartbeat, clock, [entity.name for entity in plan.entities]
    )
    patience = Patience(clock, time.sleep, settings.redis.outage_limit_s, telemetry.waiting)
    around = Surroundings(settings, plan, telemetry, patience, clock)
    outside = open_outside(around, stack)
    hashes = stack.enter_context(closing(build_feature_hash_watch(settings, plan, telemetry)))
    hashes.look()
    hashes.start(settings.scoring.tag_check_s)
    bands = patience.call(partial(build_bands_watch, settings, plan, telemetry))
    stack.enter_context(closing(bands)).start(settings.scoring.tag_check_s)
    models = (outside.fraud, outside.anomaly)
    scorer = stack.enter_context(
        closing(
            build_scorer(
                models, settings.scoring, clock, telemetry, partial(objection, hashes, bands)
            )
        )
    )
    explanations = Explanations(open_redis(settings, settings.redis.documents_url, stack))
    archives, explaining = build_archives(settings, plan), build_explanations(settings, plan)
    follow(archives, telemetry, clock, explanations.write, stack, explaining)
    # The first call of a client reads its service's description and connects, half a second
    # that the first transactions would wait for. What comes back is of no interest.
    scorer.start([(0.0,) * len(plan.names)], "fraudstream-warm-up").result()
    judge = build_judge(around, bands, stack)
    assess_again(settings, scorer, judge, telemetry, clock, stack)
    draw(settings, telemetry, clock, stack)
    engine = Engine(
        features=outside.features,
        scoring=scorer,
        documents=outside.documents,
        judge=judge,
        clock=clock,
        timing=telemetry,
    )
    parts = WorkerParts(
        intake=Intake(DecodeRules.of(settings.events), settings.redis.document_ttl_s * 1000),
        flood=FloodLimit(settings.dead_letters.limit_share, settings.dead_letters.limit_window),
        engine=engine,
        labels=Labels(
            outside.documents,
            features=outside.feature_labels,
            patience=patience,
            lifetime_ms=settings.redis.document_ttl_s * 1000,
        ),
        dead_letters=outside.dead_letters,
        sink=outside.sink,
        patience=patience,
        telemetry=telemetry,
        clock=clock,
        durability=outside.durability,
        suspects=Suspects(settings.supervisor.run_dir, settings.kcl.application_name),
    )
    return Wired(parts, plan, outside, judge, bands, hashes, scorer, metrics)


def objection(hashes: FeatureHashWatch, bands: BandsWatch, score: str) -> str | None:
    """Why the model behind *score* cannot be used, as a degraded cause; None where it can."""
    if not hashes.usable(score):
        return "feature_hash"
    return None if bands.usable(score) else "bands"


def build_judge(around: Surroundings, bands: BandsWatch, stack: ExitStack) -> RuleBook:
    """The rules in force and the thread that looks for others. As ``build_worker`` raises."""
    settings, telemetry = around.settings, around.telemetry
    source = build_rule_source(settings, around.plan)
    store = build_accepted_rules(settings, stack)
    begun = around.patience.call(partial(begin, source, store))
    limits = WatchLimits(settings.rules.decline_rise_limit, settings.rules.watch_transactions)
    book = RuleBook(
        begun.rules,
        lambda: bands.policy,
        limits,
        telemetry,
        warming=settings.rules.warming,
    )
    if begun.copy is not None:
        telemetry.rules_refused(begun.problems)
        telemetry.rules_restored(begun.copy)
    book.compare(begun.before)
    keeper = Keeper(store, worker_id(settings), around.clock, telemetry)
    poller = stack.enter_context(
        closing(RulePoller(source, book, settings.rules.poll_s, telemetry, keeper))
    )
    poller.start()
    return book


def assess_again(
    settings: Settings,
    scorer: Scorer,
    judge: RuleBook,
    telemetry: WorkerTelemetry,
    clock: Clock,
    stack: ExitStack,
) -> None:
    """Start the second assessments of what *telemetry* hears of; *stack* ends them."""
    second = settings.scoring.second_assessment
    if not second.waiting:
        return
    # A client of its own: its requests may take longer, and take no connection away.
    own = settings.scoring.model_copy(update={"deadline_ms": second.deadline_ms, "threads": 1})
    store = SecondAssessments(
        open_redis(settings, settings.redis.documents_url, stack),
        alerts_max_length=settings.redis.alerts_max_length,
    )
    stack.enter_context(closing(store))
    desk = SecondDesk(
        endpoints=build_endpoints(settings.model_copy(update={"scoring": own}), clock),
        well=scorer.well,
        judge=judge.look,
        write=store.write,
        count=telemetry.assessed_again,
    )
    assessor = stack.enter_context(closing(SecondAssessor(desk, second, clock)))
    telemetry.follow(assessor.observe)
    assessor.start()


def draw(settings: Settings, telemetry: WorkerTelemetry, clock: Clock, stack: ExitStack) -> None:
    """Send points of what *telemetry* hears of, if anybody takes some; *stack* ends it."""
    if settings.timeseries.url is None:
        return
    sink = TimeSeriesSink(
        settings.timeseries, settings.events.base_currency, clock, telemetry.points
    )
    stack.enter_context(closing(sink))
    telemetry.follow(sink.observe)
    sink.start()


def build_scorer(
    models: tuple[Endpoint, Endpoint],
    settings: Scoring,
    clock: Clock,
    telemetry: WorkerTelemetry,
    objection: Callable[[str], str | None],
) -> Scorer:
    """The fraud and the anomaly model behind one deadline; see ``Scorer`` for *objection*."""
    fraud, anomaly = models
    return Scorer(
        fraud,
        anomaly,
        settings,
        clock=clock,
        on_error=telemetry.endpoint_failed,
        observe_seconds=telemetry.endpoint_answered,
        on_breaker=telemetry.breaker_changed,
        objection=objection,
    )
