"""A feature store that knows which features are not full yet: those are warming."""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Protocol

from consumer.errors import Unavailable
from consumer.features.plan import Plan
from consumer.features.warmth import (
    Record,
    Report,
    decode_record,
    encode_record,
    full_from,
    needs_of,
    requirements_of,
    take_note,
)
from consumer.model import Kind, LabelEffect, Observation
from consumer.ports import (
    EagerFeatureStore,
    FeatureLabels,
    FeatureRehearsal,
    Later,
    Observe,
    Pending,
    Step,
    WarmthStore,
)

# A worker says once in so many seconds of event time how far it goes.
STEP_S = 300
_TRIES = 10


class CountedStore(EagerFeatureStore, FeatureLabels, FeatureRehearsal, Protocol):
    """All sides of a feature store, also in one order."""

    def work(self, steps: Sequence[Step]) -> list[Observation]:
        """
        Observe and label in the order of *steps*; one observation a transaction.

        One network round trip. Raises as ``observe`` and ``label`` do.
        """
        ...

    def start_work(self, steps: Sequence[Step]) -> Pending[list[Observation]]:
        """
        Begin to ``work`` *steps*; the result waits for it.

        Nothing else may be asked of this store before. Raises as ``work``, here or there.
        """
        ...


Tell = Callable[[Mapping[str, float], Sequence[str]], None]
"""
Hears when other features than before are warming: name → until when, in event time.

Infinite until the first event. The second argument names those that were and are full.
"""


def say_nothing(_until_s: Mapping[str, float], _full: Sequence[str]) -> None:
    """Tell nobody."""


def reached_s(record: Record | None) -> float:
    """How far the events of *record* surely got: its bound is at most a step ahead of them."""
    return -inf if record is None else record.newest_s - STEP_S


class WarmingFeatures:
    """
    An EagerFeatureStore and FeatureLabels that names the warming features of each observation.

    Whether a feature is full is a matter of the transaction's time and of what *warmth*
    remembers, so a redelivery is told the same. *upgrading* says whether *store* still
    writes state as the plan before this one wants it.

    Costs a comparison a transaction. Redis is asked before the first chunk and then once
    in STEP_S of event time, which is also how soon a loss of all state is noticed.
    """

    def __init__(
        self,
        store: CountedStore,
        warmth: WarmthStore,
        plan: Plan,
        *,
        horizon_s: int,
        upgrading: Callable[[], bool] = lambda: False,
        tell: Tell = say_nothing,
    ) -> None:
        self._store = store
        self._warmth = warmth
        self._needs = needs_of(plan)
        self._requirements = requirements_of(self._needs)
        self._horizon_s = horizon_s
        self._upgrading = upgrading
        self._tell_others = tell
        self._mark_s: int | None = None
        self._in_force = False
        self._stored: bytes | None = None
        self._until_s: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._seen_s = -inf
        self._last_until_s = inf
        self._take(None)

    def look(self) -> None:
        """
        Read what is known and tell what is warming, before the first event.

        Raises Unavailable, and Misconfigured for a record of another version.
        """
        self._stored = self._warmth.read()
        record = None if self._stored is None else decode_record(self._stored)
        self._take(record)
        self._tell(reached_s(record))

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        """
        Observe *requests* and name in each observation the features that are warming.

        Raises as the store does, and Unavailable before it is asked.
        """
        return self.start(requests).result()

    def start(self, requests: Sequence[Observe]) -> Pending[list[Observation]]:
        """Begin to observe *requests*; see the port. Raises as ``observe``."""
        self._note(requests)
        sent = self._store.start(requests)
        return Later(lambda: self._name_warming(requests, sent.result()))

    def label(self, effects: Sequence[LabelEffect]) -> None:
        """Count labels; see the port."""
        self._store.label(effects)

    def work(self, steps: Sequence[Step]) -> list[Observation]:
        """Observe and label in the order of *steps*, as ``observe`` and ``label`` do."""
        return self.start_work(steps).result()

    def start_work(self, steps: Sequence[Step]) -> Pending[list[Observation]]:
        """Begin to work *steps*; see the port. Raises as ``work``."""
        requests = [step for step in steps if isinstance(step, Observe)]
        self._note(requests)
        sent = self._store.start_work(steps)
        return Later(lambda: self._name_warming(requests, sent.result()))

    def rehearse(self, requests: Sequence[Observe]) -> list[Observation]:
        """Observe each of *requests* alone and change nothing; see the port."""
        return [
            self._marked(observation, request.time_s)
            for request, observation in zip(requests, self._store.rehearse(requests), strict=True)
        ]

    def _name_warming(
        self, requests: Sequence[Observe], observations: list[Observation]
    ) -> list[Observation]:
        if not requests:
            return observations
        if self._told:
            self._tell(max(request.time_s for request in requests))
        if min(request.time_s for request in requests) >= self._last_until_s:
            return observations
        return [
            self._marked(observation, request.time_s)
            for request, observation in zip(requests, observations, strict=True)
        ]

    def _marked(self, observation: Observation, time_s: int) -> Observation:
        if time_s >= self._last_until_s:
            return observation
        warming = self._warming[bisect_right(self._ends_s, time_s)]
        return replace(observation, warming=warming)

    def _note(self, requests: Sequence[Observe]) -> None:
        """Report before anything is applied that no report covers yet."""
        newest_s = max((request.time_s for request in requests), default=0)
        covered = self._mark_s is not None and newest_s <= self._mark_s
        if covered and (self._in_force or self._upgrading()):
            return
        event_s = next((r.time_s for r in requests if r.transaction.kind is Kind.PURCHASE), None)
        if event_s is None:
            return
        # A multiple, so that the bound does not depend on how the stream was cut.
        mark_s = (newest_s // STEP_S + 1) * STEP_S
        # Only a store that was asked knows who else is alive, and so what it will write.
        self._store.observe([])
        in_force = not self._upgrading()
        self._report(
            Report(
                self._requirements,
                event_s,
                mark_s,
                self._horizon_s,
                joins=self._mark_s is None,
                in_force=in_force,
            )
        )
        self._mark_s, self._in_force = mark_s, in_force
        self._tell(newest_s)

    def _report(self, report: Report) -> None:
        """Replace the record by what *report* makes of it, whoever else does so too."""
        for _ in range(_TRIES):
            record = None if self._stored is None else decode_record(self._stored)
            noted = take_note(record, report)
            data = encode_record(noted)
            self._stored = self._warmth.swap(self._stored, data)
            if self._stored == data:
                self._take(noted)
                return
        raise Unavailable("redis", "other workers changed the age of feature state all the time")

    def _take(self, record: Record | None) -> None:
        self._until_s = full_from(self._needs, record)
        self._last_until_s = max(self._until_s.values(), default=-inf)
        # Which are warming changes at these times alone.
        self._ends_s = sorted(set(self._until_s.values()))
        self._warming = [
            frozenset(name for name, until_s in self._until_s.items() if until_s >= end_s)
            for end_s in self._ends_s
        ]

    def _tell(self, newest_s: float) -> None:
        """Tell what is warming at *newest_s*, where it is something else than before."""
        self._seen_s = max(self._seen_s, newest_s)
        warming = {name: until for name, until in self._until_s.items() if self._seen_s < until}
        if warming == self._told:
            return
        full = self._told.keys() - warming.keys()
        self._told = warming
        self._tell_others(warming, sorted(full))
