"""
The worker and everything around it as a state machine: any order of deliveries and accidents.

Two processes may believe that they own the shard; every boundary between two effects may
be the last thing a process does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from tests.properties.shard_checks import Checks
from tests.properties.shard_stream import MALFORMED, a_payload, a_verdict, iso
from tests.properties.shard_world import Protections, World

SECOND_MS, HOUR_MS = 1_000, 3_600_000
SEATS = st.sampled_from(["a", "b"])
CARDS = st.sampled_from(["card_1", "card_2"])
MERCHANTS = st.sampled_from(["merchant_1", "merchant_2"])
OFFSETS_S = st.sampled_from([0, 0, 0, -1, -30, -7_200, -93_600, -144_000, 60, 172_800])
ANSWERS = st.sampled_from(["acknowledge", "lose_reply", "refuse", "refuse_half"])


@dataclass(frozen=True)
class New:
    """A transaction of a new id."""

    card: str
    merchant: str
    offset_s: int
    kind: str
    cents: int


@dataclass(frozen=True)
class Again:
    """A producer's duplicate of an earlier transaction, as it was or with other content."""

    which: int
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """A label of an earlier transaction or, where there is none, of one that comes later."""

    which: int
    label: str
    age_s: int


@dataclass(frozen=True)
class Orphan:
    """A label of a transaction whose document has long expired."""

    which: int
    label: str
    card: str


@dataclass(frozen=True)
class Bad:
    """A record that no retry makes acceptable."""

    which: int


@dataclass(frozen=True)
class Kill:
    """The process ends at a boundary; its rows on the way may arrive, unheard of."""

    after: int
    rows_arrive: bool


@dataclass(frozen=True)
class Outage:
    """Effects fail from a boundary on, so many times; some fail when they were applied."""

    after: int
    times: int


Trouble = Kill | Outage | None
# One stands before and one behind each effect: a transaction has about eight.
BOUNDARIES = st.integers(0, 40)
TROUBLE = st.one_of(
    st.none(),
    st.builds(Kill, BOUNDARIES, st.booleans()),
    # Fewer in a row are waited out, more than a process is patient for make it leave.
    st.builds(Outage, BOUNDARIES, st.sampled_from([1, 2, 3, 10_000])),
)
RARITIES = st.sampled_from(
    ["time passes", "time passes", "time passes", "flood", "end of the shard"]
)


def transactions() -> st.SearchStrategy[New]:
    return st.builds(
        New,
        CARDS,
        MERCHANTS,
        OFFSETS_S,
        st.sampled_from(["purchase", "purchase", "purchase", "refund", "reversal"]),
        st.integers(0, 90_000),
    )


AGAIN = st.builds(
    Again,
    st.integers(0, 99),
    st.sampled_from(
        [(), (), (("amount", 0.01),), (("card_id", "card_2"),), (("country", "NL"),)],
    ),
)
LABELS = st.sampled_from(["fraud", "legitimate"])
VERDICT = st.builds(Verdict, st.integers(0, 99), LABELS, st.integers(0, 3))
ORPHAN = st.builds(Orphan, st.integers(0, 2), LABELS, CARDS)
BAD = st.builds(Bad, st.integers(0, len(MALFORMED) - 1))
# Half of what is sent is new: Hypothesis takes one and the same strategy only once.
EVENTS = st.one_of(*(transactions() for _ in range(6)), AGAIN, VERDICT, ORPHAN, BAD)
Event = New | Again | Verdict | Orphan | Bad


