"""Entity state in Redis: one function call an entity, a chunk's calls in one pipeline."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from struct import Struct
from typing import Any

import redis

from consumer.adapters.redis.arguments import NO_ID, Tails, event_argument, id_hash, label_argument
from consumer.adapters.redis.cluster import Call, Servers
from consumer.adapters.redis.connection import refuse_eviction, translated
from consumer.adapters.redis.layouts import TEXT, LayoutRegistry
from consumer.clock import Clock, SystemClock
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.features.aggregation import Reply
from consumer.features.layout import Standings
from consumer.features.library import HOT_AFTER, Handler, Library, build_library
from consumer.features.plan import Plan
from consumer.model import Applied, Kind, LabelEffect, Observation
from consumer.ports import Later, Observe, Pending, Step

_STATUS = (Applied.READ, Applied.APPLIED, Applied.REPEATED, Applied.LATE)
_SCANS, _SCANNED = 20, 500
# How a server of a cluster refuses what need_whole_slot in state.lua asks, by its version.
_MOVING = ("access a non local key", "during rehashing of the slot")


class RedisFeatureStore:
    """
    A FeatureStore on any Redis from 7.0, modules or not, single or a cluster.

    *id_horizon_s* is the length of the once-only guarantee in event time. An entity with
    more than *hot_after* transactions within it keeps its ids and raw events in keys of
    its own; no value depends on that.

    State that another plan left is converted as it is met. From its first ``observe`` or
    ``label`` on a store counts as a living worker, until it is closed or silent for
    minutes; while workers with another plan are alive too, it writes state as theirs was
    written. A store that only reads is no worker and changes nothing.

    Without *answers* it leaves the same state and reads nothing from it, at two thirds of the
    price: vectors are empty.
    """

    def __init__(
        self,
        client: redis.Redis,
        plan: Plan,
        *,
        id_horizon_s: int,
        hot_after: int = HOT_AFTER,
        clock: Clock | None = None,
        answers: bool = True,
    ) -> None:
        self._servers = Servers(client)
        self._answers = answers
        self._plan = plan
        self._horizon_s = id_horizon_s
        self._hot_after = hot_after
        self._library = self._build(Standings())
        self._registry = LayoutRegistry(self._servers, plan, id_horizon_s, clock or SystemClock())
        self._upgrading = False
        self._formats = tuple(Struct(f"<B{entity.slots}d") for entity in plan.entities)
        self._empty = tuple(entity.empty for entity in plan.entities)
        self._places = {entity.name: index for index, entity in enumerate(plan.entities)}

    @property
    def upgrading(self) -> bool:
        """Whether a former layout is still written, by this worker or by one with the same plan."""
        return self._upgrading

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
                self._look()
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
        """Count as a worker no more; close the connections to further primaries of a cluster."""
        # Where that fails, silence does it in a few minutes.
        with suppress(redis.RedisError):
            self._registry.leave()
        self._servers.close()

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        """
        Apply each request in order and return its feature vector.

        A transaction that lacks the key of an entity reads no events there and counts as
        ``read``. Raises Unavailable, Misconfigured for state of an unknown layout, and
        ValueError for an amount outside 0 … 2⁴⁰-1 minor units, which decoding refuses.
        """
        return self.start(requests).result()

    def start(self, requests: Sequence[Observe]) -> Pending[list[Observation]]:
        """Send *requests*; the result waits for their vectors. Raises as ``observe``."""
        if not self._registry.attending:
            self._attend()
        return self._start(requests, rehearses=False)

    def rehearse(self, requests: Sequence[Observe]) -> list[Observation]:
        """
        Return what ``observe`` would for each request alone, changing nothing.

        Raises as ``observe`` does.
        """
        return self._start(requests, rehearses=True).result()

    def _start(self, requests: Sequence[Observe], *, rehearses: bool) -> Pending[list[Observation]]:
        handlers = self._library.handlers
        keys = [getattr(r.transaction, each.key) or None for r in requests for each in handlers]
        with translated():
            sent = self._start_sending(self._calls(requests, keys, rehearses=rehearses))
        width = len(handlers)

        def finish() -> list[Observation]:
            with translated():
                answers = iter(sent.result())
            return [
                self._observation(request, keys[width * index : width * (index + 1)], answers)
                for index, request in enumerate(requests)
            ]

        return Later(finish)

    def _observation(
        self, request: Observe, keys: Sequence[str | None], answers: Iterator[bytes]
    ) -> Observation:
        """Take the *answers* to the calls of one request, a key each, and build its vector."""
        replies, applied = [], []
        for index, (empty, key) in enumerate(zip(self._empty, keys, strict=False)):
            if key is None:
                replies.append(empty)
                applied.append(Applied.READ)
            else:
                status, reply = self._unpack(index, next(answers))
                replies.append(reply)
                applied.append(status)
        for key in keys[len(self._empty) :]:
            if key is not None:
                next(answers)
        if not self._answers:
            return Observation((), tuple(applied))
        vector = self._plan.vector(request.transaction, request.time_s, replies)
        return Observation(vector, tuple(applied))

    def work(self, steps: Sequence[Step]) -> list[Observation]:
        """
        Take *steps*, transactions and labels, in their very order, in one round trip.

        One observation a transaction comes back. What ``observe`` and ``label`` say holds
        here too.
        """
        return self.start_work(steps).result()

    def start_work(self, steps: Sequence[Step]) -> Pending[list[Observation]]:
        """Send *steps*; the result waits for their observations. Raises as ``work``."""
        if not self._registry.attending:
            self._attend()
        handlers = self._library.handlers
        calls: list[Call] = []
        # Of each step where its answers begin, and for an Observe which keys it has.
        places = []
        for step in steps:
            first = len(calls)
            if isinstance(step, Observe):
                keys = [getattr(step.transaction, each.key) or None for each in handlers]
                calls += self._calls([step], keys)
                places.append((first, keys))
            else:
                calls += self._label_calls(step)
        with translated():
            sent = self._start_sending(calls)

        def finish() -> list[Observation]:
            with translated():
                answers = sent.result()
            requests = (step for step in steps if isinstance(step, Observe))
            return [
                self._observation(request, keys, iter(answers[first : first + len(keys)]))
                for request, (first, keys) in zip(requests, places, strict=True)
            ]

        return Later(finish)

    def read(self, entity: str, key: str, time_s: int) -> Mapping[str, float]:
        """
        Return feature name → value of one entity at *time_s*, changing nothing.

        Raises Unavailable, Misconfigured as ``observe``, and KeyError for an entity that
        the plan does not have.
        """
        index = self._places[entity]
        try:
            return self._read(index, key, time_s)
        except Misconfigured:
            # A layout that became known after a store that only reads was opened.
            before = self._library
            if not self._registry.present:
                with translated():
                    self._look()
            if self._library == before:
                raise
            return self._read(index, key, time_s)

    def verify(self) -> None:
        """
        Read one entity of each kind that is there, changing nothing.

        State of another horizon or of a newer version would otherwise be refused by a
        worker at its first record. Looks at some thousand keys of each primary; a user
        who may not scan is not held up. Raises Unavailable, Misconfigured as ``observe``.
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
        if not self._registry.attending:
            self._attend()
        calls = [call for effect in effects for call in self._label_calls(effect)]
        if calls:
            with translated():
                self._send(calls)

    def _label_calls(self, effect: LabelEffect) -> Iterator[Call]:
        for handler in self._library.handlers:
            key = effect.keys.get(handler.key)
            if handler.label is not None and key:
                yield _call(handler.label, _state_key(handler.entity, key), label_argument(effect))

    def _calls(
        self, requests: Sequence[Observe], keys: Sequence[str | None], *, rehearses: bool = False
    ) -> list[Call]:
        """Return the calls of every entity that a request names, in order."""
        handlers: tuple[Handler, ...] = self._library.handlers
        remaining = iter(keys)
        calls = []
        for request in requests:
            transaction = request.transaction
            argument = event_argument(
                id_hash(transaction.transaction_id),
                request.time_s,
                transaction.base_amount_minor,
                applies=transaction.kind is Kind.PURCHASE,
                rehearses=rehearses,
            )
            tails = Tails(transaction)
            for handler in handlers:
                key = next(remaining)
                if key is not None:
                    state, tail = _state_key(handler.entity, key), tails.of(handler.carried)
                    calls.append(_call(handler.observe, state, argument + tail))
        return calls

    def _read(self, index: int, key: str, time_s: int) -> Mapping[str, float]:
        handler = self._library.handlers[index]
        tail = Tails(None).of(handler.carried)
        argument = event_argument(NO_ID, time_s, 0, applies=False) + tail
        call = _call(handler.observe, _state_key(handler.entity, key), argument)
        with translated():
            (answer,) = self._send([call])
        return self._plan.entity_values(index, self._unpack(index, answer)[1])

    def _send(self, calls: Sequence[Call]) -> list[Any]:
        """
        Send every call in one pipeline; once more those that found no function.

        A server loses its functions by a restart without persistence, FLUSHALL or a
        failover. A call that found none did nothing, and each is idempotent anyway.
        The word that this worker is alive travels with them when it is time for it.
        """
        return self._start_sending(calls).result()

    def _start_sending(self, calls: Sequence[Call]) -> Pending[list[Any]]:
        beat = self._registry.beat()
        sent = self._servers.start(calls if beat is None else [*calls, beat])
        return Later(lambda: self._finish_sending(calls, beat, sent.result()))

    def _finish_sending(
        self, calls: Sequence[Call], beat: Call | None, answers: list[Any]
    ) -> list[Any]:
        alive = None if beat is None else answers.pop()
        lost = [index for index, answer in enumerate(answers) if _is_lost(answer)]
        if lost:
            self._load()
            again = self._servers.call([calls[index] for index in lost])
            for index, answer in zip(lost, again, strict=True):
                answers[index] = answer
        checked = [_checked(answer) for answer in answers]
        if beat is not None and not self._registry.heard(alive):
            self._attend()
        return checked

    def _look(self) -> None:
        """Learn what a store that only reads needs to know."""
        standings, self._upgrading = self._registry.look()
        self._library = self._build(standings)

    def _attend(self) -> None:
        """Count as a living worker, and take the library that fits who else is one."""
        with translated():
            try:
                standings = self._registry.attend()
            except redis.ResponseError as error:
                if not _is_lost(error):
                    raise
                self._load()
                standings = self._registry.attend()
            self._upgrading = standings.upgrading
            library = self._build(standings)
            if library != self._library:
                self._library = library
                self._load()

    def _build(self, standings: Standings) -> Library:
        return build_library(
            self._plan,
            horizon_s=self._horizon_s,
            hot_after=self._hot_after,
            standings=standings,
            answers=self._answers,
        )

    def _load(self) -> None:
        for primary in self._servers.primaries:
            for text in (TEXT, self._library.text):
                primary.function_load(text, replace=True)

    def _unpack(self, index: int, answer: bytes) -> tuple[Applied, Reply]:
        if not self._answers:
            return _STATUS[answer[0]], ()
        status, *values = self._formats[index].unpack(answer)
        return _STATUS[status], tuple(values)


def _call(function: str, key: str, argument: bytes) -> Call:
    """A function call with the one key that it reads and writes, and its packed argument."""
    return Call(key, ("FCALL", function, 1, key, argument))


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
        "state of this plan or of one that this process knows, with this id horizon; upgrade "
        "or restart this process, go back to the former settings, or rebuild the state in an "
        "empty database"
    )
    problem = Problem("redis", "feature state", found, expected)
    raise Misconfigured([problem]) from answer
