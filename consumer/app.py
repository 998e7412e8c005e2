"""
The composition root: settings to wired objects, and the order in which they end.

The only module that knows both the core and its adapters. Everything is passed
in by name, so a test wires the same core to other outsides.
"""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from prometheus_client import REGISTRY, CollectorRegistry

import consumer
from consumer.adapters.kinesis import EXIT_UNAVAILABLE, Waiting, run_worker
from consumer.adapters.redis.explanations import Explanations
from consumer.adapters.redis.second_assessments import SecondAssessments
from consumer.adapters.resources import check_buckets, check_delivery_stream, check_stream
from consumer.bands_watch import BandsWatch
from consumer.clock import Clock, SystemClock
from consumer.decode import DecodeRules
from consumer.engine import Engine
from consumer.errors import Problem, Unavailable
from consumer.fault_trace import FaultTrace
from consumer.feature_hash import FeatureHashWatch
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.followers import follow
from consumer.health import Probe
from consumer.heartbeat import Heartbeat
from consumer.inspection import open_fleet
from consumer.intake import FloodLimit, Intake
from consumer.java import find_java
from consumer.labels import Labels
from consumer.logs import configure, get_logger
from consumer.metric_files import reserve_metric_files
from consumer.metrics import Metrics
from consumer.multilang import worker_id
from consumer.orphan import leave_with_parent
from consumer.outside import (
    Open,
    Outside,
    Stores,
    Surroundings,
    build_accepted_rules,
    build_archives,
    build_bands_watch,
    build_client,
    build_endpoints,
    build_explanations,
    build_feature_hash_watch,
    build_rule_source,
    build_stores,
    open_outside,
    open_redis,
)
from consumer.patience import Patience
from consumer.ports import Endpoint
from consumer.preflight import (
    Findings,
    RecentProbe,
    answering,
    check_endpoints,
    probe_endpoint,
)
from consumer.rules.book import RuleBook, WatchLimits
from consumer.rules.keeping import Keeper
from consumer.rules.source import RulePoller
from consumer.rules.start import begin
from consumer.scoring import Scorer
from consumer.second_assessment import SecondAssessor, SecondDesk
from consumer.settings import SHIPPED, Scoring, Settings
from consumer.supervisor import Daemon, run_daemon
from consumer.suspicion import Suspects
from consumer.telemetry import WorkerTelemetry
from consumer.worker import Worker, WorkerParts


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """
    Run the daemon until it is told to stop; return its exit code, see ``run_daemon``.

    Looks at everything it depends on first. Raises Misconfigured with all that
    is to be corrected, and Unavailable when Redis or AWS does not answer.
    """
    configure(settings.logs.level, settings.logs.format)
    command = [sys.executable, "-m", "consumer", "process"]
    if arguments.config is not None:
        command += ["--config", str(arguments.config.resolve())]
    with ExitStack() as stack:
        return run_daemon(
            Daemon(
                settings=settings,
                worker_command=command,
                logback=SHIPPED / "logback.xml",
                version=consumer.__version__,
                probes=check(settings, stack),
                fleet=open_fleet(settings, stack),
            )
        )


