"""
State outlives its plan: whatever is asked next of it, and whoever still writes it.

Features that both plans have are equal to the oracle right through the change, others
as soon as their window begins after it, and no id counts twice.
"""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import ClassVar

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from consumer.adapters.redis.connection import connect
from consumer.features.plan import Plan
from consumer.features.specification import parse_plan
from consumer.local.oracle import Event, Verdict
from consumer.local.redis_server import RedisServer
from tests.properties.observations import COARSE, FINE, RICH, an_event, somewhere
from tests.properties.succession import Seat, Succession

START = 1_700_006_400  # on every grid
DAY = 86_400
HEAD, _, FEATURES = RICH.partition("features:\n")
# A name says what it is, so that plans with a name in common have that feature in common.
LINES = (
    *FEATURES.splitlines(),
    '  - {name: "count_{window}", entity: card, aggregation: count, windows: [1m, 5m, 1h]}',
    '  - {name: "sum_{window}", entity: card, aggregation: sum, windows: [1m, 2h, 30d]}',
    '  - {name: "max_{window}", entity: card, aggregation: max, windows: [1m, 3h]}',
    '  - {name: "min_{window}", entity: card, aggregation: min, windows: [1h]}',
    '  - {name: "shops_{window}", entity: card, aggregation: distinct(merchant_id), windows: [1d]}',
    '  - {name: "fine_{window}", entity: card, aggregation: sum, windows: [3d], grid: 1m}',
)
# What SHORT merges after an hour or two LONG keeps on a finer grid, and late reads ask for it.
SHORT = """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: "count_{window}", entity: card, aggregation: count, windows: [1m, 1h]}
  - {name: "max_{window}", entity: card, aggregation: max, windows: [1h]}
"""
LONG = (
    SHORT
    + """
  - {name: "sum_{window}", entity: card, aggregation: sum, windows: [6h, 12h]}
  - {name: "min_{window}", entity: card, aggregation: min, windows: [5h]}
"""
)
PLANS = {
    "short": parse_plan(SHORT, source="short"),
    "long": parse_plan(LONG, source="long"),
    "fine": parse_plan(FINE, source="fine"),
    "coarse": parse_plan(COARSE, source="coarse"),
    "rich": parse_plan(RICH, source="rich"),
}


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with RedisServer(modules=False) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=10)
        yield client
        client.close()


def plan_of(lines: set[int]) -> Plan:
    text = HEAD + "features:\n" + "".join(f"{LINES[line]}\n" for line in sorted(lines))
    return parse_plan(text, source="drawn")


plans = st.sets(st.integers(0, len(LINES) - 1), min_size=1, max_size=8).map(plan_of)


