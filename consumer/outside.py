"""
Everything outside, built from the settings: the adapters and their connections.

``app.py`` opens them for a worker; commands that need one of them build that one.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from consumer.adapters import aws
from consumer.adapters.clarify import ClarifyExplanations
from consumer.adapters.endpoint_tags import EndpointTags
from consumer.adapters.files import FileTexts
from consumer.adapters.firehose import FirehoseSink
from consumer.adapters.private_file import PrivateFile
from consumer.adapters.redis.accepted_rules import RedisAcceptedRules
from consumer.adapters.redis.alerts import RedisAlerts
from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import Client, Inspect, connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.durability import RedisDurability
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.adapters.redis.figures import RedisFigures
from consumer.adapters.redis.outbox import RedisOutbox
from consumer.adapters.redis.warmth import RedisWarmth
from consumer.adapters.s3.calls import fetch
from consumer.adapters.s3.letter_box import S3LetterBox
from consumer.adapters.s3.letters import S3DeadLetters
from consumer.adapters.s3.listed import S3Listed
from consumer.adapters.s3.objects import S3Object
from consumer.adapters.s3.rows import S3Rows
from consumer.adapters.s3.texts import S3Texts
from consumer.adapters.sagemaker import SageMakerEndpoint
from consumer.adapters.secrets_manager import StoredSecret
from consumer.adapters.stream import KinesisStream
from consumer.bands_watch import BandsWatch
from consumer.clock import Clock, SystemClock
from consumer.document import DocumentFormat
from consumer.feature_hash import FeatureHashWatch
from consumer.features.plan import Plan
from consumer.features.warming import Tell, WarmingFeatures, say_nothing
from consumer.followers import Archives
from consumer.patience import Patience
from consumer.ports import (
    DeadLetterStore,
    DecisionSink,
    Durability,
    EagerDocumentStore,
    EagerFeatureStore,
    Endpoint,
    FeatureLabels,
    FeatureRehearsal,
    KnownDecisions,
    Texts,
)
from consumer.rules.facts import build_catalogue
from consumer.rules.feature_facts import describe_features
from consumer.rules.lists import SUFFIX
from consumer.rules.source import RuleSource
from consumer.rules.specification import Mode
from consumer.settings import Settings
from consumer.spill import Spill
from consumer.telemetry import WorkerTelemetry

_CONNECT_TIMEOUT_S = 2.0
_READ_TIMEOUT_S = 10.0
_THREADS = 8
_FIREHOSE_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an adapter of a worker is built from."""

    settings: Settings
    plan: Plan
    telemetry: WorkerTelemetry
    patience: Patience
    clock: Clock


@dataclass(frozen=True, slots=True)
class Outside:
    """
    Everything that a worker writes to, or asks before it decides; ready for use.

    ``rehearsal``, ``known`` and ``ping`` are further sides of the stores, which only REST asks.
    ``renew`` takes the primaries of now for those that were written to: it is for who has
    nothing unconfirmed that was answered.
    """

    features: EagerFeatureStore
    feature_labels: FeatureLabels
    documents: EagerDocumentStore
    fraud: Endpoint
    anomaly: Endpoint
    dead_letters: DeadLetterStore
    sink: DecisionSink | None
    durability: Durability | None
    rehearsal: FeatureRehearsal | None = None
    known: KnownDecisions | None = None
    ping: Callable[[], None] | None = None
    renew: Callable[[], None] | None = None


Open = Callable[[Surroundings, ExitStack], Outside]
"""Opens what a worker needs; the stack closes it."""


def open_outside(around: Surroundings, stack: ExitStack) -> Outside:
    """
    Connect to everything; *stack* closes what was opened, last first.

    Waits for Redis as long as an outage is waited out. Raises Unavailable after
    that, and Misconfigured.
    """
    settings, patience = around.settings, around.patience
    durability = build_durability(settings, stack)
    inspect = None if durability is None else durability.inspect
    stores = patience.call(partial(build_stores, settings, around.plan, stack, inspect))
    if durability is not None:
        patience.call(durability.begin)
    features = build_warming(
        settings, around.plan, stores.features, stack, around.telemetry.features_warming
    )
    patience.call(features.look)
    fraud, anomaly = build_endpoints(settings, around.clock)
    return Outside(
        features=features,
        feature_labels=features,
        documents=stores.documents,
        fraud=fraud,
        anomaly=anomaly,
        dead_letters=stack.enter_context(closing(build_dead_letters(settings))),
        sink=build_sink(settings, around.telemetry, stack),
        durability=durability,
        rehearsal=features,
        known=stores.documents,
        ping=stores.ping,
        renew=None if durability is None else durability.begin,
    )


