"""Through changes of plan on a real Redis: what is not warming equals the oracle."""

from collections.abc import Iterator
from contextlib import closing
from math import isclose
from random import Random

import pytest
import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.adapters.redis.warmth import RedisWarmth
from consumer.features.plan import Plan, Windowed
from consumer.features.specification import parse_plan
from consumer.features.warming import WarmingFeatures
from consumer.local.oracle import Event, Oracle
from consumer.local.redis_server import RedisServer
from tests.fakes.clock import FakeClock
from tests.fakes.warmth import Heard
from tests.properties.observations import a_request, an_event, questions_of, somewhere

START, HORIZON = 1_700_006_400, 3_600
HEAD = "version: 1\nentities: {card: {key: card_id}}\nfeatures:\n"
LINES = (
    "name: count_10m, entity: card, aggregation: count, windows: [10m]",
    "name: fine_10m, entity: card, aggregation: count, windows: [10m], grid: 1s",
    "name: count_1h, entity: card, aggregation: count, windows: [1h]",
    "name: sum_3h, entity: card, aggregation: sum, windows: [3h]",
    "name: std_10m, entity: card, aggregation: std, windows: [10m]",
    "name: std_1h, entity: card, aggregation: std, windows: [1h]",
    "name: max_1h, entity: card, aggregation: max, windows: [1h]",
    "name: min_10m, entity: card, aggregation: min, windows: [10m]",
    "name: min_3h, entity: card, aggregation: min, windows: [3h]",
    "name: old_1h, entity: card, aggregation: sum, windows: [1h], delay: 1h",
    "name: shops_10m, entity: card, aggregation: distinct(merchant_id), windows: [10m]",
    "name: shops_3h, entity: card, aggregation: distinct(merchant_id), windows: [3h]",
    "name: gap, entity: card, aggregation: time_since_last",
    "name: age, entity: card, aggregation: first_seen",
)


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with (
        RedisServer(modules=False) as server,
        connect(server.url, connect_timeout_s=2, timeout_s=10) as client,
    ):
        yield client


def a_plan(random: Random) -> Plan:
    lines = random.sample(LINES, random.randint(1, 6))
    return parse_plan(HEAD + "".join(f"  - {{{each}}}\n" for each in lines), source="drawn")


def an_oracle(plan: Plan, log: list[Event]) -> Oracle:
    oracle = Oracle(questions_of(plan), horizon_s=HORIZON, exponent=plan.exponent)
    for event in log:
        oracle.apply(event)
    return oracle


@pytest.mark.parametrize("hot_after", [10_000, 10], ids=["cold", "hot"])
@pytest.mark.parametrize("seed", range(12))
def test_what_is_not_warming_is_right_through_any_plans(
    client: redis.Redis, seed: int, hot_after: int
) -> None:
    random, now_s, log, compared, warmed = Random(seed), START, list[Event](), 0, 0
    client.flushall()
    client.function_flush()
    for _ in range(6):
        plan = a_plan(random)
        oracle = an_oracle(plan, log)
        kinds = {each.name: each for each in plan.features if isinstance(each, Windowed)}
        store = RedisFeatureStore(client, plan, id_horizon_s=HORIZON, hot_after=hot_after)
        with closing(store), closing(RedisWarmth(client)) as warmth:
            worker = WarmingFeatures(
                store, warmth, plan, horizon_s=HORIZON, upgrading=lambda: False
            )
            for _ in range(60):
                now_s += random.choice([0, 1, 40, 400])
                late_s = random.choice([0, 0, 0, 1, 700, 3_000])
                event = an_event(
                    f"t{len(log)}",
                    now_s - late_s,
                    random.randrange(9_000),
                    merchant=f"m{random.randrange(5)}",
                )
                log.append(event)
                late = event.time_s < (oracle.newest_s("card_id", "c") or 0)
                (observation,) = worker.observe([a_request(event)])
                expected, _statuses = oracle.observe(event)
                found = dict(zip(plan.names, observation.values, strict=True))
                warmed += len(observation.warming)
                for name in expected.keys() - observation.warming:
                    if kinds[name].aggregation == "distinct" and late:
                        continue
                    compared += 1
                    assert isclose(found[name], expected[name], rel_tol=1e-9), (name, event)
    assert compared > 100
    assert warmed > 100


def test_a_feature_begins_when_the_last_worker_of_the_former_plan_has_ended(
    client: redis.Redis,
) -> None:
    client.flushall()
    client.function_flush()
    clock = FakeClock()
    former, newer = (
        parse_plan(HEAD + "".join(f"  - {{{LINES[each]}}}\n" for each in lines), source="plans")
        for lines in ((0,), (0, 7))
    )
    stores = [
        RedisFeatureStore(client, plan, id_horizon_s=HORIZON, clock=clock)
        for plan in (former, newer)
    ]
    with closing(RedisWarmth(client)) as warmth:
        heard = Heard()
        one = WarmingFeatures(stores[0], warmth, former, horizon_s=HORIZON)
        two = WarmingFeatures(
            stores[1],
            warmth,
            newer,
            horizon_s=HORIZON,
            upgrading=lambda: stores[1].upgrading,
            tell=heard.features_warming,
        )

        def warming(worker: WarmingFeatures, second: int) -> set[str]:
            event = an_event(f"t{second}", START + second)
            return set(worker.observe([a_request(somewhere(event, None))])[0].warming)

        assert warming(one, 0) == {"count_10m"}
        assert warming(one, 900) == set()
        # Hours beside each other: what is new does not begin, and what was there stays full.
        for second in range(901, 9_000, 1_000):
            assert warming(two, second) == {"min_10m"}
            assert warming(one, second + 1) == set()
        stores[0].close()
        clock.sleep(11)
        assert warming(two, 9_100) == {"min_10m"}
        assert warming(two, 9_101) == {"min_10m"}
        begun_s = heard.warming[-1]["min_10m"] - 610
        assert START + 8_902 <= begun_s <= START + 9_300
        assert warming(two, int(begun_s) - START + 609) == {"min_10m"}
        assert warming(two, int(begun_s) - START + 610) == set()
        stores[1].close()
