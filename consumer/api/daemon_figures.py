"""What daemons say of themselves, as the live page shows it."""

import math
import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

from consumer.daemon_view import DaemonView, read_daemon

_SPAN_S = 60.0
_QUANTILES = {"p50": 0.5, "p99": 0.99}
_BREAKER = re.compile(r'breaker_state\{endpoint="([^"]*)"\}')
_ENDPOINT = re.compile(r'endpoint_seconds\{endpoint="([^"]*)"\}')
_BREAKER_STATES = ("closed", "half-open", "open")
_ARRIVAL = "arrival_to_decision_seconds"


class Daemons:
    """
    This service's own engine, told by *own*, and the daemons at some addresses, asked in turn.

    Durations are of the last minute that was watched: histograms only ever grow, so two
    readings are needed, and until there are two they are of all time.
    """

    def __init__(
        self,
        urls: Sequence[str],
        own: Callable[[], DaemonView] | None = None,
        read: Callable[[str], DaemonView] = read_daemon,
    ) -> None:
        self._readers: list[Callable[[], DaemonView]] = [] if own is None else [own]
        self._readers += [partial(read, url) for url in urls]
        self._earlier: dict[str, deque[tuple[float, DaemonView]]] = {}

    def read(self) -> list[dict[str, object]]:
        """Ask every daemon; one that does not answer says why instead of its figures."""
        return [self._figures(reader()) for reader in self._readers]

    def _figures(self, view: DaemonView) -> dict[str, object]:
        url = view.url
        if view.unreachable is not None:
            self._earlier.pop(url, None)
            return {"url": url, "unreachable": view.unreachable}
        now_s = time.monotonic()
        readings = self._earlier.setdefault(url, deque())
        before = _since_restart(readings, view)
        readings.append((now_s, view))
        while now_s - readings[0][0] > _SPAN_S:
            readings.popleft()
        return {
            "url": url,
            "problems": view.problems,
            "shards": [
                {
                    "shard": worker.shard,
                    "lag_ms": worker.millis_behind_latest,
                    "stage": worker.stage,
                    "checkpoint_age_s": worker.checkpoint_age_s,
                }
                for worker in view.workers
            ],
            "endpoints": _endpoints(view, before),
            "arrival_to_decision": _quantiles(view.durations, before, _ARRIVAL),
        }


def quantile_ms(counts: Mapping[float, float], share: float) -> float | None:
    """
    Return the duration that *share* of all do not exceed, None where there is none.

    *counts* says how many were at most so many seconds; evenly spread between two bounds,
    as ``histogram_quantile`` of Prometheus has it. Beyond the last finite bound it is that.
    """
    bounds = sorted(counts)
    if not bounds or counts[bounds[-1]] <= 0:
        return None
    wanted = share * counts[bounds[-1]]
    for lower, upper in pairwise([0.0, *bounds]):
        below = counts.get(lower, 0.0) if lower else 0.0
        if counts[upper] >= wanted:
            if math.isinf(upper):
                return lower * 1000
            inside = counts[upper] - below
            part = (wanted - below) / inside if inside else 1.0
            return (lower + (upper - lower) * part) * 1000
    return None


def _since_restart(
    readings: "deque[tuple[float, DaemonView]]", view: DaemonView
) -> Mapping[str, Mapping[float, float]]:
    """Return the oldest reading that counts from the same start, none after a restart."""
    if not readings:
        return {}
    before = readings[0][1].durations
    shrunk = any(
        count < before[name].get(bound, 0.0)
        for name, counts in view.durations.items()
        if name in before
        for bound, count in counts.items()
    )
    if shrunk:
        readings.clear()
        return {}
    return before


def _endpoints(
    view: DaemonView, before: Mapping[str, Mapping[float, float]]
) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    for name in view.durations:
        if match := _ENDPOINT.fullmatch(name):
            found[match[1]] = {**_quantiles(view.durations, before, name)}
    for name, state in view.states.items():
        if match := _BREAKER.fullmatch(name):
            place = min(max(int(state), 0), len(_BREAKER_STATES) - 1)
            found.setdefault(match[1], {})["breaker"] = _BREAKER_STATES[place]
    return found


def _quantiles(
    durations: Mapping[str, Mapping[float, float]],
    before: Mapping[str, Mapping[float, float]],
    name: str,
) -> dict[str, float | None]:
    """Milliseconds, and how many there were."""
    counts = durations.get(name, {})
    earlier = before.get(name, {})
    new = {bound: count - earlier.get(bound, 0.0) for bound, count in counts.items()}
    found: dict[str, float | None] = {
        key: quantile_ms(new, share) for key, share in _QUANTILES.items()
    }
    return {**found, "count": max(new.values(), default=0.0)}