class History(RuleBasedStateMachine):
    """A card's history in pieces, told to one worker or to two with different plans."""

    client: ClassVar[redis.Redis]

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.succession: Succession

    @initialize(
        plan=plans,
        horizon_s=st.sampled_from([3_600, 5_003, 90_000]),
        hot_after=st.sampled_from([1, 4, 12, 128]),
    )
    def begin(self, plan: Plan, horizon_s: int, hot_after: int) -> None:
        self.client.function_flush()
        self.succession = Succession(self.client, plan, horizon_s=horizon_s, hot_after=hot_after)

    def teardown(self) -> None:
        if hasattr(self, "succession"):
            self.succession.close()

    @property
    def horizon_s(self) -> int:
        return self.succession.horizon_s

    def seat(self, number: int) -> Seat:
        return self.succession.seats[number % len(self.succession.seats)]

    def name(self) -> str:
        return f"t{len(self.succession.log)}"

    def tell(self, events: list[Event], worker: int) -> None:
        self.now = max(self.now, *(event.time_s for event in events))
        self.succession.observe(events, self.seat(worker))

    @rule(plan=plans)
    def another_plan(self, plan: Plan) -> None:
        if len(self.succession.seats) == 1:
            self.succession.replace(plan)

    @rule(plan=plans)
    def another_plan_beside_it(self, plan: Plan) -> None:
        if len(self.succession.seats) == 1:
            self.succession.join(plan)

    @rule()
    def the_former_plan_ends(self) -> None:
        if len(self.succession.seats) > 1:
            self.succession.succeed()

    @rule(
        gap=st.sampled_from([0, 1, 59, 600, 7_200, DAY]),
        amount=st.sampled_from([0, 7, 4_000, 2**40 - 1]),
        card=st.sampled_from(["c", "c", "d"]),
        worker=st.integers(0, 1),
    )
    def on_time(self, gap: int, amount: int, card: str, worker: int) -> None:
        self.tell([an_event(self.name(), self.now + gap, amount, card=card)], worker)

    @rule(
        gap=st.sampled_from([0, 1, 3_000]),
        behind=st.sampled_from([0, 0, 1, 900]),
        shop=st.integers(0, 4),
        place=st.one_of(st.none(), st.tuples(st.floats(-90, 90), st.floats(-180, 180))),
        worker=st.integers(0, 1),
    )
    def somewhere(
        self, gap: int, behind: int, shop: int, place: tuple[float, float] | None, worker: int
    ) -> None:
        event = an_event(self.name(), self.now + gap - behind, 50, merchant=f"m{shop}")
        self.tell([somewhere(event, place, f"d{shop % 2}")], worker)

    @rule(
        gap=st.sampled_from([0, 1, 7, 61, 1_000]),
        number=st.integers(2, 30),
        seed=st.integers(0, 9),
        worker=st.integers(0, 1),
    )
    def burst(self, gap: int, number: int, seed: int, worker: int) -> None:
        random, time_s, events, first = Random(seed), self.now, [], len(self.succession.log)
        for index in range(number):
            time_s += random.randint(0, 2 * gap)
            events.append(an_event(f"t{first + index}", time_s, random.randrange(5_000)))
        if seed % 3 == 0:
            random.shuffle(events)
        self.tell(events, worker)

    @rule(part=st.floats(0, 1.01), worker=st.integers(0, 1))
    def late(self, part: float, worker: int) -> None:
        behind = int(part**2 * self.horizon_s)
        self.tell([an_event(self.name(), self.now - behind, 9)], worker)

    @rule(back=st.integers(1, 60), moved=st.sampled_from([0, 0, 1, -60]), worker=st.integers(0, 1))
    def again(self, back: int, moved: int, worker: int) -> None:
        events = [item for item in self.succession.log if isinstance(item, Event)]
        if events:
            event = events[-min(back, len(events))]
            self.tell([replace(event, time_s=event.time_s + moved)], worker)

    @rule(
        back=st.integers(1, 40),
        fraud=st.booleans(),
        order=st.integers(-2, 2),
        worker=st.integers(0, 1),
    )
    def label(self, back: int, fraud: bool, order: int, worker: int) -> None:  # noqa: FBT001
        applied = self.succession.applied.get("c", [])
        if applied:
            event = applied[-min(back, len(applied))]
            told_ms = (self.now + order) * 1000
            verdict = Verdict(event.transaction_id, "a", fraud, told_ms, event.time_s, event.keys)
            self.succession.label([verdict], self.seat(worker))
            self.succession.read([self.now, self.now + DAY, self.now + 8 * DAY])

    @rule(parts=st.integers(1, 6), beside=st.integers(-9, 2), worker=st.integers(0, 1))
    def the_horizon_passes(self, parts: int, beside: int, worker: int) -> None:
        until, first = self.now + self.horizon_s * parts // 5 + beside, len(self.succession.log)
        self.tell([an_event(f"t{first + n}", until + n % 3, n) for n in range(9)], worker)
        edge = self.now - self.horizon_s
        self.succession.read([edge + n for n in (-1, 0, 1, 30, 61)])

    @rule(days=st.sampled_from([1, 2, 8, 31]), worker=st.integers(0, 1))
    def silence(self, days: int, worker: int) -> None:
        self.tell([an_event(self.name(), self.now + days * DAY, 11)], worker)

    @rule(parts=st.lists(st.floats(-0.01, 1.01), min_size=1, max_size=5))
    def look(self, parts: list[float]) -> None:
        self.succession.read(self.now - int(part * self.horizon_s) for part in parts)
        self.succession.read([self.now + 1, self.now + DAY])


def test_any_history_through_any_plans_reads_as_promised(client: redis.Redis) -> None:
    class OnThisServer(History):
        pass

    OnThisServer.client = client
    run_state_machine_as_test(
        OnThisServer,
        settings=settings(
            max_examples=60,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


@pytest.mark.parametrize("hot_after", [10_000, 30, 1], ids=["cold", "turning", "hot"])
@pytest.mark.parametrize("gap_s", [20, 700, 9_000])
@pytest.mark.parametrize(
    "names",
    [
        ("short", "long", "short"),
        ("coarse", "fine", "rich"),
        ("fine", "coarse", "fine"),
        ("rich", "fine", "rich"),
    ],
)
def test_dense_histories_read_late_keep_what_both_plans_know(
    client: redis.Redis, hot_after: int, gap_s: int, names: tuple[str, ...]
) -> None:
    """Late reads of hot entities look where the former plan merged as it liked."""
    random, now, number = Random(gap_s), START, 0
    first, *further = [PLANS[name] for name in names]
    succession = Succession(client, first, horizon_s=20_000, hot_after=hot_after)
    for plan in (None, *further):
        if plan is not None:
            succession.replace(plan)
            succession.observe(succession.applied["c"][-20:])
        for _ in range(200):
            now += random.randrange(2 * gap_s)
            number += 1
            late = random.randrange(20_000) if random.random() < 0.3 else 0
            place = (random.uniform(-90, 90), random.uniform(-180, 180))
            event = an_event(f"t{number}", now - late, random.randrange(9_000))
            succession.observe([somewhere(event, place, "d")])
        succession.read(now - step for step in range(0, 20_000, 401))
    assert succession.compared > 2_000
    succession.close()
