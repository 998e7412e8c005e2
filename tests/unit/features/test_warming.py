"""A store in front of which features are known to be warming."""

from math import inf
from typing import Any

import pytest

from consumer.errors import Misconfigured, Unavailable
from consumer.features.specification import parse_plan
from consumer.features.warming import STEP_S, WarmingFeatures
from consumer.model import Kind, LabelEffect, TransactionId
from consumer.ports import Observe
from tests.builders import a_transaction
from tests.fakes.entities import FakeEntities
from tests.fakes.warmth import FakeWarmth, Heard

# A multiple of the step, so that the first event's bound is a whole step away.
START = 1_780_000_200
HOUR = 3_600
HORIZON = 90_000


def a_plan(*windows: str) -> str:
    listed = ", ".join(windows)
    return f"""
version: 1
entities: {{card: {{key: card_id}}}}
features:
  - {{name: amount, field: amount}}
  - {{name: "n_{{window}}", entity: card, aggregation: count, windows: [{listed}]}}
"""


class Redis:
    """What outlives a worker: the record. Each worker hears its own telemetry."""

    def __init__(self) -> None:
        self.warmth = FakeWarmth()
        self.upgrading = False

    def worker(self, *windows: str, heard: Heard | None = None) -> WarmingFeatures:
        plan = parse_plan(a_plan(*(windows or ("1h",))), source="warming")
        return WarmingFeatures(
            FakeEntities(),
            self.warmth,
            plan,
            horizon_s=HORIZON,
            tell=(heard or Heard()).features_warming,
            upgrading=lambda: self.upgrading,
        )


@pytest.fixture
def redis() -> Redis:
    return Redis()


def at(time_s: int, **changes: Any) -> Observe:
    name = TransactionId(f"tx_{time_s}")
    return Observe(a_transaction(1, transaction_id=name, **changes), time_s)


def warming(worker: WarmingFeatures, *times_s: int) -> list[list[str]]:
    found = worker.observe([at(time_s) for time_s in times_s])
    return [sorted(each.warming) for each in found]


def test_each_transaction_is_told_what_is_warming_at_its_own_time(redis: Redis) -> None:
    worker = redis.worker("1h", "1d")
    full_s = START + HOUR + 60
    assert warming(worker, START, full_s - 1, full_s, full_s - 2) == [
        ["n_1d", "n_1h"],
        ["n_1d", "n_1h"],
        ["n_1d"],
        ["n_1d", "n_1h"],
    ]
    assert warming(worker, START + 86_400 + 24 * 60) == [[]]
    assert warming(worker, full_s - 1) == [["n_1d", "n_1h"]], "a late one reads an empty past"


def test_the_store_is_asked_once_and_answers_as_ever(redis: Redis) -> None:
    worker = redis.worker()
    assert [each.values for each in worker.observe([at(START), at(START + 1)])] == [
        (12.5, 1.0),
        (12.5, 2.0),
    ]
    assert worker.observe([]) == []


def test_redis_is_asked_at_the_start_and_once_a_step(redis: Redis) -> None:
    worker = redis.worker()
    worker.look()
    for second in range(0, STEP_S + 1, 50):
        worker.observe([at(START + second)])
    assert redis.warmth.calls == ["read", "swap"]
    worker.observe([at(START + STEP_S + 1)])
    assert redis.warmth.calls == ["read", "swap", "swap"]


def test_what_is_not_applied_begins_nothing(redis: Redis) -> None:
    worker = redis.worker()
    (observation,) = worker.observe([at(START, kind=Kind.REFUND)])
    assert observation.warming == {"n_1h"}
    assert redis.warmth.stands is None


def test_two_workers_of_one_plan_know_of_each_other(redis: Redis) -> None:
    one, two = redis.worker(), redis.worker()
    one.look()
    two.look()
    one.observe([at(START)])
    two.observe([at(START - 100)])
    full_s = START - 100 + HOUR + 60
    assert warming(two, full_s - 1, full_s) == [["n_1h"], []]
    assert warming(one, full_s) == [[]]


def test_a_worker_that_is_started_again_goes_on_where_it_was(redis: Redis) -> None:
    redis.worker().observe([at(START)])
    heard = Heard()
    worker = redis.worker(heard=heard)
    worker.look()
    full_s = START + HOUR + 60
    assert heard.warming == [{"n_1h": full_s}]
    assert warming(worker, full_s) == [[]]


