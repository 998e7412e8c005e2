"""
Every metric of the daemon: name, labels and meaning, in one place.

Workers are one process a shard, so their metrics live in files that the
supervisor adds up (``metric_files.py``); ``PROMETHEUS_MULTIPROC_DIR`` must be in
the environment before ``prometheus_client`` is imported for that. The
supervisor's own stay in its memory. A label never carries a card, a
transaction or a sequence number: each distinct value is a series for ever.
"""

import platform
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

# Records taken from the stream, by what became of them: decided, duplicate,
# conflict, label, dead_letter.
RECORDS = "fraudstream_records_total"
# Decisions that were stored as new documents, by outcome.
DECISIONS = "fraudstream_decisions_total"
# Seconds a chunk spent in one stage of the worker.
STAGE_SECONDS = "fraudstream_stage_seconds"
# From the record's arrival in Kinesis to its stored decision; includes the poll.
ARRIVAL_TO_DECISION_SECONDS = "fraudstream_arrival_to_decision_seconds"
# From the delivery to the worker to the stored decision; what this code answers for.
RECEIVE_TO_DECISION_SECONDS = "fraudstream_receive_to_decision_seconds"
# How far a shard's reader is behind the tip of the stream, as Kinesis says.
MILLIS_BEHIND_LATEST = "fraudstream_millis_behind_latest"
# Failed calls, by dependency (redis, firehose, s3, kinesis, dynamodb, endpoint) and cause.
DEPENDENCY_ERRORS = "fraudstream_dependency_errors_total"
# Transactions decided without a score, by score and cause.
DEGRADED = "fraudstream_degraded_total"
# Records stored as dead letters, by error code.
DEAD_LETTERS = "fraudstream_dead_letters_total"
# Seconds since the oldest finished record that no checkpoint covers; 0 when none waits.
CHECKPOINT_AGE_SECONDS = "fraudstream_checkpoint_age_seconds"
# Events behind the id horizon of an entity, which therefore changed nothing there.
LATE_DROPPED = "fraudstream_late_dropped_total"
# Events that claim a time after their arrival, clamped to it.
FUTURE_EVENTS = "fraudstream_future_events_total"
# Transactions whose id was decided before, with the same content.
DUPLICATES = "fraudstream_duplicates_total"
# Transactions whose id was decided before, with other content.
CONFLICTS = "fraudstream_conflicts_total"
# Labels, by what became of them: applied, repeated, superseded, unmatched (its
# transaction is yet to come), expired (its document is gone, entity state was told).
LABELS = "fraudstream_labels_total"
# Seconds of one request to a model endpoint.
ENDPOINT_SECONDS = "fraudstream_endpoint_seconds"
# The circuit breaker of a model endpoint: 0 closed, 1 half-open, 2 open (its score is not
# asked for); the worst of the workers.
BREAKER_STATE = "fraudstream_breaker_state"
# Whether a model was trained on another feature list than the one in use: 1 means that its
# score is not used. No series where the endpoint has no tag to compare.
FEATURE_HASH_MISMATCH = "fraudstream_feature_hash_mismatch"
# Whether a model is served whose bands (thresholds) nobody knows: 1 means that its score is not
# used.
BANDS_MISSING = "fraudstream_bands_missing"
# Looks at an endpoint, one each scoring.tag_check_s, that found no bands of its model where there
# were some before: the bands in force stay while the configuration does, a new start has none.
BANDS_UNREAD = "fraudstream_bands_unread_total"
# The thresholds in force: fraud_review, fraud_decline, anomaly_review; the highest of the workers.
THRESHOLD = "fraudstream_threshold"
# Population stability index of a feature (or score_fraud, score_anomaly) against training, of the
# worst worker: below 0.1 stable, above 0.25 another population.
PSI = "fraudstream_psi"
# Reviews and declines by what became of their explanation: written, dropped.
EXPLANATIONS = "fraudstream_explanations_total"
# Decisions made without a score, by what a second assessment with all scores says of them: worse
# (an alert was sent), same, milder, unwritten (the document is gone, or was assessed before),
# dropped (too many waited, or too long, or the worker left).
SECOND_ASSESSMENTS = "fraudstream_second_assessments_total"
# Rows that Firehose did not take in time and that were stored in S3 beside its output.
SPILLED_ROWS = "fraudstream_spilled_rows_total"
# Points of decisions for the time series, by what became of them: sent, full (no room in the
# buffer), refused (the database takes none such), unavailable.
TIMESERIES_POINTS = "fraudstream_timeseries_points_total"
# Whether rows go to S3 instead of Firehose: 1 while they do; the worst of the workers.
SPILLING = "fraudstream_spilling"
# Times the KCL and all its workers were ended and started again, by cause: worker_died (by a signal
# or without a word), out_of_memory, worker_left (by its own decision), watchdog, java_killed,
# java_left, java_silent (it called no worker), java_skipped (it was about to leave records out),
# no_worker (shards waited for an owner), stuck_lease.
RESTARTS = "fraudstream_restarts_total"
# Transactions in which a rule found what it looks for, by rule and mode: live or shadow.
RULE_HITS = "fraudstream_rule_hits_total"
# Transactions for which a rule gave no value, by rule.
RULE_ERRORS = "fraudstream_rule_errors_total"
# Workers that decide by a version of the rules; the label is the beginning of its hash. Not of the
# lists: they change too often for a series each.
RULES_INFO = "fraudstream_rules_info"
# When the rules in force took over, in seconds since the epoch; the longest ago of all workers.
RULES_ACTIVE_SINCE = "fraudstream_rules_active_since_timestamp_seconds"
# Features whose state is younger than their window, so that rules on them are in shadow; of the
# worker that knows the most of them.
FEATURES_WARMING = "fraudstream_features_warming"
# Workers by the mode of the rules in force: live, shadow or off. Anything but live means that
# scores alone decide there.
RULES_MODE = "fraudstream_rules_mode"
# New versions of rules or lists that were refused because something in them is wrong.
RULES_REFUSED = "fraudstream_rules_refused_total"
# Whether a worker decides by the last good copy of rules and lists, since those in the files cannot
# be used: 1 while one does.
RULES_RESTORED = "fraudstream_rules_restored"
# Changes that lifted the share of declines past its limit and were put into shadow.
RULES_TRIPPED = "fraudstream_rules_tripped_total"
# Answers of the REST service, by route, method and status.
API_ANSWERS = "fraudstream_api_answers_total"
# Seconds from the head of a request to the end of its answer, by route; streams are left out.
API_SECONDS = "fraudstream_api_seconds"
# Transactions that were let in over REST and are not answered.
API_IN_FLIGHT = "fraudstream_api_in_flight"
# Transactions that were refused early, by reason: in_flight, wait (429), outage, rows (503).
API_SHED = "fraudstream_api_shed_total"
# Transactions asked about over REST, by what became of them: decided, repeated (decided before),
# conflict, dry_run, failed.
API_PREDICTIONS = "fraudstream_api_predictions_total"
# Transactions of REST that were decided together.
API_CHUNK = "fraudstream_api_chunk_transactions"
# Requests to the REST service that were not let in, by flaw: unsigned, malformed, incomplete,
# wrong_scope, wrong_host, outside_time_window, payload, unknown_key_or_signature, expired_key,
# gateway, session, cross_site; scope where somebody known may not do what was asked.
API_NOT_LET_IN = "fraudstream_api_not_let_in_total"
# When the list of access was last read without fault, in seconds since the epoch.
API_ACCESS_READ = "fraudstream_api_access_read_timestamp_seconds"
# Looks at the list of access that changed nothing because of a fault, by cause: refused (it is
# wrong), unavailable (it could not be read). The last good list stays in force.
API_ACCESS_ERRORS = "fraudstream_api_access_errors_total"
# Always 1; the labels name the versions.
BUILD_INFO = "fraudstream_build"

