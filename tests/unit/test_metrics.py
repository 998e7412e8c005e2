import re

import pytest
from prometheus_client import CollectorRegistry, Histogram

from consumer import metrics
from consumer.metrics import (
    BUCKETS_S,
    AccessMetrics,
    ApiMetrics,
    ChunkHistogram,
    Metrics,
    SupervisorMetrics,
)


def test_every_name_is_registered_once_and_follows_the_rules() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    SupervisorMetrics(registry, "1.2.3")
    ApiMetrics(registry)
    AccessMetrics(registry)
    registered = {family.name for family in registry.collect()}
    names = {
        value for key, value in vars(metrics).items() if key.isupper() and isinstance(value, str)
    } - {metrics.CHECKPOINT_AGE_SECONDS}
    assert registered == {name.removesuffix("_total") for name in names}
    assert all(re.fullmatch(r"fraudstream_[a-z_]+", name) for name in names)


@pytest.mark.parametrize("amounts", [[], [0.001], [0.0, 0.0011, 0.3, 10.0, 10.5, 0.3]])
def test_the_values_of_a_chunk_count_as_one_by_one(amounts: list[float]) -> None:
    at_once, singly = CollectorRegistry(), CollectorRegistry()
    ChunkHistogram("seconds", "", registry=at_once, buckets=BUCKETS_S).observe_all(amounts)
    histogram = Histogram("seconds", "", registry=singly, buckets=BUCKETS_S)
    for amount in amounts:
        histogram.observe(amount)
    assert values_of(at_once) == pytest.approx(values_of(singly))


def values_of(registry: CollectorRegistry) -> dict[str, float]:
    return {
        f"{sample.name}{sample.labels}": sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_the_buckets_reach_from_a_millisecond_to_ten_seconds() -> None:
    assert (BUCKETS_S[0], BUCKETS_S[-1]) == (0.001, 10.0)
    assert sorted(BUCKETS_S) == list(BUCKETS_S)


def test_build_info_names_the_version() -> None:
    registry = CollectorRegistry()
    SupervisorMetrics(registry, "1.2.3")
    (family,) = [each for each in registry.collect() if each.name == "fraudstream_build"]
    assert family.samples[0].name == "fraudstream_build_info"
    assert family.samples[0].labels["version"] == "1.2.3"