def check(settings: Settings, stack: ExitStack) -> dict[str, Probe]:
    """
    Look at Redis, the stream, the buckets and both endpoints; return their probes.

    *stack* closes what was opened. Raises Misconfigured and Unavailable.
    """
    clock = SystemClock()
    plan = load_plan(settings.features.path, settings.events.base_currency)
    findings = Findings()
    stores: list[Stores] = []
    with findings.looking():
        find_java(settings.kcl.java, os.environ)
    with findings.looking():
        DecodeRules.of(settings.events)
    with findings.looking("a server at redis.url (FRAUDSTREAM_REDIS__URL)"):
        stores.append(build_stores(settings, plan, stack))
        stores[0].features.verify()
    for look in (_look_at_stream, _look_at_bucket, _look_at_firehose):
        with findings.looking("AWS at aws.region or aws.endpoint_url, with these credentials"):
            findings.add(look(settings))
    with findings.looking():
        if stores:
            look_at_rules(settings, plan, stack)
        else:
            build_rule_source(settings, plan).load()
    scoring = settings.scoring
    fraud, anomaly = build_endpoints(settings, clock)
    named = [
        ("scoring.fraud.name", scoring.fraud.name, fraud),
        ("scoring.anomaly.name", scoring.anomaly.name, anomaly),
    ]
    findings.add(check_endpoints(named, len(plan.names), clock))
    hashes = build_feature_hash_watch(settings, plan, None)
    hashes.look()
    findings.add(hashes.problems())
    with findings.looking():
        build_archives(settings, plan).check()
        # Afterwards, since an archive that cannot be used is told once.
        build_bands_watch(settings, plan, None)
    findings.refuse()
    return {
        "redis": answering(stores[0].ping),
        **{
            f"endpoint {name}": RecentProbe(
                partial(probe_endpoint, endpoint, len(plan.names), clock), clock
            )
            for _, name, endpoint in named
        },
    }


def look_at_rules(settings: Settings, plan: Plan, stack: ExitStack) -> None:
    """
    See that workers have rules to start with, and say loudly where these are the last good copy.

    Raises Misconfigured and Unavailable where there are none.
    """
    begun = begin(build_rule_source(settings, plan), build_accepted_rules(settings, stack))
    if begun.copy is not None:
        get_logger(__name__).error(
            "rules or lists cannot be used: starting with the last good copy",
            copy=begun.copy.place,
            problems=[str(problem) for problem in begun.problems],
        )


def process(settings: Settings, protocol_out: BinaryIO) -> int:
    """
    Work one shard for the KCL until it closes our standard input; return the exit code.

    *protocol_out* is the real standard output, which nothing else may write to.
    """
    # A worker's lines travel through Java's log to the supervisor, which renders them.
    configure(settings.logs.level, "json")
    try:
        with ExitStack() as stack:
            clock = SystemClock()
            stack.enter_context(FaultTrace(settings.supervisor.run_dir))
            heartbeat = stack.enter_context(Heartbeat(settings.supervisor.run_dir, clock))
            leave_with_parent(heartbeat.leaving)
            worker = build_worker(settings, heartbeat, clock, stack)
            calm_garbage_collector()
            return run_worker(
                worker,
                sys.stdin.buffer,
                protocol_out,
                waiting=build_waiting(worker, settings),
                on_failure=heartbeat.leaving,
            )
    except Unavailable as error:
        # An outage at the start ends as one in the middle does.
        get_logger(__name__).error("leaving without a checkpoint", error=str(error))
        return EXIT_UNAVAILABLE


def build_waiting(worker: Worker, settings: Settings) -> Waiting:
    """
    How the checkpoints of *worker* are waited for: as it waits for everything else.

    Told to stop, for half of the grace: the other half is for what it has to finish before,
    and for leaving.
    """
    return Waiting(worker.patience, settings.kcl.shutdown_grace_ms / 1000 / 2)


def _look_at_stream(settings: Settings) -> list[Problem]:
    return check_stream(build_client("kinesis", settings), settings)


def _look_at_bucket(settings: Settings) -> list[Problem]:
    return check_buckets(build_client("s3", settings), settings)


def _look_at_firehose(settings: Settings) -> list[Problem]:
    if not settings.firehose.enabled:
        return []
    return check_delivery_stream(build_client("firehose", settings), settings)


def calm_garbage_collector() -> None:
    """
    Collect less often, and leave alone what lives as long as the process.

    Hardly anything of a delivery is cyclic, and looking through it again and
    again took a tenth of the worker's time (``make bench ONLY=stages``).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)
    gc.enable()


def build_worker(
    settings: Settings,
    heartbeat: Heartbeat,
    clock: Clock,
    stack: ExitStack,
    open_outside: Open = open_outside,
) -> Worker:
    """Wire a worker, see ``build_parts``."""
    parts = build_parts(settings, heartbeat, clock, stack, open_outside)
    return Worker(parts, settings.worker)


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
