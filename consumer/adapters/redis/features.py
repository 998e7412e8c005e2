"""Entity state in Redis: one function call an entity, a chunk's calls in one pipeline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any

import redis

from consumer.adapters.redis.cluster import Call, Servers
from consumer.adapters.redis.connection import refuse_eviction, translated
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.features.aggregation import Reply
from consumer.features.derived import coordinates
from consumer.features.library import HOT_AFTER, build_library
from consumer.features.plan import EntityPlan, Plan
from consumer.model import Applied, Kind, LabelEffect, Observation, Transaction
from consumer.ports import Observe

_STATUS = (Applied.READ, Applied.APPLIED, Applied.REPEATED, Applied.LATE)
_NO_ID = bytes(8)
_SCANS, _SCANNED = 20, 500
_MAX_TIME_S = 2**32 - 2
_MAX_AMOUNT_MINOR = 2**40 - 1
# Sets our ids apart from any other use of the same hash; part of the state format.
_PERSON = b"fraudstream/id/1"
_VALUE_PERSON = b"fraudstream/v/1"
_VALUE_BYTES = 5
_NO_VALUE = bytes(_VALUE_BYTES)
_PLACE = Struct("<ii")
# How a server of a cluster refuses what need_whole_slot in state.lua asks, by its version.
_MOVING = ("access a non local key", "during rehashing of the slot")


@dataclass(frozen=True, slots=True)
class _Call:
    """One function call: which function on which key with which packed argument."""

    function: str
    key: str
    argument: bytes


class RedisFeatureStore:
    """
    A FeatureStore on any Redis from 7.0, modules or not, single or a cluster.

    *id_horizon_s* is the length of the once-only guarantee in event time. An entity with
    more than *hot_after* transactions within it keeps its ids and raw events in keys of
    its own; no value depends on that.
    """

    def __init__(
        self, client: redis.Redis, plan: Plan, *, id_horizon_s: int, hot_after: int = HOT_AFTER
    ) -> None:
        self._servers = Servers(client)
        self._plan = plan
        self._library = build_library(plan, horizon_s=id_horizon_s, hot_after=hot_after)
        self._formats = tuple(Struct(f"<B{entity.slots}d") for entity in plan.entities)
        self._empty = tuple(entity.empty for entity in plan.entities)
        self._places = {entity.name: index for index, entity in enumerate(plan.entities)}

    def prepare(self) -> None:
        """
        Check the server and load the function library; doing it again changes nothing.

        Raises Unavailable, and Misconfigured for a server that has no functions or that
        may evict keys.
        """
        with translated():
            for primary in self._servers.primaries:
                refuse_eviction(primary, "redis.features_url")
            try:
                self._load()
            except redis.ResponseError as error:
                if "unknown command" not in str(error):
                    raise
                found, expected = "a server without FUNCTION LOAD", "Redis 7.0 or newer"
                problem = Problem("redis", "redis.features_url", found, expected)
                raise Misconfigured([problem]) from error

    def ping(self) -> None:
        """Ask every primary for a sign of life. Raises Unavailable."""
        with translated():
            self._servers.ping()

    def close(self) -> None:
        """Close the connections to further primaries of a cluster."""
        self._servers.close()

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        """
        Apply each request in order and return its feature vector.

        A transaction that lacks the key of an entity reads no events there and counts as
        ``read``. Raises Unavailable, Misconfigured for state of another format, and
        ValueError for an amount outside 0 … 2⁴⁰-1 minor units, which decoding refuses.
        """
        keys = [entity.key_of(r.transaction) for r in requests for entity in self._plan.entities]
        calls = self._calls(requests, keys)
        with translated():
            answers = iter(self._send(calls))
        observations = []
        absent = iter(keys)
        for request in requests:
            replies, applied = [], []
            for index, empty in enumerate(self._empty):
                if next(absent) is None:
                    replies.append(empty)
                    applied.append(Applied.READ)
                else:
                    status, reply = self._unpack(index, next(answers))
                    replies.append(reply)
                    applied.append(status)
            vector = self._plan.vector(request.transaction, request.time_s, replies)
            observations.append(Observation(vector, tuple(applied)))
        return observations

    def read(self, entity: str, key: str, time_s: int) -> Mapping[str, float]:
        """
        Return feature name → value of one entity at *time_s*, changing nothing.

        Raises Unavailable, Misconfigured as ``observe``, and KeyError for an entity that
        the plan does not have.
        """
        index = self._places[entity]
        plan = self._plan.entities[index]
        nothing = _Tails(None).of(plan)
        argument = _argument(_NO_ID, time_s, 0, applies=False) + nothing
        call = _Call(self._library.functions[index], _state_key(entity, key), argument)
        with translated():
            (answer,) = self._send([call])
        return self._plan.entity_values(index, self._unpack(index, answer)[1])

    def verify(self) -> None:
        """
        Read one entity of each kind that is there, changing nothing.

        State of other features, windows or another horizon would otherwise be refused
        by a worker at its first record. Looks at some thousand keys of each primary; a
        user who may not scan is not held up. Raises Unavailable, Misconfigured as
        ``observe``.
        """
        for entity in self._plan.entities:
            with translated():
                key = self._find(entity.name)
            if key is not None:
                self.read(entity.name, key, 0)

    def _find(self, entity: str) -> str | None:
        """Return the key of some entity that has state; None where none is found soon."""
        start, end = _state_key(entity, "*").split("*")
        for primary in self._servers.primaries:
            try:
                cursor = 0
                for _ in range(_SCANS):
                    cursor, keys = primary.scan(cursor, match=f"{start}*{end}", count=_SCANNED)
                    for key in keys:
                        text = key.decode() if isinstance(key, bytes) else key
                        return text.removeprefix(start).removesuffix(end)
                    if not cursor:
                        break
            except redis.exceptions.NoPermissionError:
                return None
        return None

    def label(self, effects: Sequence[LabelEffect]) -> None:
        """
        Count each label in the entities of its transaction that count labels.

        It counts from its transaction's time on; at an entity that has no event at or
        after that time, or none within what its windows reach, there is nothing to
        count it in. Raises Unavailable, and Misconfigured as ``observe``.
        """
        calls = [call for effect in effects for call in self._label_calls(effect)]
        with translated():
            self._send(calls)

    def _label_calls(self, effect: LabelEffect) -> Iterator[_Call]:
        functions = self._library.label_functions
        for entity, function in zip(self._plan.entities, functions, strict=True):
            key = effect.keys.get(entity.key)
            if function is not None and key:
                yield _Call(function, _state_key(entity.name, key), _label_argument(effect))

    def _calls(self, requests: Sequence[Observe], keys: Sequence[str | None]) -> list[_Call]:
        """Return the calls of every entity that a request names, in order."""
        places = tuple(zip(self._plan.entities, self._library.functions, strict=True))
        remaining = iter(keys)
        calls = []
        for request in requests:
            transaction = request.transaction
            argument = _argument(
                _id_hash(transaction.transaction_id),
                request.time_s,
                transaction.base_amount_minor,
                applies=transaction.kind is Kind.PURCHASE,
            )
            tails = _Tails(transaction)
            for entity, function in places:
                key = next(remaining)
                if key is not None:
                    tail = tails.of(entity)
                    calls.append(_Call(function, _state_key(entity.name, key), argument + tail))
        return calls

    def _send(self, calls: Sequence[_Call]) -> list[Any]:
        """
        Send every call in one pipeline; once more those that found no function.

        A server loses its functions by a restart without persistence, FLUSHALL or a
        failover. A call that found none did nothing, and each is idempotent anyway.
        """
        answers = self._round_trip(calls)
        lost = [index for index, answer in enumerate(answers) if _is_lost(answer)]
        if lost:
            self._load()
            again = self._round_trip([calls[index] for index in lost])
            for index, answer in zip(lost, again, strict=True):
                answers[index] = answer
        return [_checked(answer) for answer in answers]

    def _round_trip(self, calls: Sequence[_Call]) -> list[Any]:
        return self._servers.call(
            [Call(each.key, ("FCALL", each.function, 1, each.key, each.argument)) for each in calls]
        )

    def _load(self) -> None:
        for primary in self._servers.primaries:
            primary.function_load(self._library.text, replace=True)

    def _unpack(self, index: int, answer: bytes) -> tuple[Applied, Reply]:
        status, *values = self._formats[index].unpack(answer)
        return _STATUS[status], tuple(values)


def _id_hash(transaction_id: str) -> bytes:
    """Return 8 bytes that stand for an id in entity state: 1 collision in 10¹⁹ pairs."""
    return blake2b(transaction_id.encode(), digest_size=8, person=_PERSON).digest()


def _argument(id_hash: bytes, time_s: int, amount_minor: int, *, applies: bool) -> bytes:
    """Pack id, time u32, amount u48 and 1 to apply. Times before 1970 count as 1970."""
    if not 0 <= amount_minor <= _MAX_AMOUNT_MINOR:
        message = f"an amount is 0 to {_MAX_AMOUNT_MINOR} minor units"
        raise ValueError(message)
    time = min(max(time_s, 0), _MAX_TIME_S).to_bytes(4, "little")
    return id_hash + time + amount_minor.to_bytes(6, "little") + (b"\1" if applies else b"\0")


def _label_argument(effect: LabelEffect) -> bytes:
    """Pack id, event time u32, label time u48 (ms), what orders labels of one time, fraud."""
    event = min(max(effect.event_time_s, 0), _MAX_TIME_S).to_bytes(4, "little")
    told = max(effect.label_time_ms, 0).to_bytes(6, "little")
    name = effect.label_id.encode()[:8].ljust(8, b"\0")
    return _id_hash(effect.transaction_id) + event + told + name + bytes([effect.fraud])


class _Tails:
    """What an argument carries beside the event, as an entity keeps it; None: nothing."""

    __slots__ = ("_hashes", "_transaction")

    def __init__(self, transaction: Transaction | None) -> None:
        self._transaction = transaction
        self._hashes: dict[str, bytes] = {}

    def of(self, entity: EntityPlan) -> bytes:
        """Return the place and the hashes of the values that *entity* keeps."""
        if not entity.places and not entity.distinct:
            return b""
        transaction = self._transaction
        place = (
            coordinates(None, None)
            if transaction is None
            else coordinates(transaction.latitude, transaction.longitude)
        )
        tail = _PLACE.pack(*place) if entity.places else b""
        return tail + b"".join([self._hash(distinct.field) for distinct in entity.distinct])

    def _hash(self, field: str) -> bytes:
        value: str | None = getattr(self._transaction, field, None)
        if not value:
            return _NO_VALUE
        known = self._hashes.get(field)
        if known is None:
            digest = blake2b(value.encode(), digest_size=_VALUE_BYTES, person=_VALUE_PERSON)
            known = self._hashes[field] = digest.digest()
        return known


def _state_key(entity: str, key: str) -> str:
    return f"f:{{{entity}:{key}}}"


def _is_lost(answer: object) -> bool:
    return isinstance(answer, Exception) and "Function not found" in str(answer)


def _checked(answer: object) -> Any:
    """Return the answer; raise Misconfigured for state of another format, else Unavailable."""
    if not isinstance(answer, Exception):
        return answer
    message = str(answer)
    if any(words in message for words in _MOVING):
        message = "the keys of an entity are on their way to another server of the cluster"
    if "FRAUDSTREAM_STATE" not in message:
        raise Unavailable("redis", message) from answer
    found = message.partition("FRAUDSTREAM_STATE ")[2]
    expected = (
        "state written by this plan, id horizon and version; upgrade this process, go back "
        "to the former features and settings, or rebuild the state in an empty database"
    )
    problem = Problem("redis", "feature state", found, expected)
    raise Misconfigured([problem]) from answer
