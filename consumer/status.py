"""What ``/metrics``, ``/healthz`` and ``/readyz`` say, from the files the workers keep."""

from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from consumer.clock import Clock
from consumer.contradictions import LEADER_LOCK_S
from consumer.health import (
    Probe,
    Situation,
    checkpoint_age_s,
    describe,
    lease_problems,
    liveness_problems,
)
from consumer.heartbeat import read_heartbeats
from consumer.lease_watch import LeaseWatch
from consumer.metric_files import MetricFiles
from consumer.metrics import CHECKPOINT_AGE_SECONDS, SupervisorMetrics
from consumer.settings import Settings
from consumer.status_server import PROMETHEUS_TEXT, Answer, health_answer


class Status:
    """
    The supervisor writes the attributes; the status server's threads read.

    ``initialized_s`` is when the KCL began to take part in lease assignment,
    ``leases`` what looks for shards that nobody reads.
    """

    def __init__(
        self,
        settings: Settings,
        files: MetricFiles,
        probes: Mapping[str, Probe],
        clock: Clock,
        version: str,
    ) -> None:
        self.kcl_running = False
        self.stopping = False
        self.held = ""
        self.initialized_s: float | None = None
        self.leases: LeaseWatch | None = None
        self._run_dir = settings.supervisor.run_dir
        self._progress_limit_s = settings.worker.progress_limit_s
        # Leases are assigned within two failover times, once the leader's lock is over.
        self._spare_after_s = LEADER_LOCK_S + 2 * settings.kcl.failover_time_ms / 1000
        self._files = files
        self._probes = probes
        self._clock = clock
        self._registry = CollectorRegistry()
        self.metrics = SupervisorMetrics(self._registry, version)
        self._registry.register(CheckpointAge(self.situation))

    def paths(self) -> dict[str, Callable[[], Answer]]:
        """The paths of the status server and what answers each."""
        return {"/metrics": self._metrics, "/healthz": self._alive, "/readyz": self._ready}

    def situation(self) -> Situation:
        """What is known at this moment."""
        states = read_heartbeats(self._run_dir)
        return Situation(
            self._clock.monotonic_s(),
            self.kcl_running,
            self.stopping,
            self.held,
            self.initialized_s,
            states,
            self._unread(),
        )

    @property
    def well(self) -> bool:
        """Whether ``/healthz`` is green now."""
        return self._alive().status == HTTPStatus.OK

    def _unread(self) -> list[str]:
        """While the KCL runs; else there is more to say than that nobody reads."""
        if self.leases is None or not self.kcl_running or self.stopping:
            return []
        return [complaint.text for complaint in self.leases.complaints()]

    def _metrics(self) -> Answer:
        body = generate_latest(self._registry) + self._files.exposition()
        return Answer(HTTPStatus.OK, PROMETHEUS_TEXT, body)

    def _alive(self) -> Answer:
        situation = self.situation()
        problems = liveness_problems(situation, self._progress_limit_s)
        return health_answer(problems, _workers(situation))

    def _ready(self) -> Answer:
        situation = self.situation()
        problems = lease_problems(situation, self._spare_after_s)
        problems += [
            f"{name}: {problem}"
            for name, probe in self._probes.items()
            if (problem := probe()) is not None
        ]
        return health_answer(problems, _workers(situation))


def _workers(situation: Situation) -> dict[str, object]:
    return {"workers": [describe(state, situation.now_s) for state in situation.states]}


class CheckpointAge(Collector):
    """
    The age of each shard's oldest unsaved record, taken when it is asked for.

    A gauge that the worker sets would stand still exactly when the worker hangs.
    """

    def __init__(self, situation: Callable[[], Situation]) -> None:
        self._situation = situation

    def describe(self) -> list[GaugeMetricFamily]:
        """Name what is collected, so that registering it collects nothing yet."""
        return [self._family()]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample a living worker."""
        situation = self._situation()
        family = self._family()
        for state in situation.states:
            if state.alive and state.shard_id:
                family.add_metric([state.shard_id], checkpoint_age_s(state, situation.now_s))
        yield family

    def _family(self) -> GaugeMetricFamily:
        meaning = "Seconds since the oldest finished record that no checkpoint covers"
        return GaugeMetricFamily(CHECKPOINT_AGE_SECONDS, meaning, labels=["shard"])
