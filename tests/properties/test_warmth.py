"""
A feature that is said to be full has lost nothing of its window, whatever came before.

State is modelled as pessimistically as its format permits: an event that no read on time or
within the horizon may ask for is gone, and every event is merged to the coarsest grid that
its age allows. Workers of random plans apply random events, each reporting as it would, and
all write as the former plan wants while a worker of it is alive.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from consumer.features.grid import Window
from consumer.features.warmth import (
    Need,
    Record,
    Report,
    Requirement,
    full_from,
    take_note,
)

STEP, HORIZON, LATEST = 300, 2_000, 1_500
WINDOWS = [
    Window(span, delay, grid)
    for span, grid in ((600, 5), (600, 1), (3_600, 60), (9_000, 60))
    for delay in (0, 1_200)
]
TRACKS = ["squares", "labels"]


@dataclass(frozen=True)
class Asked:
    """A feature of a model plan: a window and perhaps a track over it."""

    window: Window
    track: str

    @property
    def need(self) -> Need:
        window = self.window
        rows = Requirement("card", "card_id", "rows", window.reach_s, window.grid_s)
        more = (Requirement("card", "card_id", self.track),) if self.track else ()
        return Need((rows, *more), window.reach_s)


ModelPlan = frozenset[Asked]
PLANS = st.frozensets(
    st.builds(Asked, st.sampled_from(WINDOWS), st.sampled_from(["", *TRACKS])),
    min_size=1,
    max_size=4,
)


@dataclass
class Event:
    time_s: int
    tracks: frozenset[str]
    grid_s: int = 1
    lost: bool = False


@dataclass
class Worker:
    plan: ModelPlan
    mark_s: int | None = None
    in_force: bool = False


@dataclass
class World:
    """One entity, its record, and what state still knows of its events."""

    record: Record | None = None
    newest_s: int | None = None
    written: ModelPlan | None = None
    forgotten_s: int = 2**40
    events: list[Event] = field(default_factory=list)

    def apply(self, worker: Worker, time_s: int, now_s: int, alive: Iterable[Worker]) -> None:
        alive = list(alive)
        # The written plan gives way when no living worker has another than the one that comes.
        if self.written is None or {each.plan for each in alive} == {worker.plan}:
            self.written = worker.plan
        in_force = self.written == worker.plan
        if worker.mark_s is None or time_s > worker.mark_s or (in_force and not worker.in_force):
            mark_s = (time_s // STEP + 1) * STEP
            requirements = frozenset(
                each for asked in worker.plan for each in asked.need.requirements
            )
            joins = worker.mark_s is None
            report = Report(requirements, time_s, mark_s, HORIZON, joins=joins, in_force=in_force)
            self.record = take_note(self.record, report)
            worker.mark_s, worker.in_force = mark_s, in_force
        if self.newest_s is not None and time_s < self.newest_s - HORIZON:
            return
        if now_s > self.forgotten_s:
            for event in self.events:
                event.lost = True
        # As ``lifetime_s`` of the library has it: that of all alive, and of what is written.
        plans = [self.written, *(each.plan for each in alive)]
        reach_s = max(asked.window.reach_s for plan in plans for asked in plan)
        self.forgotten_s = now_s + reach_s + HORIZON + LATEST
        tracks = frozenset(asked.track for asked in self.written)
        # A string is written in the layout of who writes it: other tracks are gone from it.
        for event in self.events:
            event.tracks &= tracks
        self.events.append(Event(time_s, tracks))
        self.newest_s = max(time_s, self.newest_s or time_s)
        for event in self.events:
            self._compact(event, self.written)

    def _compact(self, event: Event, plan: ModelPlan) -> None:
        assert self.newest_s is not None
        age_s = self.newest_s - HORIZON - event.time_s
        grids = [asked.window.grid_s for asked in plan if asked.window.reach_s > age_s]
        if not grids:
            event.lost = True
        elif age_s > 0:
            event.grid_s = max(event.grid_s, min(grids))

    def knows(self, asked: Asked, time_s: int) -> bool:
        window = asked.window
        end = time_s - window.delay_s
        begin = (end - window.span_s) // window.grid_s * window.grid_s
        return all(
            not event.lost
            and event.grid_s <= window.grid_s
            and (not asked.track or asked.track in event.tracks)
            for event in self.events
            if begin < event.time_s <= end
        )


@given(
    plans=st.lists(PLANS, min_size=1, max_size=4),
    steps=st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from([1, 7, 60, 299, 1_000, 4_000, 9_000, 15_000]),
            st.integers(0, LATEST),
        ),
        min_size=1,
        max_size=40,
    ),
    restarts=st.sets(st.integers(0, 39), max_size=6),
)
def test_a_full_feature_has_lost_nothing_of_its_window(
    plans: list[ModelPlan], steps: list[tuple[int, int, int]], restarts: set[int]
) -> None:
    world, now_s = World(), 1_000_000
    workers = [Worker(plan) for plan in plans]
    for number, (place, passed_s, late_s) in enumerate(steps):
        now_s += passed_s
        worker = workers[place % len(workers)]
        if number in restarts:
            worker.mark_s = None
        present = {each % len(workers) for each, _, _ in steps[: number + 1]}
        coming = {each % len(workers) for each, _, _ in steps[number:]}
        alive = [workers[each] for each in present & coming]
        world.apply(worker, now_s - late_s, now_s, alive)
        assert world.newest_s is not None
        for asked in worker.plan:
            # The worker reads by the layout that it has just written.
            (full_s,) = full_from({"f": (asked.need,)}, world.record).values()
            for time_s in (now_s - late_s, world.newest_s, world.newest_s - HORIZON):
                if time_s >= full_s and time_s >= world.newest_s - HORIZON:
                    assert world.knows(asked, time_s), (asked, time_s, world.record)


@given(plan=PLANS, first_s=st.integers(1_000_000, 2_000_000), gaps=st.lists(st.integers(1, 4_000)))
def test_a_plan_that_stays_is_full_for_good_after_its_longest_reach(
    plan: ModelPlan, first_s: int, gaps: list[int]
) -> None:
    world, now_s = World(), first_s
    worker = Worker(plan)
    world.apply(worker, now_s, now_s, [worker])
    for passed_s in gaps:
        now_s += passed_s
        world.apply(worker, now_s, now_s, [worker])
        for asked in plan:
            (full_s,) = full_from({"f": (asked.need,)}, world.record).values()
            assert full_s == first_s + asked.window.reach_s
