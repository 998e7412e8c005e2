"""What a worker tells about itself: each event moves its metrics and its heartbeat together."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import Counter as PrometheusCounter

from consumer.bands import THRESHOLDS
from consumer.breaker import BreakerState
from consumer.clock import Clock
from consumer.decision import Policy
from consumer.engine import Settled
from consumer.errors import Problem, Rejected, Unavailable
from consumer.features.warmth import format_until
from consumer.heartbeat import Heartbeat
from consumer.intake import Batch
from consumer.logs import get_logger
from consumer.metric_files import NOTHING
from consumer.metrics import Metrics
from consumer.model import (
    Applied,
    Assessment,
    LabelOutcome,
    Position,
    Record,
    Ruled,
    ShardId,
    Stored,
)
from consumer.rules.accepted import Accepted
from consumer.rules.compilation import RuleSet
from consumer.rules.specification import Mode
from consumer.rules.state import RulesState
from consumer.stages import WAITING

_HASH_DIGITS = 16

_RECORD_OUTCOMES = {
    Stored.CREATED: "decided",
    Stored.REDELIVERED: "redelivered",
    Stored.EXISTING: "duplicate",
    Stored.CONFLICT: "conflict",
}

Follower = Callable[[Sequence[Assessment]], None]


class WorkerTelemetry:
    """The telemetry of one worker process."""

    def __init__(
        self, metrics: Metrics, heartbeat: Heartbeat, clock: Clock, entities: Sequence[str]
    ) -> None:
        """*entities* are the plan's, in its order, to name what an observation says of each."""
        self._metrics = metrics
        self._heartbeat = heartbeat
        self._clock = clock
        self._entities = tuple(entities)
        self._log = get_logger(__name__)
        self._shard_id = ShardId("")
        self._followers: list[Follower] = []
        self._rules: str | None = None
        self._rules_state = RulesState()
        for endpoint in ("fraud", "anomaly"):
            metrics.breaker_state.labels(endpoint).set(BreakerState.CLOSED)

    def follow(self, hear: Follower) -> None:
        """
        Have *hear* called with the assessments of each chunk whose documents are new.

        And with none at each empty delivery.
        """
        self._followers.append(hear)

    def points(self, outcome: str, number: int) -> None:
        """So many points of the time series were sent, or dropped for a cause."""
        self._metrics.timeseries_points.labels(outcome).inc(number)

    def spent(self, stage: str, seconds: float) -> None:
        """A chunk took *seconds* in *stage*."""
        self._metrics.stage_seconds.labels(stage).observe(seconds)

    def started(self, shard_id: ShardId) -> None:
        """A shard was taken up."""
        self._shard_id = shard_id
        self._heartbeat.shard(shard_id)
        self._log.info("shard taken up")

    def stage(self, name: str) -> None:
        """The worker entered stage *name*."""
        # A plain text, as every key and value of what is written is to be.
        self._heartbeat.stage(str(name))

    def waiting(self, error: Unavailable, waited_s: float) -> None:
        """A dependency is not available and the worker waits for it."""
        self._heartbeat.stage(f"{WAITING}{error.dependency}")
        self._metrics.dependency_errors.labels(error.dependency, "unavailable").inc()
        self._log.warning(
            "waiting", dependency=error.dependency, error=str(error), waited_s=round(waited_s, 1)
        )

    def endpoint_failed(self, endpoint: str, cause: str) -> None:
        """A request to a model gave no usable answer in time."""
        self._metrics.dependency_errors.labels("endpoint", f"{endpoint}:{cause}").inc()
        self._log.warning("endpoint failed", endpoint=endpoint, cause=cause)

    def firehose_failed(self, cause: str) -> None:
        """One attempt to send rows failed and is repeated."""
        self._metrics.dependency_errors.labels("firehose", cause).inc()
        self._log.warning("firehose failed", cause=cause)

    def spilling_changed(self, begun: bool) -> None:  # noqa: FBT001 - a hook
        """Rows go to S3 instead of Firehose from now on, or no longer do."""
        self._metrics.spilling.set(1 if begun else 0)
        if begun:
            self._log.error("firehose takes no rows: they go to S3")
        else:
            self._log.warning("firehose takes rows again")

    def rows_spilled(self, rows: int) -> None:
        """*rows* were stored in S3 instead of Firehose."""
        self._metrics.spilled_rows.inc(rows)
        self._log.warning("rows spilled", rows=rows)

    def endpoint_answered(self, endpoint: str, seconds: float) -> None:
        """A request to a model ended, well or not, after *seconds*."""
        self._metrics.endpoint_seconds.labels(endpoint).observe(seconds)

    def breaker_changed(self, endpoint: str, state: BreakerState) -> None:
        """The breaker of a model's endpoint opened, half-opened or closed."""
        self._metrics.breaker_state.labels(endpoint).set(state)
        log = self._log.info if state is BreakerState.CLOSED else self._log.warning
        log("breaker changed", endpoint=endpoint, state=state.name.lower())

    def feature_hash_compared(self, endpoint: str, matches: bool) -> None:  # noqa: FBT001 - a hook
        """A model's feature list was compared with the one in use."""
        self._metrics.feature_hash_mismatch.labels(endpoint).set(0 if matches else 1)

    def bands_changed(self, endpoint: str, policy: Policy | None) -> None:
        """The bands of a model are in force, or (None) it is served and has none."""
        self._metrics.bands_missing.labels(endpoint).set(0 if policy else 1)
        if policy is not None:
            for name in THRESHOLDS[endpoint]:
                self._metrics.threshold.labels(name).set(getattr(policy.bands, name))

    def bands_unread(self, endpoint: str) -> None:
        """A look found no bands of the model that is served, where there should be some."""
        self._metrics.bands_unread.labels(endpoint).inc()

    def drifted(self, name: str, psi: float | None) -> None:
        """A feature or score was compared with those of training; None: too few came for that."""
        self._metrics.psi.labels(name).set(NOTHING if psi is None else psi)

    def explained(self, outcome: str, count: int) -> None:
        """Explanations were ``written`` or ``dropped``."""
        self._metrics.explanations.labels(outcome).inc(count)

    def assessed_again(self, outcome: str, count: int) -> None:
        """Decisions without a score got a second assessment; see the metric for *outcome*."""
        self._metrics.second_assessments.labels(outcome).inc(count)

    def delivered(self, records: Sequence[Record]) -> None:
        """A delivery of *records* (at least one) is about to be worked."""
        self._heartbeat.delivered(records[0].position, records[-1].position)

    def under_way(self, first: Position, last: Position) -> None:
        """The records from *first* to *last* are begun and not finished."""
        self._heartbeat.under_way(first, last)

    def nothing_under_way(self) -> None:
        """Every record that was begun is finished."""
        self._heartbeat.nothing_under_way()

    def crashed(self, position: Position, error: Rejected) -> None:
        """A record is not tried again, because it ended the process too often."""
        self._log.error(
            "a record is dead-lettered as crashed", position=str(position), reason=error.message
        )

    def sorted(self, batch: Batch) -> None:
        """A chunk was decoded."""
        _count(self._metrics.records, {"label": len(batch.labels)})
        future = sum(incoming.future for incoming in batch.incoming)
        if future:
            self._metrics.future_events.inc(future)
        for error, count in Counter(letter.error for letter in batch.letters).items():
            self._metrics.records.labels("dead_letter").inc(count)
            self._metrics.dead_letters.labels(error).inc(count)
            self._log.warning("records rejected", error=error, count=count)

    def settled(self, settled: Sequence[Settled]) -> None:
        """A chunk was decided and stored."""
        now_ms = self._clock.now_ms()
        _count(
            self._metrics.records,
            Counter(_RECORD_OUTCOMES[each.stored.stored] for each in settled),
        )
        stored = Counter(each.stored.stored for each in settled)
        self._metrics.duplicates.inc(stored[Stored.EXISTING])
        if stored[Stored.CONFLICT]:
            self._metrics.conflicts.inc(stored[Stored.CONFLICT])
            self._metrics.dead_letters.labels("conflict").inc(stored[Stored.CONFLICT])
            self._log.warning("conflicting transactions", count=stored[Stored.CONFLICT])
        created = [each.assessment for each in settled if each.stored.stored is Stored.CREATED]
        self._decided(created, now_ms)
        for follow in self._followers:
            follow(created)

    def labelled(self, outcomes: Sequence[LabelOutcome]) -> None:
        """Labels were worked."""
        _count(self._metrics.labels, Counter(outcomes))

    def progressed(self, position: Position | None, millis_behind: int | None) -> None:
        """A delivery was worked through, maybe an empty one."""
        self._heartbeat.progress(position, millis_behind)
        if position is None:
            # What followers tell of grows old without traffic, too.
            for follow in self._followers:
                follow(())
        if millis_behind is not None:
            self._metrics.millis_behind_latest.labels(self._shard_id).set(millis_behind)

    def checkpointed(self, position: Position) -> None:
        """The KCL stored a checkpoint."""
        self._heartbeat.checkpointed(position)

    def _decided(self, assessments: Sequence[Assessment], now_ms: int) -> None:
        metrics = self._metrics
        outcomes: Counter[str] = Counter()
        causes: Counter[str] = Counter()
        late: Counter[str] = Counter()
        origins = [assessment.origin for assessment in assessments]
        metrics.arrival_to_decision.observe_all([(now_ms - o.arrival_ms) / 1000 for o in origins])
        metrics.receive_to_decision.observe_all([(now_ms - o.received_ms) / 1000 for o in origins])
        for assessment in assessments:
            outcomes[assessment.decision.outcome] += 1
            if assessment.scores.degraded:
                causes.update(assessment.scores.degraded)
            self._ruled(assessment.rules)
            if Applied.LATE in assessment.observation.applied:
                late.update(self._late(assessment.observation.applied))
        _count(metrics.decisions, outcomes)
        _count(metrics.degraded, causes)
        _count(metrics.late_dropped, late)

    def rules_active(self, rules: RuleSet) -> None:
        """*rules* decide from now on."""
        metrics, version = self._metrics, rules.specification.hash[:_HASH_DIGITS]
        if self._rules is not None:
            metrics.rules_info.labels(self._rules).set(0)
        metrics.rules_info.labels(version).set(1)
        metrics.rules_active_since.set(self._clock.now_ms() / 1000)
        metrics.rules_restored.set(0)
        for mode in Mode:
            metrics.rules_mode.labels(mode).set(1 if mode is rules.mode else 0)
        self._rules = version
        state = self._rules_state
        state.mode, state.copy, state.tripped = rules.mode, "", ""
        self._heartbeat.rules(state.note())
        self._log.info(
            "rules taken over",
            rules=version,
            lists=rules.lists.hash[:_HASH_DIGITS],
            mode=str(rules.mode),
            versions=[f"{each.rule.rule_id}@{each.rule.version}" for each in rules.rules],
        )

    def rules_restored(self, copy: Accepted) -> None:
        """The files could not be used at the start; *copy* decides instead."""
        self._metrics.rules_restored.set(1)
        self._rules_state.copy = copy.place
        self._heartbeat.rules(self._rules_state.note())
        self._log.error("deciding by the last good copy of the rules", copy=copy.place)

    def rules_kept(self, accepted: Accepted) -> None:
        """A set is the last good one now."""
        self._log.info(
            "rules kept as the last good ones",
            rules=accepted.version,
            lists="whole" if accepted.lists is not None else "too large: their hash alone",
        )

    def rules_not_kept(self, version: str, cause: str) -> None:
        """The set *version* decides, and a start with broken files would not have it."""
        self._log.warning("rules not kept as the last good ones", rules=version, cause=cause)

    def rules_refused(self, problems: Sequence[Problem]) -> None:
        """A new version of rules or lists is broken; those in force stay."""
        self._metrics.rules_refused.inc()
        self._rules_state.refused = True
        self._heartbeat.rules(self._rules_state.note())
        self._log.error("rules refused", problems=[str(problem) for problem in problems])

    def rules_usable(self) -> None:
        """The version in the files can be used, and takes over before the next chunk."""
        self._rules_state.refused = False
        self._heartbeat.rules(self._rules_state.note())

    def rules_unreachable(self, error: Unavailable) -> None:
        """Rules or lists could not be read; those in force stay."""
        self._metrics.dependency_errors.labels(error.dependency, "rules").inc()
        self._log.warning("rules unreachable", error=str(error))

    def rules_tripped(self, rules: RuleSet, lifted: int, seen: int) -> None:
        """A change declined *lifted* of *seen* transactions more and is in shadow now."""
        self._metrics.rules_tripped.inc()
        self._rules_state.tripped = rules.specification.hash[:_HASH_DIGITS]
        self._heartbeat.rules(self._rules_state.note())
        self._log.error(
            "rules tripped: the version before decides again",
            rules=rules.specification.hash[:_HASH_DIGITS],
            lists=rules.lists.hash[:_HASH_DIGITS],
            more_declined=lifted,
            of=seen,
        )

    def features_warming(self, until_s: Mapping[str, float], full: Sequence[str]) -> None:
        """Features are warming until a time of events, infinite until the first; *full* were."""
        self._metrics.features_warming.set(len(until_s))
        if full:
            self._log.info("features full", features=list(full))
        if until_s:
            until = {name: format_until(each) for name, each in sorted(until_s.items())}
            self._log.info("features warming", until=until)

    def _ruled(self, ruled: Ruled) -> None:
        for mode, hits in (("live", ruled.live), ("shadow", ruled.shadow)):
            for hit in hits:
                self._metrics.rule_hits.labels(hit.rule_id, mode).inc()
        for rule_id in ruled.errors:
            self._metrics.rule_errors.labels(rule_id).inc()

    def _late(self, applied: Iterable[Applied]) -> list[str]:
        return [
            entity
            for entity, status in zip(self._entities, applied, strict=True)
            if status is Applied.LATE
        ]


def _count(counter: PrometheusCounter, counts: Mapping[str, int]) -> None:
    """Add *counts* (label value → how many) to *counter*, making no series for a zero."""
    for label, count in counts.items():
        if count:
            counter.labels(label).inc(count)
