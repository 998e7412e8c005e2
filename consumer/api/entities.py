"""``GET /v1/entities/{type}/{id}``: the features of one card, merchant, device … as of now."""

from collections.abc import Mapping
from typing import Protocol

import orjson
from anyio import CapacityLimiter, to_thread

from consumer.api.operations import Asked, Reply
from consumer.api.problems import Kind, Problem, Refused
from consumer.api.searching import refuse_card_number
from consumer.api.transactions import check_text
from consumer.clock import Clock
from consumer.features.plan import Plan
from consumer.pan import PanGuard
from consumer.settings import Events


class EntityFeatures(Protocol):
    """Reads entity state and changes nothing."""

    def read(self, entity: str, key: str, time_s: int) -> Mapping[str, float]:
        """Return feature name → value of one entity at *time_s*. Raises Unavailable."""
        ...


class Entities:
    """Reads *features* of the entities of *plan*; a card number is looked up by its token."""

    def __init__(
        self, features: EntityFeatures, plan: Plan, guard: PanGuard, events: Events, clock: Clock
    ) -> None:
        self._features = features
        self._keys = {entity.name: entity.key for entity in plan.entities}
        self._guard = guard
        self._guarded = events.pan_fields
        self._clock = clock
        self._limit = CapacityLimiter(1)

    async def read(self, asked: Asked) -> Reply:
        """The values that count nothing but this entity; zeros for one without events."""
        kind, key = asked.path["type"], asked.path["id"]
        if kind not in self._keys:
            detail = f"type: expected {' or '.join(self._keys)}"
            raise Refused(Problem(Kind.NOT_FOUND, detail))
        check_text("id", key)
        if self._keys[kind] in self._guarded:
            refuse_card_number("id", key, self._guard)
            key = self._guard.token(key)
        now_ms = self._clock.now_ms()
        values = await to_thread.run_sync(
            self._features.read, kind, key, now_ms // 1000, limiter=self._limit
        )
        answer = {"type": kind, "id": key, "at_ms": now_ms, "features": dict(values)}
        return Reply(orjson.dumps(answer))
