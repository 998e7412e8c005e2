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
from pathlib import Path
from typing import Any, BinaryIO, Literal

from prometheus_client import REGISTRY
from pydantic import SecretStr

import consumer
from consumer.adapters import aws
from consumer.adapters.endpoint_tags import EndpointTags
from consumer.adapters.files import FileTexts
from consumer.adapters.firehose import FirehoseSink
from consumer.adapters.kinesis import EXIT_UNAVAILABLE, run_worker
from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import Client, connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.durability import RedisDurability
from consumer.adapters.redis.explanations import Explanations
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.adapters.redis.second_assessments import SecondAssessments
from consumer.adapters.resources import check_bucket, check_delivery_stream, check_stream
from consumer.adapters.s3 import S3DeadLetters, S3Texts, fetch
from consumer.adapters.sagemaker import SageMakerEndpoint
from consumer.clock import Clock, SystemClock
from consumer.decode import DecodeRules
from consumer.document import DocumentFormat
from consumer.engine import Engine
from consumer.errors import Problem, Unavailable
from consumer.feature_hash import FeatureHashWatch
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.followers import Archives, follow
from consumer.health import Probe
from consumer.heartbeat import Heartbeat
from consumer.intake import FloodLimit, Intake
from consumer.java import find_java
from consumer.labels import Labels
from consumer.logs import configure, get_logger
from consumer.metrics import Metrics
from consumer.orphan import leave_with_parent
from consumer.patience import Patience
from consumer.ports import Endpoint, Texts
from consumer.preflight import (
    Findings,
    RecentProbe,
    answering,
    check_endpoints,
    probe_endpoint,
)
from consumer.rules.book import RuleBook, WatchLimits
from consumer.rules.facts import build_catalogue
from consumer.rules.feature_facts import describe_features
from consumer.rules.lists import SUFFIX
from consumer.rules.source import RulePoller, RuleSource
from consumer.rules.specification import Mode
from consumer.scoring import Scorer
from consumer.second_assessment import SecondAssessor, SecondDesk
from consumer.settings import SHIPPED, Settings
from consumer.supervisor import Daemon, run_daemon
from consumer.telemetry import WorkerTelemetry
from consumer.worker import Worker, WorkerParts

_CONNECT_TIMEOUT_S = 2.0
_READ_TIMEOUT_S = 10.0
_THREADS = 8
_FIREHOSE_CONNECTIONS = 4


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


def process(settings: Settings, protocol_out: BinaryIO) -> int:
    """
    Work one shard for the KCL until it closes our standard input; return the exit code.

    *protocol_out* is the real standard output, which nothing else may write to.
    """
    # A worker's lines travel through Java's log to the supervisor, which renders them.
    configure(settings.logs.level, "json")
    leave_with_parent()
    try:
        with ExitStack() as stack:
            clock = SystemClock()
            heartbeat = stack.enter_context(Heartbeat(settings.supervisor.run_dir, clock))
            worker = build_worker(settings, heartbeat, clock, stack)
            _calm_garbage_collector()
            return run_worker(worker, sys.stdin.buffer, protocol_out, on_failure=heartbeat.leaving)
    except Unavailable as error:
        # An outage at the start ends as one in the middle does.
        get_logger(__name__).error("leaving without a checkpoint", error=str(error))
        return EXIT_UNAVAILABLE


def _look_at_stream(settings: Settings) -> list[Problem]:
    return check_stream(_client("kinesis", settings), settings)


def _look_at_bucket(settings: Settings) -> list[Problem]:
    return check_bucket(_client("s3", settings), settings)


def _look_at_firehose(settings: Settings) -> list[Problem]:
    if not settings.firehose.enabled:
        return []
    return check_delivery_stream(_client("firehose", settings), settings)


@dataclass(frozen=True, slots=True)
class Stores:
    """The two Redis adapters of one process, ready for use."""

    features: RedisFeatureStore
    documents: RedisDocuments

    def ping(self) -> None:
        """Ask both servers for a sign of life. Raises Unavailable."""
        self.features.ping()
        self.documents.ping()


