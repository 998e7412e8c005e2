"""Many different values, labels that come weeks later, journeys: long and dense histories."""

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.specification import parse_plan
from consumer.local.oracle import Verdict
from consumer.local.redis_server import RedisServer
from tests.properties.observations import RICH, Pair, an_event, somewhere

START = 1_700_006_400
DAY = 86_400
HORIZON = 90_000
COLD = 10_000
VALUES = """
version: 1
entities: {card: {key: card_id}}
features:
  - name: "shops_{window}"
    entity: card
    aggregation: distinct(merchant_id)
    windows: [1h, 1d, 30d]
  - {name: devices, entity: card, aggregation: distinct(device_id), windows: [7d]}
  - {name: count, entity: card, aggregation: count, windows: [1d]}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[redis.Redis]:
    with RedisServer(modules=False) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=10)
        yield client
        client.close()


def a_pair(client: redis.Redis, text: str, hot_after: int) -> Pair:
    client.flushdb()
    plan = parse_plan(text, source="features")
    store = RedisFeatureStore(client, plan, id_horizon_s=HORIZON, hot_after=hot_after)
    pair = Pair(store, plan, HORIZON)
    pair.may_be_hot = hot_after < COLD
    return pair


@pytest.mark.parametrize("hot_after", [COLD, 128, 1], ids=["cold", "turning", "hot"])
@pytest.mark.parametrize(("gap_s", "shops"), [(20, 400), (900, 3_000), (4_000, 200)])
def test_values_beyond_what_is_exact_are_estimated_from_the_window_alone(
    server: redis.Redis, hot_after: int, gap_s: int, shops: int
) -> None:
    random, pair, now = Random(shops), a_pair(server, VALUES, hot_after), START
    for number in range(900):
        now += random.randrange(2 * gap_s)
        late = random.randrange(HORIZON) if random.random() < 0.1 else 0
        event = an_event(f"t{number}", now - late, 5, merchant=f"m{random.randrange(shops)}")
        pair.observe([somewhere(event, None, f"d{random.randrange(40)}")])
    if not pair.may_be_hot:
        pair.read(now - step for step in range(0, HORIZON, 5_003))
    pair.read([now, now + DAY, now + 29 * DAY, now + 31 * DAY])


@pytest.mark.parametrize("hot_after", [COLD, 4], ids=["cold", "hot"])
@pytest.mark.parametrize("gap_s", [300, 7_000, 30_000])
def test_labels_that_come_up_to_fifty_days_later_and_are_corrected(
    server: redis.Redis, hot_after: int, gap_s: int
) -> None:
    random, pair, now = Random(gap_s), a_pair(server, RICH, hot_after), START
    events = []
    for number in range(500):
        now += random.randrange(2 * gap_s)
        late = random.randrange(HORIZON) if random.random() < 0.1 else 0
        event = an_event(f"t{number}", now - late, random.randrange(9_000))
        place = (random.uniform(-90, 90), random.uniform(-180, 180))
        events.append(somewhere(event, place if random.random() < 0.8 else None))
        pair.observe(events[-1:])
        if random.random() < 0.3:
            about = random.choice(events)
            about = replace(about, time_s=about.time_s + random.choice([0, 0, 0, 0, 700, -700]))
            fraud, told_ms = random.random() < 0.7, (now - random.randrange(3)) * 1000
            name = f"l{random.randrange(3)}"
            verdict = Verdict(about.transaction_id, name, fraud, told_ms, about.time_s, about.keys)
            pair.label([verdict, verdict])
            pair.read([now, now + DAY, now + 8 * DAY, now - random.randrange(HORIZON)])
