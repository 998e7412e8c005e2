"""The stores in Redis, as the model looks into them."""

from collections.abc import Mapping, Sequence

import redis

from consumer.adapters.redis.connection import command
from consumer.adapters.redis.documents import RedisDocuments
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.document import DocumentFormat
from consumer.features.specification import parse_plan
from consumer.model import LabelEffect, Observation
from consumer.ports import Observe, Pending
from tests.fakes.eager import at_once
from tests.fakes.entities import Counters
from tests.properties.shard_world import FIELDS, HORIZON_S, World

PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}, merchant: {key: merchant_id}}
features:
  - {name: amount, field: amount}
  - {name: card_count, entity: card, aggregation: count, windows: [30d]}
  - {name: card_sum, entity: card, aggregation: sum, windows: [30d]}
  - {name: card_frauds, entity: card, aggregation: fraud_count, windows: [30d]}
  - {name: merchant_count, entity: merchant, aggregation: count, windows: [30d]}
  - {name: merchant_sum, entity: merchant, aggregation: sum, windows: [30d]}
""",
    source="model",
)
_LONG_AFTER_S = 7 * 86_400


class RedisEntities:
    """
    The feature store in Redis. Its labels count in rows of events and are told by no one
    read, so that the model compares counts and sums alone.
    """

    tells_labels = False

    def __init__(self, client: redis.Redis, world: World) -> None:
        self._store = RedisFeatureStore(client, PLAN, id_horizon_s=HORIZON_S)
        self._world = world
        self.names = PLAN.names

    def start(self, requests: Sequence[Observe]) -> Pending[list[Observation]]:
        return at_once(lambda: self.observe(requests))

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        for request in requests:
            for field in FIELDS:
                self._world.note(field, request)
        return self._store.observe(requests)

    def label(self, effects: Sequence[LabelEffect]) -> None:
        self._store.label(effects)

    @property
    def state(self) -> Mapping[tuple[str, str], Counters]:
        """What each entity counts a week from now, in windows that reach back to its first."""
        time_s = self._world.clock.now_ms() // 1_000 + _LONG_AFTER_S
        found = {}
        for field, key in {(each.field, each.key) for each in self._world.counted}:
            entity = field.removesuffix("_id")
            values = self._store.read(entity, key, time_s)
            count, total = values[f"{entity}_count"], values[f"{entity}_sum"]
            found[field, key] = Counters(count=int(count), sum_minor=round(total * 100))
        return found


class SeenDocuments(RedisDocuments):
    """The document store in Redis, with all that it holds."""

    def __init__(self, client: redis.Redis, form: DocumentFormat) -> None:
        super().__init__(client, form=form, ttl_s=172_800, alerts_max_length=1_000)
        self._client = client
        self.prepare()

    @property
    def documents(self) -> Mapping[str, bytes]:
        keys = sorted(self._client.scan_iter("tx:*", count=1_000))
        found = command(self._client, "JSON.MGET", *keys, "$") if keys else []
        pairs = zip(keys, found, strict=True)
        # A path that begins with a dollar sign answers with a list of what it finds.
        return {key.decode().removeprefix("tx:"): body[1:-1] for key, body in pairs}

    @property
    def waiting(self) -> Mapping[str, bytes]:
        keys = sorted(self._client.scan_iter("unmatched:*", count=1_000))
        found = self._client.mget(keys) if keys else []
        names = [key.decode().removeprefix("unmatched:{tx:").removesuffix("}") for key in keys]
        return dict(zip(names, found, strict=True))