# 1 ms to 10 s: the latency targets lie between 15 and 100 ms, an outage beyond 10 s.
_MILLISECONDS = (1, 2.5, 5, 10, 15, 25, 50, 75, 100, 250, 500, 1_000, 2_500, 5_000, 10_000)
BUCKETS_S = tuple(milliseconds / 1_000 for milliseconds in _MILLISECONDS)
CHUNK_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class ChunkHistogram(Histogram):
    """A histogram without labels that takes the values of a chunk at a time."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """As ``observe`` for each of *amounts*, at a tenth of the price where they are many."""
        self._sum.inc(sum(amounts))
        places = Counts(bisect_left(self._upper_bounds, amount) for amount in amounts)
        for place, count in places.items():
            self._buckets[place].inc(count)


class Metrics:
    """What a worker counts and times. Given a registry, so that tests share nothing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(name, meaning, labels, registry=registry)

        def seconds(name: str, meaning: str, *labels: str) -> Histogram:
            return Histogram(name, meaning, labels, registry=registry, buckets=BUCKETS_S)

        def worst(name: str, meaning: str, *labels: str) -> Gauge:
            """A gauge of which a scrape shows the highest among the living workers."""
            return Gauge(name, meaning, labels, registry=registry, multiprocess_mode="livemax")

        self.records = counter(RECORDS, "Records by outcome", "outcome")
        self.decisions = counter(DECISIONS, "Decisions by outcome", "outcome")
        self.stage_seconds = seconds(STAGE_SECONDS, "Seconds a chunk spends in a stage", "stage")
        self.arrival_to_decision = ChunkHistogram(
            ARRIVAL_TO_DECISION_SECONDS,
            "Seconds from arrival in Kinesis to the stored decision",
            registry=registry,
            buckets=BUCKETS_S,
        )
        self.receive_to_decision = ChunkHistogram(
            RECEIVE_TO_DECISION_SECONDS,
            "Seconds from delivery to the stored decision",
            registry=registry,
            buckets=BUCKETS_S,
        )
        self.millis_behind_latest = worst(
            MILLIS_BEHIND_LATEST, "Milliseconds behind the tip of the stream", "shard"
        )
        self.dependency_errors = counter(
            DEPENDENCY_ERRORS, "Failed calls to a dependency", "dependency", "cause"
        )
        self.degraded = counter(DEGRADED, "Transactions decided without a score", "cause")
        self.dead_letters = counter(DEAD_LETTERS, "Records stored as dead letters", "error")
        self.late_dropped = counter(LATE_DROPPED, "Events too late to change an entity", "entity")
        self.future_events = counter(FUTURE_EVENTS, "Events clamped to their arrival")
        self.duplicates = counter(DUPLICATES, "Transactions decided before")
        self.conflicts = counter(CONFLICTS, "Transactions decided before with other content")
        self.labels = counter(LABELS, "Labels by outcome", "outcome")
        self.endpoint_seconds = seconds(ENDPOINT_SECONDS, "Seconds of an endpoint", "endpoint")
        self.breaker_state = worst(BREAKER_STATE, "0 closed, 1 half-open, 2 open", "endpoint")
        self.psi = worst(PSI, "Population stability index against training", "feature")
        self.explanations = counter(EXPLANATIONS, "Explanations by outcome", "outcome")
        self.second_assessments = counter(
            SECOND_ASSESSMENTS, "Second assessments by what they say of the decision", "outcome"
        )
        self.timeseries_points = counter(
            TIMESERIES_POINTS, "Points of decisions by what became of them", "outcome"
        )
        self.spilled_rows = counter(SPILLED_ROWS, "Rows stored in S3 instead of Firehose")
        self.spilling = worst(SPILLING, "1 while rows go to S3 instead of Firehose")
        self.feature_hash_mismatch = worst(
            FEATURE_HASH_MISMATCH, "1 for a model of other features", "endpoint"
        )
        self.bands_missing = worst(
            BANDS_MISSING, "1 for a model whose thresholds are not known", "endpoint"
        )
        self.bands_unread = counter(
            BANDS_UNREAD, "Looks that found no thresholds of a model", "endpoint"
        )
        self.threshold = worst(THRESHOLD, "Thresholds of the scores in force", "name")

        self._add_rules(registry)

    def _add_rules(self, registry: CollectorRegistry) -> None:
        self.rule_hits = Counter(RULE_HITS, "Hits of a rule", ("rule", "mode"), registry=registry)
        self.rule_errors = Counter(
            RULE_ERRORS, "Evaluations of a rule without a value", ("rule",), registry=registry
        )
        self.rules_info = Gauge(
            RULES_INFO,
            "Workers by version of the rules",
            ("rules",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.rules_mode = Gauge(
            RULES_MODE,
            "Workers by mode of the rules",
            ("mode",),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.rules_active_since = Gauge(
            RULES_ACTIVE_SINCE,
            "When the rules in force took over",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.features_warming = Gauge(
            FEATURES_WARMING,
            "Features that are not full",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.rules_refused = Counter(RULES_REFUSED, "Broken versions of rules", registry=registry)
        self.rules_restored = Gauge(
            RULES_RESTORED,
            "1 while the last good copy of the rules decides",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.rules_tripped = Counter(
            RULES_TRIPPED, "Changes of rules put into shadow", registry=registry
        )


class SupervisorMetrics:
    """What only the supervisor knows: restarts, and what is running."""

    def __init__(self, registry: CollectorRegistry, version: str) -> None:
        self.restarts = Counter(
            RESTARTS, "Restarts of the KCL and its workers", ("cause",), registry=registry
        )
        info = Info(BUILD_INFO, "Versions of what is running", registry=registry)
        info.info({"version": version, "python": platform.python_version()})


class ApiMetrics:
    """What the REST service counts of its answers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.answers = Counter(
            API_ANSWERS, "Answers by status", ("route", "method", "status"), registry=registry
        )
        self.seconds = Histogram(
            API_SECONDS, "Seconds of a request", ("route",), registry=registry, buckets=BUCKETS_S
        )
        self.in_flight = Gauge(API_IN_FLIGHT, "Transactions under way", registry=registry)
        self.shed = Counter(
            API_SHED, "Transactions that were refused early", ("reason",), registry=registry
        )
        self.predictions = Counter(
            API_PREDICTIONS, "Transactions by what became of them", ("result",), registry=registry
        )
        self.chunk = Histogram(
            API_CHUNK, "Transactions decided together", registry=registry, buckets=CHUNK_BUCKETS
        )


class AccessMetrics:
    """What the REST service counts of who asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.refused = Counter(
            API_NOT_LET_IN, "Requests that were not let in", ("flaw",), registry=registry
        )
        self.list_read = Gauge(
            API_ACCESS_READ, "When the list of access was last read", registry=registry
        )
        self.list_errors = Counter(
            API_ACCESS_ERRORS, "Faults of the list of access", ("cause",), registry=registry
        )