def _calm_garbage_collector() -> None:
    """
    Collect less often, and leave alone what lives as long as the process.

    Hardly anything of a delivery is cyclic, and looking through it again and
    again took a tenth of the worker's time (``make bench ONLY=stages``).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1_000)


def build_worker(
    settings: Settings, heartbeat: Heartbeat, clock: Clock, stack: ExitStack
) -> Worker:
    """
    Wire a worker to everything outside; *stack* closes what was opened, last first.

    Waits for Redis as long as an outage is waited out. Raises Unavailable after
    that, and Misconfigured.
    """
    plan = load_plan(settings.features.path, settings.events.base_currency)
    metrics = Metrics(REGISTRY)
    telemetry = WorkerTelemetry(
        metrics, heartbeat, clock, [entity.name for entity in plan.entities]
    )
    patience = Patience(clock, time.sleep, settings.redis.outage_limit_s, telemetry.waiting)
    stores = patience.call(partial(build_stores, settings, plan, stack))
    durability = build_durability(settings, stack)
    if durability is not None:
        patience.call(durability.begin)
    hashes = stack.enter_context(closing(build_feature_hash_watch(settings, plan, telemetry)))
    hashes.look()
    hashes.start(settings.scoring.tag_check_s)
    scorer = stack.enter_context(closing(build_scorer(settings, clock, telemetry, hashes.usable)))
    explanations = Explanations(_connect(settings, settings.redis.documents_url, stack))
    follow(build_archives(settings, plan), telemetry, clock, explanations.write, stack)
    # The first call of a client reads its service's description and connects, half a second
    # that the first transactions would wait for. What comes back is of no interest.
    scorer.start([(0.0,) * len(plan.names)], "fraudstream-warm-up").result()
    judge = build_judge(settings, plan, telemetry, patience, stack)
    assess_again(settings, scorer, judge, telemetry, clock, stack)
    engine = Engine(
        features=stores.features,
        scoring=scorer,
        documents=stores.documents,
        judge=judge,
        clock=clock,
        timing=telemetry,
    )
    parts = WorkerParts(
        intake=Intake(DecodeRules.of(settings.events), settings.redis.document_ttl_s * 1000),
        flood=FloodLimit(settings.dead_letters.limit_share, settings.dead_letters.limit_window),
        engine=engine,
        labels=Labels(
            stores.documents,
            features=stores.features if plan.reads_labels else None,
            patience=patience,
            lifetime_ms=settings.redis.document_ttl_s * 1000,
        ),
        dead_letters=stack.enter_context(closing(build_dead_letters(settings))),
        sink=build_sink(settings, telemetry, stack),
        patience=patience,
        telemetry=telemetry,
        clock=clock,
        durability=durability,
    )
    return Worker(parts, settings.worker)


def build_stores(settings: Settings, plan: Plan, stack: ExitStack) -> Stores:
    """
    Connect to Redis, load the functions and create the index.

    Raises Unavailable, and Misconfigured for a server that lacks what is needed.
    """
    features = RedisFeatureStore(
        _connect(settings, settings.redis.features_url, stack),
        plan,
        id_horizon_s=settings.features.id_horizon_s,
    )
    stack.enter_context(closing(features))
    features.prepare()
    documents = RedisDocuments(
        _connect(settings, settings.redis.documents_url, stack),
        form=DocumentFormat(plan.names, plan.hash, settings.events.base_currency),
        ttl_s=settings.redis.document_ttl_s,
        alerts_max_length=settings.redis.alerts_max_length,
    )
    stack.enter_context(closing(documents))
    documents.prepare()
    return Stores(features, documents)


def build_durability(settings: Settings, stack: ExitStack) -> RedisDurability | None:
    """What waits for the replicas of each server, or None where none are to be waited for."""
    redis = settings.redis
    if not redis.wait_replicas:
        return None
    urls = {
        url.get_secret_value(): url
        for url in (redis.features_url or redis.url, redis.documents_url or redis.url)
    }
    servers = [
        stack.enter_context(closing(Servers(_connect(settings, url, stack))))
        for url in urls.values()
    ]
    return RedisDurability(
        servers, replicas=redis.wait_replicas, timeout_s=redis.wait_timeout_ms / 1000
    )


def build_judge(
    settings: Settings, plan: Plan, telemetry: WorkerTelemetry, patience: Patience, stack: ExitStack
) -> RuleBook:
    """The rules in force and the thread that looks for others. As ``build_worker`` raises."""
    source = build_rule_source(settings, plan)
    limits = WatchLimits(settings.rules.decline_rise_limit, settings.rules.watch_transactions)
    book = RuleBook(patience.call(source.load), settings.decision, limits, telemetry)
    poller = stack.enter_context(
        closing(RulePoller(source, book, settings.rules.poll_s, telemetry))
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
        _connect(settings, settings.redis.documents_url, stack),
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


def build_rule_source(settings: Settings, plan: Plan) -> RuleSource:
    """Where rules and lists lie, with the names that rules may use."""
    base_currency = settings.events.base_currency
    catalogue = build_catalogue(
        describe_features(plan, base_currency), base_currency, settings.events.extra_fields
    )
    return RuleSource(
        build_texts(settings, settings.rules.path),
        build_lists_texts(settings),
        catalogue,
        Mode(settings.rules.mode),
    )


def build_lists_texts(settings: Settings) -> Texts:
    """The files or objects of the named lists."""
    return build_texts(settings, settings.rules.lists, SUFFIX)


def build_texts(settings: Settings, address: str | Path, suffix: str = "") -> Texts:
    """The one text at *address*, or with a *suffix* all in that folder that end in it."""
    url = str(address)
    if isinstance(address, str) and url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        prefix = f"{key.rstrip('/')}/" if suffix else key
        return S3Texts(_client("s3", settings), bucket, prefix, suffix)
    path = Path(address)
    return FileTexts(path, f"*{suffix}") if suffix else FileTexts(path.parent, path.name)


def build_endpoints(settings: Settings, clock: Clock) -> tuple[Endpoint, Endpoint]:
    """The fraud and the anomaly endpoint, on one client."""
    scoring = settings.scoring
    client = aws.client(
        "sagemaker-runtime",
        settings.aws,
        connect_timeout_s=scoring.connect_timeout_ms / 1000,
        read_timeout_s=scoring.deadline_ms / 1000,
        max_pool_connections=scoring.threads,
    )
    return (
        SageMakerEndpoint(client, scoring.fraud, "fraud", clock),
        SageMakerEndpoint(client, scoring.anomaly, "anomaly", clock),
    )


def build_feature_hash_watch(
    settings: Settings, plan: Plan, telemetry: WorkerTelemetry | None
) -> FeatureHashWatch:
    """What compares the feature lists of both models with *plan*."""
    scoring = settings.scoring
    return FeatureHashWatch(
        EndpointTags(_client("sagemaker", settings)),
        {"fraud": scoring.fraud.name, "anomaly": scoring.anomaly.name},
        plan.hash,
        *([] if telemetry is None else [telemetry.feature_hash_compared]),
    )


def build_archives(settings: Settings, plan: Plan) -> Archives:
    """The archives of both models, in files or in S3."""

    def fetched(source: str, target: Path) -> Path:
        # A client costs megabytes, which a worker without archives is spared.
        return fetch(_client("s3", settings), source, target)

    return Archives(settings.scoring, plan, fetched)


def build_scorer(
    settings: Settings,
    clock: Clock,
    telemetry: WorkerTelemetry,
    usable: Callable[[str], bool],
) -> Scorer:
    """Both endpoints behind one deadline; see ``Scorer`` for *usable*."""
    fraud, anomaly = build_endpoints(settings, clock)
    return Scorer(
        fraud,
        anomaly,
        settings.scoring,
        clock=clock,
        on_error=telemetry.endpoint_failed,
        observe_seconds=telemetry.endpoint_answered,
        on_breaker=telemetry.breaker_changed,
        usable=usable,
    )


def build_dead_letters(settings: Settings) -> S3DeadLetters:
    """The dead letters' bucket."""
    letters = settings.dead_letters
    return S3DeadLetters(_client("s3", settings), letters.bucket, letters.prefix, _THREADS)


