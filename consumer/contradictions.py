"""
What two settings together must not say.

Each value may be fine by itself and still make the daemon lose its guarantees
in combination: a worker that the KCL ends before it gives up by itself, say.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from consumer.settings import Settings

LEADER_LOCK_S = 120.0
"""The lock of the KCL's leader stands this long after its end (KCL 3.1.3)."""

# A takeover took 190 s at most with the default failover time, and 183 s with two seconds.
_START_FAILOVERS = 8
SHORTEST_RETENTION_S = 86_400
"""Kinesis keeps records for 24 hours at least (PutRecords, service limits)."""


@dataclass(frozen=True, slots=True)
class Contradiction:
    """``key`` cannot be what it is because of ``others``; ``expected`` says why."""

    key: str
    others: tuple[str, ...]
    found: str
    expected: str


def find_contradictions(settings: Settings) -> list[Contradiction]:
    """Find every contradiction in *settings*, in the order of the sections."""
    return [
        *_kcl(settings),
        *_redis(settings),
        *_scoring(settings),
        *_firehose(settings),
        *_daemon(settings),
        *_auth(settings),
    ]


def _kcl(settings: Settings) -> Iterator[Contradiction]:
    kcl = settings.kcl
    if kcl.idle_time_between_reads_ms >= kcl.failover_time_ms:
        yield Contradiction(
            "kcl.idle_time_between_reads_ms",
            ("kcl.failover_time_ms",),
            str(kcl.idle_time_between_reads_ms),
            f"less than kcl.failover_time_ms ({kcl.failover_time_ms}), after which a lease is lost",
        )
    if kcl.shutdown_grace_ms >= kcl.child_timeout_s * 1_000:
        yield Contradiction(
            "kcl.shutdown_grace_ms",
            ("kcl.child_timeout_s",),
            str(kcl.shutdown_grace_ms),
            f"less than kcl.child_timeout_s ({kcl.child_timeout_s} s), or a drain is cut short",
        )


def _redis(settings: Settings) -> Iterator[Contradiction]:
    redis, limit_s = settings.redis, 2 * settings.worker.progress_limit_s
    if redis.timeout_s >= redis.outage_limit_s:
        yield Contradiction(
            "redis.timeout_s",
            ("redis.outage_limit_s",),
            f"{redis.timeout_s:g}",
            f"less than redis.outage_limit_s ({redis.outage_limit_s:g}), so that a reply can be "
            "waited for more than once",
        )
    if redis.wait_replicas and redis.wait_timeout_ms >= 1000 * redis.timeout_s:
        yield Contradiction(
            "redis.wait_timeout_ms",
            ("redis.timeout_s",),
            str(redis.wait_timeout_ms),
            f"less than redis.timeout_s ({redis.timeout_s:g} s), or the reply comes too late",
        )
    if redis.outage_limit_s >= limit_s:
        yield Contradiction(
            "redis.outage_limit_s",
            ("worker.progress_limit_s",),
            f"{redis.outage_limit_s:g}",
            f"less than twice worker.progress_limit_s ({limit_s:g}), when the watchdog ends the "
            "worker that still waits",
        )
    if redis.document_ttl_s <= SHORTEST_RETENTION_S:
        yield Contradiction(
            "redis.document_ttl_s",
            (),
            str(redis.document_ttl_s),
            f"more than {SHORTEST_RETENTION_S}, the shortest retention of a Kinesis stream: a "
            "record must not outlive its decision",
        )


def _firehose(settings: Settings) -> Iterator[Contradiction]:
    after_s, limit_s = settings.firehose.spill.after_s, settings.redis.outage_limit_s
    if settings.firehose.spill.bucket and after_s >= limit_s:
        yield Contradiction(
            "firehose.spill.after_s",
            ("redis.outage_limit_s",),
            f"{after_s:g}",
            f"less than redis.outage_limit_s ({limit_s:g}), the longest that a worker waits",
        )


