"""
Everything that the preflight looks at, cheapest first.

A composition root beside ``app.py``, whose builders it uses: what is checked is what
will run. A check that cannot be made is a finding, never an exception, so that one
sick dependency hides no other.
"""

import os
import resource
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

from consumer import rest_checkup
from consumer.adapters import aws
from consumer.adapters.clarify import ClarifyExplanations
from consumer.adapters.endpoint_tags import EndpointTags
from consumer.adapters.redis.connection import Client, connect
from consumer.adapters.redis.survey import survey_index, survey_servers
from consumer.adapters.resources import check_bucket, check_delivery_stream, check_stream
from consumer.adapters.trial import (
    try_bucket,
    try_delivery_stream,
    try_explainer,
    try_stream,
    try_table,
)
from consumer.api.access_list import parse_access
from consumer.checkup import (
    Finding,
    IndexFacts,
    Level,
    ServerFacts,
    from_outage,
    from_problems,
    judge_clock,
    judge_endpoint,
    judge_explainer,
    judge_index,
    judge_java,
    judge_memory,
    judge_server,
)
from consumer.clock import SystemClock
from consumer.decode import DecodeRules
from consumer.errors import Misconfigured, Unavailable
from consumer.feature_hash import TAG, FeatureHashWatch
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.inspection import dynamodb_address
from consumer.java import find_java
from consumer.outside import (
    build_accepted_rules,
    build_access_source,
    build_archives,
    build_bands_watch,
    build_endpoints,
    build_rule_source,
    build_stores,
)
from consumer.preflight import probe_endpoint
from consumer.rules.source import RuleSource
from consumer.rules.start import begin
from consumer.settings import Settings

_CONNECT_TIMEOUT_S = 2.0
_READ_TIMEOUT_S = 10.0
_JAVA_LIMIT_S = 30.0
_REDIS_REMEDY = "is it up, and redis.url (FRAUDSTREAM_REDIS__URL) its address and user?"
_AWS_REMEDY = "aws.region, aws.endpoint_url, the credentials, and the permission for this call"

Check = Callable[[], Sequence[Finding]]


