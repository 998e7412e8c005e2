"""Long histories with everything in them that a stream does, and what they cost in bytes."""

from collections.abc import Iterator, Sequence
from random import Random

import pytest
import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.specification import parse_plan
from consumer.local.oracle import Event
from consumer.local.redis_server import RedisServer
from tests.properties.observations import FINE, SHIPPED, Pair, a_request, an_event

START = 1_700_006_400
DAY = 86_400
HORIZON = 90_000


@pytest.fixture(scope="module")
def server() -> Iterator[redis.Redis]:
    with RedisServer(modules=False) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=10)
        yield client
        client.close()


@pytest.fixture
def client(server: redis.Redis) -> redis.Redis:
    server.flushdb()
    return server


def times_over(days: float, number: int, random: Random) -> list[int]:
    return sorted(START + random.randrange(int(days * DAY)) for _ in range(number))


def as_a_stream_brings_them(times: Sequence[int], random: Random) -> list[Event]:
    """Return events with 5 % duplicates, some late, some beyond the horizon, refunds."""
    order = sorted(
        (time + (random.randrange(1, 2 * HORIZON) if random.random() < 0.1 else 0), index)
        for index, time in enumerate(times)
    )
    events: list[Event] = []
    for _, index in order:
        amount, purchase = random.randrange(50_000), random.random() > 0.05
        events.append(an_event(f"t{index}", times[index], amount, purchase=purchase))
        if random.random() < 0.05:
            events.append(random.choice(events[-50:]))
    return events


@pytest.mark.parametrize("text", [SHIPPED, FINE], ids=["shipped", "fine"])
@pytest.mark.parametrize(
    ("number", "hot_after"),
    [(60, 128), (1_500, 128), (1_500, 8)],
    ids=["sparse", "dense", "hot"],
)
def test_sixty_days_of_a_disorderly_stream(
    client: redis.Redis, text: str, number: int, hot_after: int
) -> None:
    random, plan = Random(number), parse_plan(text, source="features")
    store = RedisFeatureStore(client, plan, id_horizon_s=HORIZON, hot_after=hot_after)
    pair = Pair(store, plan, HORIZON)
    events = as_a_stream_brings_them(times_over(60, number, random), random)
    for start in range(0, len(events), 250):
        pair.observe(events[start : start + 250])
    newest = pair.oracle.newest_s("card_id", "c") or 0
    pair.read(newest - HORIZON + step for step in range(0, HORIZON, 997))


@pytest.mark.parametrize("hot_after", [128, 1], ids=["cold", "hot"])
def test_an_id_that_came_late_is_forgotten_with_its_own_period(
    client: redis.Redis, hot_after: int
) -> None:
    plan = parse_plan(SHIPPED, source="features")
    store = RedisFeatureStore(client, plan, id_horizon_s=HORIZON, hot_after=hot_after)
    pair = Pair(store, plan, HORIZON)
    period = HORIZON // 5
    begin = START // period * period
    pair.observe(
        [
            an_event("first", begin + 5),
            an_event("second", begin + 6),
            an_event("late", begin - 5),
            an_event("new", begin + HORIZON + 9),
            an_event("late", begin + HORIZON + 9),
            an_event("first", begin + HORIZON + 9),
        ]
    )
    assert pair.oracle.read("card_id", "c", begin + HORIZON + 9)["card_count_1h"] == 2


def test_a_busy_day_that_turns_hot_and_is_asked_late(client: redis.Redis) -> None:
    random, plan = Random(7), parse_plan(SHIPPED, source="features")
    store = RedisFeatureStore(client, plan, id_horizon_s=HORIZON)
    pair = Pair(store, plan, HORIZON)
    events = as_a_stream_brings_them(times_over(1.5, 1_500, random), random)
    for start in range(0, len(events), 250):
        pair.observe(events[start : start + 250])
    assert list(client.scan_iter("f:{merchant:m}:i:*"))
    assert list(client.scan_iter("f:{merchant:m}:p:*"))


def bytes_of_cards(client: redis.Redis, number: int) -> list[int]:
    random, plan = Random(number), parse_plan(SHIPPED, source="features")
    store = RedisFeatureStore(client, plan, id_horizon_s=HORIZON)
    sizes = []
    for card in range(20):
        events = [
            an_event(f"{card}_{index}", time, random.randrange(50_000), card=f"c{card}")
            for index, time in enumerate(times_over(30, number, random))
        ]
        store.observe([a_request(event) for event in events])
        sizes.append(int(client.memory_usage(f"f:{{card:c{card}}}") or 0))
    return sizes


@pytest.mark.parametrize(("number", "limit"), [(10, 450), (60, 1_200), (157, 2_000)])
def test_a_card_takes_few_bytes(client: redis.Redis, number: int, limit: int) -> None:
    assert max(bytes_of_cards(client, number)) < limit


def test_a_busy_merchant_takes_few_bytes_and_forgets_what_lies_behind(client: redis.Redis) -> None:
    """Bytes of the string do not grow with traffic: one event a minute fills every cell."""
    random, plan = Random(3), parse_plan(SHIPPED, source="features")
    store = RedisFeatureStore(client, plan, id_horizon_s=HORIZON)
    times = times_over(12, 24_000, random)
    for start in range(0, len(times), 500):
        store.observe(
            [
                a_request(an_event(f"t{index}", time, random.randrange(50_000), card=f"c{index}"))
                for index, time in enumerate(times[start : start + 500], start)
            ]
        )
    assert int(client.memory_usage("f:{merchant:m}") or 0) < 8_000
    periods = sorted(int(key.rsplit(b":")[-1]) for key in client.scan_iter("f:{merchant:m}:i:*"))
    pages = sorted(int(key.rsplit(b":")[-1]) for key in client.scan_iter("f:{merchant:m}:p:*"))
    newest = times[-1]
    assert periods == list(range((newest - HORIZON) // 18_000, newest // 18_000 + 1))
    assert pages == list(range((newest - HORIZON - DAY - 7_200) // 7_200, newest // 7_200 + 1))
