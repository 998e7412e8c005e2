"""``/healthz``, ``/readyz`` and ``/metrics`` of the REST service."""

from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_address
from typing import Literal

from anyio import CapacityLimiter, to_thread
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from consumer.api.operations import Asked, Reply
from consumer.api.problems import Kind, Problem, Refused
from consumer.health import Probe
from consumer.metric_files import NOTHING
from consumer.status_server import PROMETHEUS_TEXT, health_answer

_STUCK_S = 30.0


class Readiness:
    """Whether requests should be sent here; ``drain`` says that no more should be."""

    def __init__(self, probes: Mapping[str, Probe]) -> None:
        self._probes = probes
        self.draining = False

    def drain(self) -> None:
        """Be red from now on."""
        self.draining = True

    def problems(self) -> list[str]:
        """What speaks against it, as of at most some seconds ago."""
        if self.draining:
            return ["draining"]
        told = {name: probe() for name, probe in self._probes.items()}
        return [f"{name}: {cause}" for name, cause in told.items() if cause is not None]


class Probes:
    """Answers those who watch the service."""

    def __init__(
        self,
        readiness: Readiness,
        stuck_s: Callable[[], float],
        registry: CollectorRegistry,
        metrics: Literal["loopback", "open"],
    ) -> None:
        """*stuck_s* is for how long the thread that decides has not moved."""
        self._readiness = readiness
        self._stuck_s = stuck_s
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Said(registry))
        self._open = metrics == "open"
        self._limit = CapacityLimiter(1)

    @property
    def well(self) -> bool:
        """Whether ``/healthz`` is green now."""
        return self._stuck_s() < _STUCK_S

    async def health(self, _asked: Asked) -> Reply:
        """Red where a restart would help: the thread that decides hangs or is gone."""
        return _reply([] if self.well else [f"nothing was decided for {self._stuck_s():.0f} s"])

    async def ready(self, _asked: Asked) -> Reply:
        """Red while requests should go elsewhere."""
        return _reply(await to_thread.run_sync(self._readiness.problems, limiter=self._limit))

    async def metrics(self, asked: Asked) -> Reply:
        """All metrics in Prometheus's text format."""
        if not (self._open or is_near(asked.connection.get("client"))):
            detail = "metrics are for clients of this machine (api.metrics: loopback)"
            raise Refused(Problem(Kind.FORBIDDEN, detail))
        text = await to_thread.run_sync(generate_latest, self._registry, limiter=self._limit)
        return Reply(text, media_type=PROMETHEUS_TEXT)


def is_near(client: "tuple[str, int] | list[object] | None") -> bool:
    """Whether *client*, address and port as ASGI has them, is on this machine."""
    if client is None:
        # A socket of this machine has no address.
        return True
    try:
        return ip_address(str(client[0])).is_loopback
    except ValueError:
        return False


class _Said(Collector):
    """What *registry* says, without values that stand for nothing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [each for each in metric.samples if each.value != NOTHING]
            yield metric


def _reply(problems: list[str]) -> Reply:
    answer = health_answer(problems, {})
    return Reply(answer.body, answer.status.value, answer.content_type)
