"""Entity state in memory: counters of every entity, each id and label counted once."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from consumer.errors import Unavailable
from consumer.model import Applied, Kind, LabelEffect, Observation
from consumer.ports import Observe, Pending, Step
from tests.fakes.eager import at_once

Before = Callable[[str, Observe | LabelEffect], None]


def no_trouble(_field: str, _effect: Observe | LabelEffect) -> None:
    """Let every effect happen."""


@dataclass
class Counters:
    """What one entity remembers: totals, the ids in its horizon and the labels that stand."""

    count: int = 0
    sum_minor: int = 0
    frauds: int = 0
    newest_s: int | None = None
    ids: dict[str, int] = field(default_factory=dict)
    labels: dict[str, tuple[int, str, bool]] = field(default_factory=dict)


class FakeEntities:
    """
    Counts of the entities that *fields* key; the vector is the amount and each one's count.

    *before* is called ahead of each entity's own change, as a pipeline's calls are apart,
    and may raise; ``fail`` makes the next calls unavailable.
    """

    tells_labels = True

    def __init__(
        self,
        fields: Sequence[str] = ("card_id",),
        horizon_s: int = 90_000,
        before: Before = no_trouble,
    ) -> None:
        self.fields = tuple(fields)
        self.names = ("amount", *(f"{name.removesuffix('_id')}_count" for name in fields))
        self.state: dict[tuple[str, str], Counters] = {}
        self._horizon_s = horizon_s
        self._before = before
        self._failures = 0

    def fail(self, times: int) -> None:
        self._failures = times

    def start(self, requests: Sequence[Observe]) -> Pending[list[Observation]]:
        return at_once(lambda: self.observe(requests))

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        if self._failures:
            self._failures -= 1
            raise Unavailable("redis", "told to fail")
        return [self._observe(request) for request in requests]

    def rehearse(self, requests: Sequence[Observe]) -> list[Observation]:
        found: list[Observation] = []
        for request in requests:
            before = deepcopy(self.state)
            found += self.observe([request])
            self.state = before
        return found

    def start_work(self, steps: Sequence[Step]) -> Pending[list[Observation]]:
        return at_once(lambda: self.work(steps))

    def work(self, steps: Sequence[Step]) -> list[Observation]:
        found: list[Observation] = []
        for step in steps:
            if isinstance(step, Observe):
                found += self.observe([step])
            else:
                self.label([step])
        return found

    def label(self, effects: Sequence[LabelEffect]) -> None:
        for effect in effects:
            for name in self.fields:
                if effect.keys.get(name):
                    self._before(name, effect)
                    self._label(self._entity(name, effect.keys[name]), effect)

    def _entity(self, name: str, key: str) -> Counters:
        return self.state.setdefault((name, key), Counters())

    def _observe(self, request: Observe) -> Observation:
        values = [request.transaction.base_amount_minor / 100]
        applied = []
        for name in self.fields:
            key = getattr(request.transaction, name)
            if not key:
                applied.append(Applied.READ)
                values.append(0.0)
                continue
            self._before(name, request)
            entity = self._entity(name, key)
            applied.append(self._apply(entity, request))
            values.append(float(entity.count))
        return Observation(tuple(values), tuple(applied))

    def _apply(self, entity: Counters, request: Observe) -> Applied:
        if request.transaction.kind is not Kind.PURCHASE:
            return Applied.READ
        settled = None if entity.newest_s is None else entity.newest_s - self._horizon_s
        if settled is not None and request.time_s < settled:
            return Applied.LATE
        if request.transaction.transaction_id in entity.ids:
            return Applied.REPEATED
        entity.count += 1
        entity.sum_minor += request.transaction.base_amount_minor
        entity.newest_s = max(request.time_s, entity.newest_s or 0)
        entity.ids[request.transaction.transaction_id] = request.time_s
        horizon = entity.newest_s - self._horizon_s
        entity.ids = {name: time for name, time in entity.ids.items() if time >= horizon}
        return Applied.APPLIED

    def _label(self, entity: Counters, effect: LabelEffect) -> None:
        known = entity.labels.get(effect.transaction_id)
        if known is not None and (effect.label_time_ms, effect.label_id) <= known[:2]:
            return
        entity.frauds += effect.fraud - (known[2] if known else 0)
        stands = (effect.label_time_ms, effect.label_id, effect.fraud)
        entity.labels[effect.transaction_id] = stands
