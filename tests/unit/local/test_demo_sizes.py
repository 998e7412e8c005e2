import pytest

from consumer.errors import Misconfigured
from consumer.local.demo import Sizes
from consumer.local.simulator.faults import LATE_LIMIT_MS
from consumer.local.simulator.traffic import Traffic


def test_the_horizon_covers_the_live_time_and_what_is_held_back() -> None:
    sizes = Sizes.of({}, end_ms=1_795_000_000_000)
    span = Traffic(sizes.scenario).live_span
    assert (span.end_ms - span.start_ms + LATE_LIMIT_MS) / 1000 < sizes.id_horizon_s


def test_sizes_are_taken_from_the_environment() -> None:
    sizes = Sizes.of({"DEMO_TRANSACTIONS": "50", "DEMO_RATE": "10", "KEEP": "1"}, end_ms=0)
    assert (sizes.scenario.transactions, sizes.rate, sizes.shards, sizes.keep) == (50, 10, 2, True)


def test_every_size_that_is_no_number_is_named() -> None:
    with pytest.raises(Misconfigured) as caught:
        Sizes.of({"DEMO_TRANSACTIONS": "many", "DEMO_SHARDS": "0"}, end_ms=0)
    assert [problem.key for problem in caught.value.problems] == [
        "DEMO_TRANSACTIONS",
        "DEMO_SHARDS",
    ]