class WorkerMachine(RuleBasedStateMachine):
    """Random interleavings; the guarantees are checked after each step and at the end."""

    protections: ClassVar[Protections] = Protections()

    @initialize(chunk_size=st.integers(1, 5), idle_days=st.sampled_from([0, 0, 0, 0, 0, 0, 0, 2]))
    def begin(self, chunk_size: int, idle_days: int) -> None:
        """Where the stream may stand still for *idle_days*, most records end as stale."""
        self.idle_days = idle_days
        self.world = World(self.protections, chunk_size)
        self.checks = Checks(self.world)
        self.world.take_over("a")

    @rule(events=st.lists(EVENTS, min_size=2, max_size=12), aggregated=st.booleans())
    def send(self, events: Sequence[Event], *, aggregated: bool) -> None:
        for event in events:
            self.world.stream.put(self._write(event), self._now_ms(), aggregated=aggregated)

    @rule(
        name=SEATS,
        size=st.integers(0, 20),
        pause_s=st.sampled_from([0.0, 3.0]),
        trouble=TROUBLE,
    )
    def deliver(self, name: str, size: int, pause_s: float, trouble: Trouble) -> None:
        """
        The next records to a process; a new one takes the lease first.

        What held it before goes on in the belief that it does.
        """
        if name not in self.world.seats:
            self.world.take_over(name)
        self.world.clock.sleep(pause_s)
        self._plan(trouble)
        self.world.deliver(self.world.seats[name], size)

    @rule(prompt=st.booleans(), answers=st.lists(ANSWERS, max_size=4))
    def change_firehose(self, *, prompt: bool, answers: list[str]) -> None:
        self.world.prompt, self.world.answers = prompt, answers

    @rule(which=st.integers(0, 99), how=ANSWERS)
    def firehose_answers(self, which: int, how: str) -> None:
        pending = self.world.pending
        if pending:
            self.world.settle(pending[which % len(pending)], how)

    @rule(name=SEATS, how=st.sampled_from(["kill", "lose", "shut down"]), trouble=TROUBLE)
    def leave(self, name: str, how: str, trouble: Trouble) -> None:
        seat = self.world.seats.get(name)
        if seat is None:
            return
        self._plan(trouble)
        alive, worker = True, seat.worker
        if how == "shut down":
            alive = self.world.call(seat, worker.shutdown_requested)
        elif how == "lose":
            seat.refused = False
            alive = self.world.call(seat, lambda _checkpoint: worker.lease_lost())
        if alive:
            self.world.crash(seat)

    @rule(what=RARITIES, trouble=TROUBLE, bad=BAD)
    def something_rare(self, what: str, trouble: Trouble, bad: Bad) -> None:
        if what == "flood":
            for _ in range(15):
                self.world.stream.put(MALFORMED[bad.which], self._now_ms())
        elif what == "end of the shard":
            self._plan(trouble)
            self._end_the_shard()
        else:
            self.world.clock.sleep((24 * self.idle_days + 1) * 3_600)

    def _end_the_shard(self) -> None:
        """A split: the parent is checkpointed whole, and its child begins."""
        world, seat = self.world, self.world.owner
        if seat is None or not seat.shard.entries or not self._all_delivered():
            return
        if world.call(seat, seat.worker.shard_ended):
            seat.shard.ended = True
            self.checks.check()
            world.crash(seat)
            world.stream.split()

    def _plan(self, trouble: Trouble) -> None:
        fuse = self.world.fuse
        fuse.left = None
        if isinstance(trouble, Kill):
            fuse.left, fuse.kills = trouble.after, True
            self.world.rows_of_the_dead_arrive = trouble.rows_arrive
        elif isinstance(trouble, Outage):
            fuse.left, fuse.kills, fuse.times = trouble.after, False, trouble.times

    @invariant()
    def holds(self) -> None:
        self.checks.check()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.fuse.left, world.prompt, world.answers = None, True, []
        for seat in list(world.seats.values()):
            world.crash(seat)
        world.tolerant = True
        world.take_over("healed")
        healed = world.seats["healed"]
        while not self._all_delivered():
            world.clock.sleep(3.0)
            assert world.deliver(healed, 7)
        assert world.call(healed, healed.worker.shutdown_requested)
        newest = [entry.position for entry in healed.shard.entries]
        last = newest[-1] if newest else None
        assert healed.shard.checkpoint == last, "all is done, and the checkpoint elsewhere"
        self.checks.check_final()

    def _all_delivered(self) -> bool:
        owner = self.world.owner
        return owner is not None and owner.cursor == len(owner.shard.entries)

    def _now_ms(self) -> int:
        return self.world.clock.now_ms()

    def _write(self, event: Event) -> bytes:
        payloads, now_ms = self.world.stream.payloads, self._now_ms()
        if isinstance(event, New):
            payload = a_payload(
                len(payloads),
                now_ms + event.offset_s * SECOND_MS,
                card_id=event.card,
                merchant_id=event.merchant,
                kind=event.kind,
                amount=event.cents / 100,
            )
            payloads.append(payload)
            return orjson.dumps(payload)
        if isinstance(event, Again):
            if not payloads:
                return MALFORMED[0]
            return orjson.dumps(payloads[event.which % len(payloads)] | dict(event.changes))
        if isinstance(event, Verdict):
            # One place past the end: the transaction that comes next.
            number = event.which % (len(payloads) + 1)
            return a_verdict(f"tx_{number}", event.label, now_ms - event.age_s * SECOND_MS)
        if isinstance(event, Orphan):
            told = {"event_time": iso(now_ms - 100 * HOUR_MS), "keys": {"card_id": event.card}}
            return a_verdict(f"gone_{event.which}", event.label, now_ms, **told)
        return MALFORMED[event.which]