def _scoring(settings: Settings) -> Iterator[Contradiction]:
    scoring, decision = settings.scoring, settings.decision
    if scoring.fraud.name == scoring.anomaly.name:
        yield Contradiction(
            "scoring.anomaly.name",
            ("scoring.fraud.name",),
            repr(scoring.anomaly.name),
            "another endpoint than scoring.fraud.name",
        )
    if scoring.explanations == "endpoint" and scoring.explanation_endpoint is None:
        yield Contradiction(
            "scoring.explanation_endpoint",
            ("scoring.explanations",),
            "nothing",
            "the name of an endpoint with a ClarifyExplainerConfig, or scoring.explanations: "
            "archive or off",
        )
    if scoring.explanation_endpoint in {scoring.fraud.name, scoring.anomaly.name}:
        yield Contradiction(
            "scoring.explanation_endpoint",
            ("scoring.fraud.name", "scoring.anomaly.name"),
            repr(scoring.explanation_endpoint),
            "an endpoint of its own: one with a ClarifyExplainerConfig answers in another schema, "
            "and explaining would hold up decisions",
        )
    if scoring.breaker.minimum > scoring.breaker.window:
        yield Contradiction(
            "scoring.breaker.minimum",
            ("scoring.breaker.window",),
            str(scoring.breaker.minimum),
            f"at most scoring.breaker.window ({scoring.breaker.window}), or it never opens",
        )
    if scoring.connect_timeout_ms > scoring.deadline_ms:
        yield Contradiction(
            "scoring.connect_timeout_ms",
            ("scoring.deadline_ms",),
            str(scoring.connect_timeout_ms),
            f"at most scoring.deadline_ms ({scoring.deadline_ms})",
        )
    review, decline = decision.fraud_review, decision.fraud_decline
    # What a model proposes is compared when it is known.
    if review != "model" and decline != "model" and review > decline:
        yield Contradiction(
            "decision.fraud_review",
            ("decision.fraud_decline",),
            f"{review:g}",
            f"at most decision.fraud_decline ({decline:g})",
        )


def _daemon(settings: Settings) -> Iterator[Contradiction]:
    worker, kcl, supervisor = settings.worker, settings.kcl, settings.supervisor
    if 2 * worker.progress_limit_s > kcl.child_timeout_s:
        yield Contradiction(
            "worker.progress_limit_s",
            ("kcl.child_timeout_s",),
            f"{worker.progress_limit_s:g}",
            f"at most half of kcl.child_timeout_s ({kcl.child_timeout_s}): the worker's own "
            "watchdog, at twice its limit, comes before the KCL's",
        )
    start_s = LEADER_LOCK_S + _START_FAILOVERS * kcl.failover_time_ms / 1000
    if supervisor.lease_limit_s <= start_s:
        yield Contradiction(
            "supervisor.lease_limit_s",
            ("kcl.failover_time_ms",),
            f"{supervisor.lease_limit_s:g}",
            f"more than {start_s:g} ({LEADER_LOCK_S:g} s and {_START_FAILOVERS} times "
            "kcl.failover_time_ms), which a start under another id or a takeover may take",
        )
    if supervisor.restart_backoff_s > supervisor.restart_backoff_max_s:
        yield Contradiction(
            "supervisor.restart_backoff_s",
            ("supervisor.restart_backoff_max_s",),
            f"{supervisor.restart_backoff_s:g}",
            f"at most supervisor.restart_backoff_max_s ({supervisor.restart_backoff_max_s:g})",
        )


def _auth(settings: Settings) -> Iterator[Contradiction]:
    auth = settings.api.auth
    if auth.access_file is not None and auth.access_secret is not None:
        yield Contradiction(
            "api.auth.access_secret",
            ("api.auth.access_file",),
            auth.access_secret,
            "one list of access: api.auth.access_file or this",
        )
    if auth.kind == "gateway" and auth.access_file is None and auth.access_secret is None:
        yield Contradiction(
            "api.auth.kind",
            ("api.auth.access_file", "api.auth.access_secret"),
            auth.kind,
            "api.auth.access_file or api.auth.access_secret with callers and gateway_secrets",
        )
    if auth.session_idle_s > auth.session_lifetime_s:
        yield Contradiction(
            "api.auth.session_idle_s",
            ("api.auth.session_lifetime_s",),
            f"{auth.session_idle_s:g}",
            f"at most api.auth.session_lifetime_s ({auth.session_lifetime_s:g})",
        )
