"""
Every feature value equals a recomputation from raw events, whatever comes in which order.

The store is the real one on a real Redis; its hot threshold is low enough for short
histories to cross it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.specification import parse_plan
from consumer.local.oracle import Event, Verdict
from consumer.local.redis_server import RedisServer
from consumer.model import LabelValue
from tests.properties.observations import COARSE, FINE, RICH, SHIPPED, Pair, an_event, somewhere

START = 1_700_006_400  # on every grid
DAY = 86_400
BORDERS = (1, 5, 15, 60, 240, 720, 1_440, 7_200, 43_200)
PLANS = {
    "shipped": parse_plan(SHIPPED, source="shipped"),
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


@dataclass(frozen=True)
class Shape:
    plan: str
    horizon_s: int
    hot_after: int


shapes = st.builds(
    Shape,
    plan=st.sampled_from(sorted(PLANS)),
    horizon_s=st.sampled_from([3_600, 5_003, 90_000]),
    hot_after=st.sampled_from([1, 4, 12, 128]),
)
amounts = st.one_of(st.integers(0, 20), st.integers(0, 100_000), st.just(2**40 - 1))
cards = st.sampled_from(["c", "c", "c", "d"])
devices = st.sampled_from(["", "phone", "laptop"])
places = st.one_of(
    st.none(),
    st.just((48.137, 11.575)),
    st.tuples(st.floats(-90, 90), st.floats(-180, 180)),
)


class History(RuleBasedStateMachine):
    """A card's history, told in pieces; every piece is compared at once."""

    client: ClassVar[redis.Redis]
    stores: ClassVar[dict[Shape, RedisFeatureStore]] = {}

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Event] = []
        self.now = START
        self.claimed: dict[str, int] = {}
        self.pair: Pair

    @initialize(shape=shapes, offset=st.sampled_from([-1, 0, 1, 30_000]))
    def begin(self, shape: Shape, offset: int) -> None:
        self.client.flushdb()
        plan = PLANS[shape.plan]
        if shape not in self.stores:
            self.stores[shape] = RedisFeatureStore(
                self.client, plan, id_horizon_s=shape.horizon_s, hot_after=shape.hot_after
            )
        self.pair = Pair(self.stores[shape], plan, shape.horizon_s)
        self.now += offset

    def tell(self, *events: Event) -> None:
        self.sent += events
        self.now = max(self.now, *(event.time_s for event in events))
        self.pair.observe(events)

    def name(self) -> str:
        return f"t{len(self.sent)}"

    @rule(gap=st.sampled_from([0, 1, 59, 600, 7_200, DAY]), amount=amounts, card=cards)
    def on_time(self, gap: int, amount: int, card: str) -> None:
        self.tell(an_event(self.name(), self.now + gap, amount, card=card))

    @rule(
        gap=st.sampled_from([0, 0, 1, 3_000]),
        behind=st.sampled_from([0, 0, 0, 1, 900, 80_000]),
        shop=st.integers(0, 5),
        device=devices,
        place=places,
    )
    def somewhere(
        self, gap: int, behind: int, shop: int, device: str, place: tuple[float, float] | None
    ) -> None:
        time_s = self.now + gap - behind
        event = an_event(self.name(), time_s, 50, merchant=f"m{shop}")
        self.tell(somewhere(event, place, device))

    @rule(
        backs=st.lists(st.integers(1, 60), min_size=1, max_size=4),
        kind=st.sampled_from(LabelValue),
        beside=st.sampled_from([0, 0, 0, 0, -1, 1, 5_000]),
        order=st.integers(-2, 2),
        name=st.sampled_from(["a", "b"]),
    )
    def label(self, backs: list[int], kind: LabelValue, beside: int, order: int, name: str) -> None:
        """
        Labels that are new, repeated, older, corrections, or of events never applied.

        Those of one id claim times that are less than a week apart, as transactions have one.
        """
        if not self.sent or not self.pair.plan.reads_labels:
            return
        verdicts = []
        for back in backs:
            event = self.sent[-min(back, len(self.sent))]
            time_ms = (self.now + order) * 1000
            fraud = kind is LabelValue.FRAUD
            first_s = self.claimed.setdefault(event.transaction_id, event.time_s)
            time_s = event.time_s if abs(event.time_s - first_s) < 3 * DAY else first_s
            told = (event.transaction_id, name, fraud, time_ms, time_s + beside)
            verdicts.append(Verdict(*told, event.keys))
        self.pair.label(verdicts)
        self.pair.read([self.now, self.now + DAY, self.now + 8 * DAY, self.now - 7_000])

    @rule(
        gap=st.sampled_from([0, 1, 7, 61, 1_000, 20_000]),
        number=st.integers(2, 40),
        seed=st.integers(0, 9),
    )
    def burst(self, gap: int, number: int, seed: int) -> None:
        random = Random(seed)
        first, time, events = len(self.sent), self.now, []
        for index in range(number):
            time += random.randint(0, 2 * gap)
            events.append(an_event(f"t{first + index}", time, random.randrange(5_000)))
        if seed % 3 == 0:
            random.shuffle(events)
        self.tell(*events)

    @rule(part=st.floats(0, 1), amount=amounts, card=cards)
    def late(self, part: float, amount: int, card: str) -> None:
        behind = int(part**3 * self.pair.horizon_s)
        self.tell(an_event(self.name(), self.now - behind, amount, card=card))

    @rule(grid=st.sampled_from(BORDERS), cells=st.integers(0, 3), beside=st.integers(-1, 1))
    def at_a_border(self, grid: int, cells: int, beside: int) -> None:
        self.tell(an_event(self.name(), self.now // grid * grid - cells * grid + beside, 7))

    @rule(beside=st.integers(-2, 1), amount=amounts)
    def at_the_horizon(self, beside: int, amount: int) -> None:
        self.tell(an_event(self.name(), self.now - self.pair.horizon_s + beside, amount))

    @rule(back=st.integers(1, 60), moved=st.sampled_from([0, 0, 0, 1, -60, 4_000, -90_000]))
    def again(self, back: int, moved: int) -> None:
        if self.sent:
            event = self.sent[-min(back, len(self.sent))]
            time_s = event.time_s + moved
            self.tell(replace(event, time_s=time_s))

    @rule(back=st.integers(1, 60), behind=st.sampled_from([0, 0, 59, 3_000]))
    def again_with_the_time_of_now(self, back: int, behind: int) -> None:
        if self.sent:
            event = self.sent[-min(back, len(self.sent))]
            card = event.keys["card_id"]
            self.tell(an_event(event.transaction_id, self.now - behind, 3, card=card))

    @rule(beside=st.integers(-70, 2), parts=st.integers(1, 6), cards=cards)
    def the_horizon_passes(self, beside: int, parts: int, cards: str) -> None:
        """Wait it out, compact, and look at what lies just at its end."""
        then = self.now
        until = then + self.pair.horizon_s * parts // 5 + beside
        first = len(self.sent)
        fill = [an_event(f"t{first + n}", until + n % 3, n, card=cards) for n in range(9)]
        self.tell(*fill)
        edge = self.now - self.pair.horizon_s
        self.pair.read([edge + n for n in (-1, 0, 1, 2, 30, 61)], card=cards)
        for event in [event for event in self.sent[-60:] if event.time_s >= edge][:3]:
            self.tell(event)

    @rule(behind=st.sampled_from([0, 1, 3_600, 100_000]))
    def refund(self, behind: int) -> None:
        self.tell(an_event(self.name(), self.now - behind, 5, purchase=False))

    @rule(days=st.sampled_from([1, 2, 8, 29, 31, 60]))
    def silence(self, days: int) -> None:
        self.tell(an_event(self.name(), self.now + days * DAY, 11))

    @rule(parts=st.lists(st.floats(-0.01, 1.01), min_size=1, max_size=6))
    def look(self, parts: list[float]) -> None:
        self.pair.read(self.now - int(part * self.pair.horizon_s) for part in parts)
        self.pair.read([self.now + 1, self.now + DAY, self.now + 40 * DAY])


def test_any_history_reads_as_recomputed(client: redis.Redis) -> None:
    class OnThisServer(History):
        pass

    OnThisServer.client, OnThisServer.stores = client, {}
    run_state_machine_as_test(
        OnThisServer,
        settings=settings(
            max_examples=300,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )


@pytest.mark.parametrize("second", LabelValue)
def test_labels_that_claim_times_in_two_periods_are_of_one_transaction(
    client: redis.Redis, second: LabelValue
) -> None:
    """Labels are kept by the week of the event, of which the first here is the last second."""

    class OnThisServer(History):
        pass

    OnThisServer.client, OnThisServer.stores = client, {}
    history = OnThisServer()
    history.begin(shape=Shape("rich", horizon_s=3_600, hot_after=128), offset=-1)
    history.silence(days=1)
    history.silence(days=1)
    history.again(back=2, moved=0)
    history.label(backs=[1], beside=0, kind=LabelValue.FRAUD, name="a", order=0)
    history.label(backs=[1], beside=1, kind=second, name="b", order=1)
    history.label(backs=[1], beside=-1, kind=second, name="b", order=2)
