"""A running daemon as its own addresses show it: ``/healthz``, ``/readyz`` and ``/metrics``."""

import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from http.client import HTTPException

import msgspec
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from consumer.settings import Settings

_TIMEOUT_S = 5.0
_NAMESPACE = "fraudstream_"
# What says which version decides, and what is switched off.
_STATES = (
    "build",
    "breaker",
    "rules",
    "lists",
    "feature_hash",
    "features_warming",
    "bands",
    "threshold",
)
# What an operator asks for first, added up over their labels' other values.
_COUNTS = (
    "records",
    "decisions",
    "degraded",
    "dead_letters",
    "restarts",
    "rules_refused",
    "rules_tripped",
)


class WorkerView(msgspec.Struct, frozen=True):
    """One worker, as ``/healthz`` describes it."""

    shard: str
    pid: int
    stage: str
    progress_age_s: float
    checkpoint_age_s: float
    millis_behind_latest: int | None = None
    rules: str = ""


class _Health(msgspec.Struct, frozen=True):
    ok: bool
    problems: tuple[str, ...] = ()
    workers: tuple[WorkerView, ...] = ()


@dataclass(frozen=True, slots=True)
class DaemonView:
    """
    One daemon; ``unreachable`` says why nothing else is known, None when it answered.

    ``problems`` are those of health and readiness; ``states`` and ``counts`` are samples
    of its metrics, by name and labels as Prometheus writes them. ``durations`` are its
    histograms of seconds, by the same names: how many were at most so long.
    """

    url: str
    unreachable: str | None = None
    problems: tuple[str, ...] = ()
    workers: tuple[WorkerView, ...] = ()
    states: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    durations: dict[str, dict[float, float]] = field(default_factory=dict)


def local_url(settings: Settings) -> str | None:
    """Where the daemon of these settings answers on this machine; None with a port of 0."""
    supervisor = settings.supervisor
    if not supervisor.port:
        return None
    host = "127.0.0.1" if supervisor.host in ("0.0.0.0", "::") else supervisor.host  # noqa: S104 - compared, not bound
    return (
        f"http://[{host}]:{supervisor.port}"
        if ":" in host
        else (f"http://{host}:{supervisor.port}")
    )


def read_daemon(url: str) -> DaemonView:
    """Ask the daemon at *url*; one that does not answer, or is none, is told, not raised."""
    base = url.rstrip("/")
    try:
        health = msgspec.json.decode(_get(f"{base}/healthz"), type=_Health)
        ready = msgspec.json.decode(_get(f"{base}/readyz"), type=_Health)
        families = list(text_string_to_metric_families(_get(f"{base}/metrics").decode()))
    except (OSError, HTTPException) as error:
        return DaemonView(base, unreachable=str(getattr(error, "reason", "") or error))
    except ValueError:
        return DaemonView(base, unreachable="what answers there is no fraudstream")
    problems = dict.fromkeys(health.problems + ready.problems)
    view = _view(base, families)
    return replace(view, problems=tuple(problems), workers=health.workers)


def read_registry(name: str, registry: CollectorRegistry) -> DaemonView:
    """What the metrics of this process say, as those of a daemon called *name*."""
    return _view(name, registry.collect())


def _view(name: str, families: Iterable[Metric]) -> DaemonView:
    samples = [sample for family in families for sample in family.samples]
    return DaemonView(
        name,
        states={
            _label(sample.name, sample.labels): sample.value
            for sample in samples
            if sample.name.startswith(tuple(_NAMESPACE + name for name in _STATES))
            and not sample.name.endswith(("_total", "_created", "_bucket", "_count", "_sum"))
        },
        counts={
            _label(sample.name, sample.labels): sample.value
            for sample in samples
            if sample.name in {f"{_NAMESPACE}{name}_total" for name in _COUNTS}
        },
        durations=_durations(samples),
    )


def _get(url: str) -> bytes:
    """The body; also that of a 503, which is how bad health is told."""
    if not url.startswith(("http://", "https://")):
        message = "expected an address that starts with http:// or https://"
        raise OSError(message)
    # Health is asked directly: a proxy of the environment is for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.read()


def _durations(samples: Iterable[Sample]) -> dict[str, dict[float, float]]:
    found: dict[str, dict[float, float]] = {}
    for sample in samples:
        if sample.name.startswith(_NAMESPACE) and sample.name.endswith("_seconds_bucket"):
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            name = _label(sample.name.removesuffix("_bucket"), labels)
            found.setdefault(name, {})[float(sample.labels["le"])] = sample.value
    return found


def _label(name: str, labels: dict[str, str]) -> str:
    inner = ",".join(f'{key}="{value}"' for key, value in labels.items())
    short = name.removeprefix(_NAMESPACE)
    return f"{short}{{{inner}}}" if inner else short