class Checklist:
    """The checks of one installation; *rate* is the transactions a second to expect."""

    def __init__(self, settings: Settings, rate: float, stack: ExitStack) -> None:
        self._settings = settings
        self._rate = rate
        self._stack = stack
        self._clock = SystemClock()
        self._plan: Plan | None = None
        self._skews_s: dict[str, float] = {}

    def run(self) -> Iterator[Finding]:
        """Make every check, yielding what each found as soon as it is known."""
        checks: tuple[tuple[str, Check, str], ...] = (
            ("features", self._features, "features.path"),
            ("events", self._events, "events"),
            ("rules", self._rules, _AWS_REMEDY),
            ("java", self._java, "kcl.java"),
            ("run_dir", self._run_dir, "supervisor.run_dir"),
            ("redis", self._redis, _REDIS_REMEDY),
            ("index", self._index, _REDIS_REMEDY),
            ("stream", self._stream, _AWS_REMEDY),
            ("leases", self._leases, _AWS_REMEDY),
            ("firehose", self._firehose, _AWS_REMEDY),
            ("spill", self._spill, _AWS_REMEDY),
            ("dead letters", self._dead_letters, _AWS_REMEDY),
            ("endpoints", self._endpoints, _AWS_REMEDY),
            ("explanations", self._explanations, _AWS_REMEDY),
            ("archives", self._archives, _AWS_REMEDY),
            ("bands", self._bands, _AWS_REMEDY),
            ("rest access", self._rest_access, _AWS_REMEDY),
            ("rest service", self._rest_service, ""),
            ("clock", self._clocks, ""),
        )
        for subject, check, remedy in checks:
            try:
                yield from check()
            except Misconfigured as error:
                yield from from_problems(subject, error.problems)
            except Unavailable as error:
                yield from_outage(subject, error, remedy)

    def _features(self) -> Sequence[Finding]:
        plan = load_plan(self._settings.features.path, self._settings.events.base_currency)
        self._plan = plan
        entities = ", ".join(entity.name for entity in plan.entities)
        text = f"{len(plan.names)} features of {entities}, hash {plan.hash[:12]}…"
        return [Finding("features", Level.OK, text)]

    def _events(self) -> Sequence[Finding]:
        DecodeRules.of(self._settings.events)
        return [Finding("events", Level.OK, "identifiers, currencies and card numbers are ruled")]

    def _rules(self) -> Sequence[Finding]:
        if self._plan is None:
            return []
        source = build_rule_source(self._settings, self._plan)
        try:
            rules = source.load()
        except Misconfigured as error:
            return [*from_problems("rules", error.problems), *self._last_good_rules(source)]
        except Unavailable as error:
            return [from_outage("rules", error, _AWS_REMEDY), *self._last_good_rules(source)]
        text = f"{len(rules.rules)} rules, {rules.mode}, hash {rules.specification.hash[:12]}…"
        return [Finding("rules", Level.OK, text)]

    def _last_good_rules(self, source: RuleSource) -> list[Finding]:
        """What a start would do without these rules, where there is a last good copy."""
        try:
            begun = begin(source, build_accepted_rules(self._settings, self._stack))
        except (Misconfigured, Unavailable):
            return [Finding("rules", Level.FAIL, "a start would refuse them", "correct them")]
        if begun.copy is None:
            return []
        text = f"a start would decide by the {begun.copy.place}"
        return [Finding("rules", Level.FAIL, text, "correct the rules, then look again")]

    def _archives(self) -> Sequence[Finding]:
        scoring = self._settings.scoring
        if self._plan is None or not (scoring.fraud.archive or scoring.anomaly.archive):
            return []
        build_archives(self._settings, self._plan).check()
        return [Finding("archives", Level.OK, "what was named can be read and fits the features")]

    def _bands(self) -> Sequence[Finding]:
        if self._plan is None:
            return []
        bands = build_bands_watch(self._settings, self._plan, None).policy.bands
        text = (
            f"fraud review {bands.fraud_review:g}, decline {bands.fraud_decline:g} "
            f"({bands.fraud_from}), anomaly review {bands.anomaly_review:g} ({bands.anomaly_from})"
        )
        return [Finding("bands", Level.OK, text)]

    def _java(self) -> Sequence[Finding]:
        java = find_java(self._settings.kcl.java, os.environ)
        command = [str(java), "-version"]
        try:
            done = subprocess.run(  # noqa: S603 - the program that the settings name
                command, capture_output=True, text=True, check=False, timeout=_JAVA_LIMIT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return [Finding("java", Level.FAIL, str(error), "name another one: kcl.java")]
        lines = [line for line in done.stderr.splitlines() if " version " in line]
        return [judge_java(str(java), lines[0] if lines else "")]

    def _run_dir(self) -> Sequence[Finding]:
        folder = self._settings.supervisor.run_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"fraudstream check\n")
        except OSError as error:
            remedy = "supervisor.run_dir: a folder that this user may write to"
            return [Finding("run_dir", Level.FAIL, f"{folder}: {error.strerror}", remedy)]
        return [Finding("run_dir", Level.OK, f"{folder} can be written")]

    def _redis(self) -> Sequence[Finding]:
        found: list[Finding] = []
        for subject, client, documents in self._servers():
            for place, facts in survey_servers(client).items():
                name = f"{subject} {place}".rstrip()
                found += judge_server(name, facts, documents=documents)
                self._skews_s[name] = (self._clock.now_ms() - facts.time_ms) / 1000
        return found

    def _index(self) -> Sequence[Finding]:
        if self._plan is None:
            return []
        build_stores(self._settings, self._plan, self._stack)
        client = self._servers()[-1][1]
        index = survey_index(client)
        return [judge_index(index), *self._memory([*survey_servers(client).values()], index)]

    def _memory(self, servers: Sequence[ServerFacts], index: IndexFacts) -> list[Finding]:
        if not self._rate:
            return []
        return [judge_memory(servers, index, self._rate, self._settings.redis.document_ttl_s)]

    def _stream(self) -> Sequence[Finding]:
        with closing(self._aws_client("kinesis")) as client:
            if problems := check_stream(client, self._settings):
                return from_problems("stream", problems)
            before_s = time.time()
            text, clock_s = try_stream(client, self._settings.kcl.stream_name)
        if clock_s is not None:
            # The header has whole seconds, so half of one is its middle.
            self._skews_s["AWS"] = (before_s + time.time()) / 2 - clock_s - 0.5
        return [Finding("stream", Level.OK, text)]

    def _leases(self) -> Sequence[Finding]:
        name = self._settings.kcl.application_name
        with closing(self._aws_client("dynamodb")) as client:
            status = try_table(client, name)
        text = f"table {name}: " + (status or "none yet, the KCL makes it at the first start")
        return [Finding("leases", Level.OK, text)]

    def _firehose(self) -> Sequence[Finding]:
        firehose = self._settings.firehose
        if not firehose.enabled:
            text = "switched off: decisions are kept as long as documents live and no longer"
            return [Finding("firehose", Level.WARN, text, "firehose.enabled: true for analytics")]
        with closing(self._aws_client("firehose")) as client:
            if problems := check_delivery_stream(client, self._settings):
                return from_problems("firehose", problems)
            status = try_delivery_stream(client, firehose.stream_name)
        text = f"{firehose.stream_name}: {status}"
        if status != "ACTIVE":
            return [
                Finding("firehose", Level.FAIL, text, "wait until it is ACTIVE, or recreate it")
            ]
        return [Finding("firehose", Level.OK, text)]

    def _spill(self) -> Sequence[Finding]:
        firehose = self._settings.firehose
        if not firehose.enabled:
            return []
        spill = firehose.spill
        if spill.bucket is None:
            text = "switched off: while Firehose takes no rows, shards wait and then stop"
            remedy = "firehose.spill.bucket: the bucket that the delivery stream writes to"
            return [Finding("spill", Level.WARN, text, remedy)]
        return self._bucket("spill", "firehose.spill.bucket", spill.bucket, spill.prefix)

    def _dead_letters(self) -> Sequence[Finding]:
        letters = self._settings.dead_letters
        return self._bucket("dead letters", "dead_letters.bucket", letters.bucket, letters.prefix)

    def _bucket(self, subject: str, setting: str, bucket: str, prefix: str) -> Sequence[Finding]:
        """Put an object below *prefix* and delete it; *setting* names the bucket."""
        key = f"{prefix}fraudstream-check-{uuid.uuid4().hex}"
        with closing(self._aws_client("s3")) as client:
            if problems := check_bucket(client, setting, bucket):
                return from_problems(subject, problems)
            deleted = try_bucket(client, bucket, key)
        place = f"s3://{bucket}/{prefix}"
        if not deleted:
            remedy = f"delete {key}; the daemon itself never deletes"
            return [Finding(subject, Level.WARN, f"{place}: written, not deleted", remedy)]
        return [Finding(subject, Level.OK, f"{place} can be written")]

    def _endpoints(self) -> Sequence[Finding]:
        if self._plan is None:
            return []
        found = []
        scoring = self._settings.scoring
        endpoints = build_endpoints(self._settings, self._clock)
        for settings, endpoint in zip((scoring.fraud, scoring.anomaly), endpoints, strict=True):
            # The first call connects and may be the slower for it.
            probe_endpoint(endpoint, len(self._plan.names), self._clock)
            started_s = self._clock.monotonic_s()
            cause = probe_endpoint(endpoint, len(self._plan.names), self._clock)
            took_s = self._clock.monotonic_s() - started_s
            subject = f"endpoint {settings.name}"
            found.append(judge_endpoint(subject, cause, took_s, scoring.deadline_ms))
        return [*found, *self._feature_hashes(self._plan)]

    def _feature_hashes(self, plan: Plan) -> list[Finding]:
        scoring = self._settings.scoring
        compared: dict[str, bool] = {}
        with closing(self._aws_client("sagemaker")) as client:
            watch = FeatureHashWatch(
                EndpointTags(client),
                {"fraud": scoring.fraud.name, "anomaly": scoring.anomaly.name},
                plan.hash,
                compared.__setitem__,
            )
            watch.look()
        if problems := watch.problems():
            return from_problems("feature list", problems)
        if not all(compared.get(score) for score in ("fraud", "anomaly")):
            text = "whether the models were trained on these features could not be told"
            remedy = f"tag both endpoints {TAG} and allow sagemaker:ListTags, DescribeEndpoint"
            return [Finding("feature list", Level.WARN, text, remedy)]
        return [Finding("feature list", Level.OK, "both models were trained on these features")]

    def _explanations(self) -> Sequence[Finding]:
        scoring = self._settings.scoring
        name = scoring.explanation_endpoint
        if self._plan is None or scoring.explanations != "endpoint" or name is None:
            return []
        try:
            with closing(self._aws_client("sagemaker")) as client:
                facts = try_explainer(client, name)
        except Unavailable as error:
            remedy = (
                "scoring.explanation_endpoint: an endpoint that exists; allow "
                "sagemaker:DescribeEndpoint to see it, sagemaker:InvokeEndpoint to use it"
            )
            text = f"{name} was not found or cannot be described: {error}"
            return [Finding("explanations", Level.WARN, text, remedy)]
        rows = ClarifyExplanations.max_rows
        return [judge_explainer(name, facts, self._plan.names, rows)]

    def _rest_access(self) -> Sequence[Finding]:
        source, api = build_access_source(self._settings), self._settings.api
        if source is None:
            return [rest_checkup.no_list(api)]
        try:
            access = parse_access(source.read(), source.place)
        except Misconfigured as error:
            return rest_checkup.list_problems(error.problems)
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        return rest_checkup.judge_access(access, api, source.place, now)

    def _rest_service(self) -> Sequence[Finding]:
        installed = all(find_spec(name) for name in ("starlette", "uvicorn", "uvloop"))
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        files = None if hard == resource.RLIM_INFINITY else hard
        return rest_checkup.judge_service(self._settings, installed=installed, files=files)

    def _clocks(self) -> Sequence[Finding]:
        return [judge_clock(self._skews_s)] if self._skews_s else []

    def _servers(self) -> list[tuple[str, Client, bool]]:
        """(subject, client, whether documents live there); the documents' server comes last."""
        redis = self._settings.redis
        features, documents = (
            (url or redis.url).get_secret_value()
            for url in (redis.features_url, redis.documents_url)
        )
        named = [("redis", documents, True)]
        if features != documents:
            named = [("redis features", features, False), ("redis documents", documents, True)]
        return [
            (subject, self._stack.enter_context(closing(self._connect(url))), holds)
            for subject, url, holds in named
        ]

    def _connect(self, url: str) -> Client:
        redis = self._settings.redis
        return connect(
            url, connect_timeout_s=redis.connect_timeout_s, timeout_s=max(redis.timeout_s, 5.0)
        )

    def _aws_client(self, service: aws.Service) -> Any:
        return aws.client(
            service,
            dynamodb_address(self._settings) if service == "dynamodb" else self._settings.aws,
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            read_timeout_s=_READ_TIMEOUT_S,
            max_pool_connections=1,
        )