def test_what_is_warming_is_told_once_and_what_became_full(redis: Redis) -> None:
    heard = Heard()
    worker = redis.worker("1h", "1d", heard=heard)
    worker.look()
    hour_s, day_s = START + HOUR + 60, START + 86_400 + 24 * 60
    for time_s in (START, START + 1, hour_s, START + 5, hour_s + 1, day_s, START + 9, day_s + 1):
        worker.observe([at(time_s)])
    assert heard.warming == [
        {"n_1h": inf, "n_1d": inf},
        {"n_1h": hour_s, "n_1d": day_s},
        {"n_1d": day_s},
        {},
    ]
    assert heard.full == ["n_1h", "n_1d"]


def test_a_plan_that_was_full_says_nothing_at_a_start(redis: Redis) -> None:
    former = redis.worker()
    former.observe([at(START)])
    former.observe([at(START + 10 * HOUR)])
    heard = Heard()
    worker = redis.worker(heard=heard)
    worker.look()
    worker.observe([at(START + 10 * HOUR + 1)])
    assert heard.warming == []


def test_a_feature_that_is_added_warms_from_the_change_on(redis: Redis) -> None:
    redis.worker("1h").observe([at(START)])
    worker = redis.worker("1h", "1d")
    assert warming(worker, START + 10 * HOUR) == [["n_1d"]]


def test_while_the_former_layout_is_written_new_features_do_not_begin(redis: Redis) -> None:
    redis.worker("1h").observe([at(START)])
    redis.upgrading = True
    worker = redis.worker("1h", "1d")
    later = START + 10 * HOUR
    assert warming(worker, later, later + 10) == [["n_1d"]] * 2
    assert warming(worker, later + 200_000) == [["n_1d"]]
    redis.upgrading = False
    after_s = later + 200_001
    assert warming(worker, after_s) == [["n_1d"]]
    calls = len(redis.warmth.calls)
    assert warming(worker, after_s + 1) == [["n_1d"]]
    assert len(redis.warmth.calls) == calls
    assert warming(worker, after_s + 86_400 + 24 * 60 + STEP_S) == [[]]


def test_state_that_was_lost_is_noticed_within_a_step(redis: Redis) -> None:
    worker = redis.worker()
    worker.observe([at(START)])
    full_s = START + HOUR + 60
    assert warming(worker, full_s) == [[]]
    redis.warmth.stands = None
    lost_s = full_s + STEP_S
    assert warming(worker, lost_s) == [["n_1h"]]
    assert warming(worker, lost_s + HOUR + 59, lost_s + HOUR + 60) == [["n_1h"], []]


def test_redis_away_changes_nothing_and_the_call_may_be_repeated(redis: Redis) -> None:
    worker = redis.worker()
    redis.warmth.fail(1)
    with pytest.raises(Unavailable):
        worker.observe([at(START)])
    assert warming(worker, START, START + HOUR + 60) == [["n_1h"], []]
    assert worker.observe([at(START + HOUR + 61)])[0].values == (12.5, 3.0)


def test_a_record_that_changes_all_the_time_is_waited_out(redis: Redis) -> None:
    class Restless(FakeWarmth):
        def swap(self, expected: bytes | None, data: bytes) -> bytes | None:
            theirs = redis.worker()
            theirs._warmth = other = FakeWarmth()
            theirs.observe([at(START + len(self.calls))])
            self.calls.append("swap")
            return other.stands

    worker = redis.worker()
    worker._warmth = Restless()
    with pytest.raises(Unavailable, match="all the time"):
        worker.observe([at(START - 1)])


def test_a_record_of_another_version_is_refused(redis: Redis) -> None:
    redis.warmth.stands = b'{"version": 7}'
    with pytest.raises(Misconfigured, match="version 7"):
        redis.worker().look()


def test_labels_reach_the_store(redis: Redis) -> None:
    store = FakeEntities()
    worker = redis.worker()
    worker._store = store
    worker.label([LabelEffect(TransactionId("tx"), "l", True, 1, START, {"card_id": "c"})])
    assert store.state["card_id", "c"].frauds == 1