@dataclass(frozen=True, slots=True)
class Stores:
    """The two Redis adapters of one process, ready for use."""

    features: RedisFeatureStore
    documents: RedisDocuments

    def ping(self) -> None:
        """Ask both servers for a sign of life. Raises Unavailable."""
        self.features.ping()
        self.documents.ping()


def build_stores(
    settings: Settings, plan: Plan, stack: ExitStack, inspect: Inspect | None = None
) -> Stores:
    """
    Connect to Redis, load the functions and create the index.

    *inspect* sees each new connection. Raises Unavailable, and Misconfigured for a server
    that lacks what is needed.
    """
    features = build_feature_store(settings, plan, stack, inspect)
    documents = build_documents(settings, plan, stack, inspect)
    documents.prepare()
    return Stores(features, documents)


def build_documents(
    settings: Settings, plan: Plan, stack: ExitStack, inspect: Inspect | None = None
) -> RedisDocuments:
    """The decision documents, of which somebody has prepared the server; *stack* closes it."""
    documents = RedisDocuments(
        open_redis(settings, settings.redis.documents_url, stack, inspect),
        form=DocumentFormat(plan.names, plan.hash, settings.events.base_currency),
        ttl_s=settings.redis.document_ttl_s,
        alerts_max_length=settings.redis.alerts_max_length,
    )
    return stack.enter_context(closing(documents))


def build_live_stores(settings: Settings, stack: ExitStack) -> tuple[RedisAlerts, RedisFigures]:
    """What the live page reads, each on a connection of its own; *stack* closes them."""
    url = settings.redis.documents_url
    alerts = stack.enter_context(closing(RedisAlerts(open_redis(settings, url, stack))))
    return alerts, stack.enter_context(closing(RedisFigures(open_redis(settings, url, stack))))


def build_outbox(settings: Settings, stack: ExitStack) -> RedisOutbox:
    """What remembers whose rows may be missing, beside the documents; *stack* closes it."""
    client = open_redis(settings, settings.redis.documents_url, stack)
    return stack.enter_context(closing(RedisOutbox(client)))


def build_feature_store(
    settings: Settings,
    plan: Plan,
    stack: ExitStack,
    inspect: Inspect | None = None,
    *,
    answers: bool = True,
) -> RedisFeatureStore:
    """
    Entity state, with its functions loaded; see the store for *answers*.

    Raises Unavailable, and Misconfigured for a server that lacks what is needed.
    """
    features = RedisFeatureStore(
        open_redis(settings, settings.redis.features_url, stack, inspect),
        plan,
        id_horizon_s=settings.features.id_horizon_s,
        answers=answers,
    )
    stack.enter_context(closing(features))
    features.prepare()
    return features


def build_warming(
    settings: Settings,
    plan: Plan,
    store: RedisFeatureStore,
    stack: ExitStack,
    tell: Tell = say_nothing,
) -> WarmingFeatures:
    """*store*, with the names of the features that are not full in what it observes."""
    warmth = RedisWarmth(open_redis(settings, settings.redis.features_url, stack))
    return WarmingFeatures(
        store,
        stack.enter_context(closing(warmth)),
        plan,
        horizon_s=settings.features.id_horizon_s,
        upgrading=lambda: store.upgrading,
        tell=tell,
    )


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
        stack.enter_context(closing(Servers(open_redis(settings, url, stack))))
        for url in urls.values()
    ]
    return RedisDurability(
        servers, replicas=redis.wait_replicas, timeout_s=redis.wait_timeout_ms / 1000
    )


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


def build_accepted_rules(settings: Settings, stack: ExitStack) -> RedisAcceptedRules:
    """The last good set of rules, beside the documents; *stack* closes it."""
    client = open_redis(settings, settings.redis.documents_url, stack)
    return stack.enter_context(closing(RedisAcceptedRules(client)))


def build_lists_texts(settings: Settings) -> Texts:
    """The files or objects of the named lists."""
    return build_texts(settings, settings.rules.lists, SUFFIX)


def build_texts(settings: Settings, address: str | Path, suffix: str = "") -> Texts:
    """The one text at *address*, or with a *suffix* all in that folder that end in it."""
    url = str(address)
    if isinstance(address, str) and url.startswith("s3://"):
        bucket, _, key = url.removeprefix("s3://").partition("/")
        prefix = f"{key.rstrip('/')}/" if suffix else key
        return S3Texts(build_client("s3", settings), bucket, prefix, suffix)
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