def build_sink(
    settings: Settings, telemetry: WorkerTelemetry, stack: ExitStack
) -> FirehoseSink | None:
    """Firehose, or None where it is switched off."""
    if not settings.firehose.enabled:
        return None
    client = aws.client(
        "firehose",
        settings.aws,
        connect_timeout_s=settings.firehose.timeout_s,
        read_timeout_s=settings.firehose.timeout_s,
        max_pool_connections=_FIREHOSE_CONNECTIONS,
    )
    sink = FirehoseSink(
        client, settings.firehose, sleep=time.sleep, on_error=telemetry.firehose_failed
    )
    return stack.enter_context(closing(sink))


def _client(service: Literal["kinesis", "firehose", "s3", "sagemaker"], settings: Settings) -> Any:
    """A client for calls outside the latency budget."""
    return aws.client(
        service,
        settings.aws,
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        read_timeout_s=_READ_TIMEOUT_S,
        max_pool_connections=_THREADS,
    )


def _connect(settings: Settings, url: SecretStr | None, stack: ExitStack) -> Client:
    address = url or settings.redis.url
    client = connect(
        address.get_secret_value(),
        connect_timeout_s=settings.redis.connect_timeout_s,
        timeout_s=settings.redis.timeout_s,
    )
    return stack.enter_context(closing(client))
