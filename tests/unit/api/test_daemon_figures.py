"""What daemons say of themselves, as the live page shows it."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, repeat
from math import inf

import pytest
from prometheus_client import CollectorRegistry

from consumer.api.daemon_figures import Daemons, quantile_ms
from consumer.daemon_view import DaemonView, WorkerView, read_registry
from consumer.metrics import Metrics

NAME = 'endpoint_seconds{endpoint="fraud"}'
VIEW = DaemonView("http://one", workers=(WorkerView("shard", 1, "idle", 0.1, 0.2, 900),))


def reading(*views: DaemonView) -> Daemons:
    said: Iterator[DaemonView] = chain(views, repeat(views[-1]))
    return Daemons([VIEW.url], read=lambda _url: next(said))


def with_counts(*counts: float) -> DaemonView:
    return replace(VIEW, durations={NAME: dict(zip((0.01, 0.1, inf), counts, strict=True))})


def the_endpoint(daemons: Daemons) -> dict[str, float | None]:
    (figures,) = daemons.read()
    found = figures["endpoints"]
    assert isinstance(found, dict)
    endpoint = found["fraud"]
    assert isinstance(endpoint, dict)
    return endpoint


def test_a_daemon_that_does_not_answer_says_why() -> None:
    daemons = reading(DaemonView("http://one", unreachable="refused"))
    assert daemons.read() == [{"url": "http://one", "unreachable": "refused"}]


def test_shards_come_with_their_lag() -> None:
    (figures,) = reading(VIEW).read()
    assert figures["shards"] == [
        {"shard": "shard", "lag_ms": 900, "stage": "idle", "checkpoint_age_s": 0.2}
    ]


def test_durations_are_those_since_the_last_reading() -> None:
    daemons = reading(with_counts(0, 100, 100), with_counts(10, 110, 110))
    assert the_endpoint(daemons)["count"] == 100
    assert the_endpoint(daemons) == {
        "p50": pytest.approx(5),
        "p99": pytest.approx(9.9),
        "count": 10,
    }


def test_a_daemon_that_was_started_anew_counts_from_zero() -> None:
    daemons = reading(with_counts(100, 100, 100), with_counts(4, 4, 4))
    daemons.read()
    assert the_endpoint(daemons)["count"] == 4


def test_breakers_are_told_by_name() -> None:
    states = {
        f'breaker_state{{endpoint="{name}"}}': value
        for name, value in zip("abc", (0.0, 1.0, 2.0), strict=True)
    }
    (figures,) = reading(replace(VIEW, states=states)).read()
    assert figures["endpoints"] == {
        "a": {"breaker": "closed"},
        "b": {"breaker": "half-open"},
        "c": {"breaker": "open"},
    }


def test_this_service_tells_of_its_own_engine() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.breaker_state.labels("fraud").set(2)
    metrics.endpoint_seconds.labels("fraud").observe(0.003)
    (figures,) = Daemons([], lambda: read_registry("this service", registry)).read()
    assert figures["url"] == "this service"
    assert figures["endpoints"] == {
        "fraud": {
            "breaker": "open",
            "p50": pytest.approx(3.75),
            "p99": pytest.approx(4.975),
            "count": 1,
        }
    }


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ({}, 0.5, None),
        ({0.1: 0, inf: 0}, 0.5, None),
        ({0.1: 10, inf: 10}, 0.5, 50),
        ({0.1: 10, 0.2: 20, inf: 20}, 0.75, 150),
        ({0.1: 1, inf: 10}, 0.99, 100),
    ],
)
def test_quantiles_are_spread_evenly_between_bounds(
    counts: dict[float, float], share: float, expected: float | None
) -> None:
    found = quantile_ms(counts, share)
    assert found is None if expected is None else found == pytest.approx(expected)