def build_explanations(settings: Settings, plan: Plan) -> ClarifyExplanations | None:
    """The endpoint that explains decisions, or None where none is to be asked."""
    scoring = settings.scoring
    if scoring.explanations != "endpoint" or scoring.explanation_endpoint is None:
        return None
    # A client of its own: an explanation takes seconds, and must not hold a decision's connection.
    client = aws.client(
        "sagemaker-runtime",
        settings.aws,
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        read_timeout_s=_READ_TIMEOUT_S,
        max_pool_connections=1,
    )
    return ClarifyExplanations(client, scoring.explanation_endpoint, plan.names)


def build_feature_hash_watch(
    settings: Settings, plan: Plan, telemetry: WorkerTelemetry | None
) -> FeatureHashWatch:
    """What compares the feature lists of both models with *plan*."""
    scoring = settings.scoring
    return FeatureHashWatch(
        EndpointTags(build_client("sagemaker", settings)),
        {"fraud": scoring.fraud.name, "anomaly": scoring.anomaly.name},
        plan.hash,
        *([] if telemetry is None else [telemetry.feature_hash_compared]),
    )


def build_bands_watch(
    settings: Settings, plan: Plan, telemetry: WorkerTelemetry | None
) -> BandsWatch:
    """
    What knows the bands of the models that are served; see there for what it raises.

    Without *telemetry* nothing hears of them.
    """
    tags = EndpointTags(build_client("sagemaker", settings))
    read_archive = build_archives(settings, plan).bands
    if telemetry is None:
        return BandsWatch(tags, settings, read_archive)
    return BandsWatch(tags, settings, read_archive, telemetry.bands_changed, telemetry.bands_unread)


def build_archives(settings: Settings, plan: Plan) -> Archives:
    """The archives of both models, in files or in S3."""

    def fetched(source: str, target: Path) -> Path:
        # A client costs megabytes, which a worker without archives is spared.
        return fetch(build_client("s3", settings), source, target)

    return Archives(settings.scoring, plan, fetched)


def build_dead_letters(settings: Settings) -> S3DeadLetters:
    """The dead letters' bucket."""
    letters = settings.dead_letters
    return S3DeadLetters(build_client("s3", settings), letters.bucket, letters.prefix, _THREADS)


def build_letter_box(settings: Settings) -> S3LetterBox:
    """The dead letters as they are sent again."""
    letters = settings.dead_letters
    return S3LetterBox(build_client("s3", settings), letters.bucket, letters.prefix, _THREADS)


def build_object(settings: Settings, address: str) -> S3Object:
    """The object at *address*, ``s3://bucket/key``."""
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return S3Object(build_client("s3", settings), bucket, key)


def build_access_source(settings: Settings) -> PrivateFile | StoredSecret | None:
    """Where the list of access is; None where none is named."""
    auth = settings.api.auth
    if auth.access_file is not None:
        return PrivateFile(auth.access_file)
    if auth.access_secret is not None:
        return StoredSecret(build_client("secretsmanager", settings), auth.access_secret)
    return None


def build_source_bucket(settings: Settings, name: str) -> S3Listed:
    """The bucket *name*, to read history from."""
    return S3Listed(build_client("s3", settings), name)


def build_stream(settings: Settings) -> KinesisStream:
    """The stream that the daemon reads, to write to."""
    client = build_client("kinesis", settings)
    return KinesisStream(client, settings.kcl.stream_name, sleep=time.sleep)


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
        client,
        settings.firehose,
        sleep=time.sleep,
        on_error=telemetry.firehose_failed,
        spill=build_spill(settings, telemetry, SystemClock()),
    )
    return stack.enter_context(closing(sink))


def build_spill(settings: Settings, telemetry: WorkerTelemetry, clock: Clock) -> Spill | None:
    """The way around Firehose, or None where no bucket is named."""
    spill = settings.firehose.spill
    if spill.bucket is None:
        return None
    rows = S3Rows(build_client("s3", settings), spill.bucket, spill.prefix)
    return Spill(rows, after_s=spill.after_s, clock=clock, watcher=telemetry)


def build_client(
    service: Literal["kinesis", "firehose", "s3", "sagemaker", "secretsmanager"],
    settings: Settings,
) -> Any:
    """A client for calls outside the latency budget."""
    return aws.client(
        service,
        settings.aws,
        connect_timeout_s=_CONNECT_TIMEOUT_S,
        read_timeout_s=_READ_TIMEOUT_S,
        max_pool_connections=_THREADS,
    )


def open_redis(
    settings: Settings, url: SecretStr | None, stack: ExitStack, inspect: Inspect | None = None
) -> Client:
    """A client of *url*, or of ``redis.url`` without one; *stack* closes it."""
    address = url or settings.redis.url
    client = connect(
        address.get_secret_value(),
        connect_timeout_s=settings.redis.connect_timeout_s,
        timeout_s=settings.redis.timeout_s,
        inspect=inspect,
    )
    return stack.enter_context(closing(client))
