"""Plans that follow each other on one Redis, and what each of them is promised to answer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isclose

import redis

from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.plan import Plan, Windowed
from consumer.local.oracle import Event, Oracle, Verdict
from tests.fakes.clock import FakeClock
from tests.properties.observations import a_request, an_effect, questions_of

Known = Mapping[str, Mapping[str, float]]


@dataclass
class Seat:
    """
    A worker with a plan, and the oracle that tells what it should answer.

    ``since``: feature → card → the event time that the feature's window must not begin
    before; where a card is missing, it always was exact. Features that are missing
    are not promised at all.
    """

    plan: Plan
    store: RedisFeatureStore
    oracle: Oracle
    clock: FakeClock
    since: dict[str, dict[str, float]]
    features: dict[str, Windowed] = field(init=False)

    def __post_init__(self) -> None:
        self.features = {
            each.name: each for each in self.plan.features if isinstance(each, Windowed)
        }


class Succession:
    """
    Workers with different plans that are told one history.

    The first seat's plan is the one that is written; ``succeed`` ends it. Every answer is
    compared: features that the plan before had too always, others as soon as their
    window begins after the change.
    """

    def __init__(self, client: redis.Redis, plan: Plan, *, horizon_s: int, hot_after: int) -> None:
        client.flushdb()
        self.client, self.horizon_s, self.hot_after = client, horizon_s, hot_after
        self.log: list[Event | Verdict] = []
        self.applied: dict[str, list[Event]] = {}
        self.seats = [self._seat(plan, {name: {} for name in plan.names})]
        self.compared = 0

    def join(self, plan: Plan) -> Seat:
        """Start a worker with another plan beside the ones there are."""
        first = self.seats[0]
        common = {
            each.name
            for each in plan.features
            if isinstance(each, Windowed) and is_same(each, plan, first.features, first.plan)
        }
        seat = self._seat(plan, {name: first.since[name] for name in common & first.since.keys()})
        self.seats.append(seat)
        for item in self.log:
            _tell(seat.oracle, item)
        return seat

    def succeed(self) -> None:
        """End the first worker; the second finds out with its next word."""
        self.seats.pop(0).store.close()
        for seat in self.seats:
            seat.clock.sleep(11)
        (successor, *_) = self.seats
        successor.store.observe([])
        if len(self.seats) == 1:
            assert not successor.store.upgrading
            newest = {
                card: float(successor.oracle.newest_s("card_id", card) or 0)
                for card in self.applied
            }
            for name in successor.features:
                successor.since.setdefault(name, dict(newest))

    def replace(self, plan: Plan) -> None:
        """End the only worker, then start one with another plan."""
        self.join(plan)
        self.succeed()

    def close(self) -> None:
        for seat in self.seats:
            seat.store.close()

    def observe(self, events: Sequence[Event], seat: Seat | None = None) -> None:
        """Let one worker observe *events* as a chunk, and compare every value and status."""
        seat = seat or self.seats[0]
        observations = seat.store.observe([a_request(event) for event in events])
        for event, observation in zip(events, observations, strict=True):
            found = dict(zip(seat.plan.names, observation.values, strict=True))
            card = event.keys["card_id"]
            newest = seat.oracle.newest_s("card_id", card)
            values, statuses = seat.oracle.observe(event)
            expected = tuple(statuses[entity.key] for entity in seat.plan.entities)
            assert observation.applied == expected, event
            self._compare(seat, event, found, values, newest)
            self._note(
                event, statuses["card_id"], [each for each in self.seats if each is not seat]
            )

    def label(self, verdicts: Sequence[Verdict], seat: Seat | None = None) -> None:
        """Tell one worker of labels, and every oracle."""
        (seat or self.seats[0]).store.label([an_effect(verdict) for verdict in verdicts])
        self.log += verdicts
        for each in self.seats:
            for verdict in verdicts:
                each.oracle.label(verdict)

    def read(self, times_s: Iterable[int], *, card: str = "c") -> None:
        """Compare what each worker reads of a card at each time."""
        for time_s in times_s:
            for seat in self.seats:
                found = dict(seat.store.read("card", card, time_s))
                values = seat.oracle.read("card_id", card, time_s)
                newest = seat.oracle.newest_s("card_id", card)
                asked = Event("", time_s, 0, {"card_id": card}, purchase=False)
                self._compare(seat, asked, found, values, newest)

    def _seat(self, plan: Plan, since: dict[str, dict[str, float]]) -> Seat:
        clock = FakeClock()
        store = RedisFeatureStore(
            self.client,
            plan,
            id_horizon_s=self.horizon_s,
            hot_after=self.hot_after,
            clock=clock,
        )
        store.prepare()
        store.verify()
        store.observe([])
        oracle = Oracle(questions_of(plan), horizon_s=self.horizon_s, exponent=plan.exponent)
        return Seat(plan, store, oracle, clock, since)

    def _note(self, event: Event, status: str, others: Iterable[Seat]) -> None:
        self.log.append(event)
        if status == "applied":
            self.applied.setdefault(event.keys["card_id"], []).append(event)
        for seat in others:
            seat.oracle.apply(event)

    def _compare(
        self,
        seat: Seat,
        event: Event,
        found: Mapping[str, float],
        values: Mapping[str, float],
        newest: int | None,
    ) -> None:
        card = event.keys["card_id"]
        late = newest is not None and event.time_s < newest
        for name, value in values.items():
            feature = seat.features[name]
            if late and feature.aggregation.value == "distinct":
                continue
            if not self._is_promised(seat, feature, event, card):
                continue
            self.compared += 1
            same = found[name] == value
            if feature.aggregation.value == "std":
                same = same or isclose(found[name], value, rel_tol=1e-9)
            assert same, (name, found[name], value, event, newest, seat.since[name])

    def _is_promised(self, seat: Seat, feature: Windowed, event: Event, card: str) -> bool:
        """Whether a value at this time was known before a change, or lies behind it."""
        if feature.name not in seat.since:
            return False
        change = seat.since[feature.name].get(card, -inf)
        if change == -inf or feature.aggregation.value == "first_seen":
            return True
        newest = seat.oracle.newest_s("card_id", card)
        at = event.time_s if newest is None else max(event.time_s, newest - self.horizon_s)
        if feature.aggregation.value == "time_since_last":
            return at - seat.plan.longest_window_s >= change
        if not feature.window_s:
            return any(
                change < each.time_s <= at
                for each in self.applied[card]
                if each.place is not None and each.transaction_id != event.transaction_id
            )
        edge = at - feature.delay_s - feature.window_s
        return edge - edge % feature.grid_s >= change


def is_same(feature: Windowed, plan: Plan, others: Mapping[str, Windowed], other: Plan) -> bool:
    """Whether another plan has the very feature, which for a gap depends on its longest window."""
    same = others.get(feature.name) == feature
    if feature.aggregation.value in {"time_since_last", "first_seen"}:
        return same and plan.longest_window_s == other.longest_window_s
    return same


def _tell(oracle: Oracle, item: Event | Verdict) -> None:
    if isinstance(item, Event):
        oracle.apply(item)
    else:
        oracle.label(item)
