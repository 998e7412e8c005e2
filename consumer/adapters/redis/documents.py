"""
Decision documents in Redis: RedisJSON, an index, and the alerts stream.

``tx:<transaction_id>`` is written by one server-side function that writes only
when the key is absent, so two owners of a shard cannot both decide. The same
call sets the lifetime, stamps the server's time as ``stored_ms`` and appends to
the alerts stream, so a crash leaves no document without them. A label that came
before its document waits as ``unmatched:{tx:<transaction_id>}``, in the document's
slot, and the same call takes it over.
"""

from collections.abc import Sequence
from typing import Any

import orjson
import redis

from consumer.adapters.redis.cluster import Call, Servers, Words
from consumer.adapters.redis.connection import command, refuse_eviction, translated
from consumer.adapters.redis.index import INDEX, PREFIX, create_indexes
from consumer.document import (
    DocumentFormat,
    alert_of,
    build_alert,
    build_document,
    came_from,
    milliseconds,
)
from consumer.errors import Misconfigured, Problem
from consumer.labels import build_label, read_effect
from consumer.model import (
    Assessment,
    Label,
    Labelled,
    LabelOutcome,
    Outcome,
    Stored,
    StoredDecision,
    TransactionId,
)
from consumer.ports import Later, Pending

__all__ = ["ALERTS", "INDEX", "PREFIX", "RedisDocuments"]

ALERTS = "alerts"

_LIBRARY = """#!lua name=fraudstream_documents_2
local function rank(known, time, id)
  if not known then
    return 'applied'
  end
  local known_time = tonumber(string.match(known, '"time_ms":(%d+)') or -1)
  local known_id = string.match(known, '"id":"([^"]*)"') or ''
  if known_id == id then
    return 'repeated'
  end
  if known_time > time or (known_time == time and known_id > id) then
    return 'superseded'
  end
  return 'applied'
end

local function decide(keys, args)
  local t = redis.call('TIME')
  local stored = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
  local document = '{"stored_ms":' .. stored .. ',' .. string.sub(args[2], 2)
  if not redis.call('JSON.SET', keys[1], '$', document, 'NX') then
    return redis.call('JSON.GET', keys[1])
  end
  redis.call('EXPIRE', keys[1], args[1])
  if args[3] then
    redis.call('XADD', keys[3], 'MAXLEN', '~', args[3], '*', 'alert', args[4])
  end
  local waiting = redis.call('GET', keys[2])
  if not waiting then
    return false
  end
  redis.call('JSON.SET', keys[1], '$.label', waiting)
  redis.call('DEL', keys[2])
  return {waiting}
end

local function label(keys, args)
  local time, id, body, ttl = tonumber(args[1]), args[2], args[3], args[4]
  local known = redis.call('JSON.GET', keys[1], '$.label')
  if not known then
    if rank(redis.call('GET', keys[2]), time, id) == 'applied' then
      redis.call('SET', keys[2], body, 'EX', ttl)
    end
    return false
  end
  local outcome = known == '[]' and 'applied' or rank(known, time, id)
  if outcome == 'applied' then
    redis.call('JSON.SET', keys[1], '$.label', body)
  end
  local document = redis.call('JSON.GET', keys[1],
    'transaction_id', 'transaction', 'event_ms', 'origin', 'label')
  return {outcome, document}
end

redis.register_function('fraudstream_decide_2', decide)
redis.register_function('fraudstream_label_2', label)
"""
_DECIDE = "fraudstream_decide_2"
_LABEL = "fraudstream_label_2"


class RedisDocuments:
    """
    The document store of a Redis server with JSON and Search, or of a cluster of them.

    The alerts stream lies in one slot, documents in all: in a cluster the alert follows
    its document in a second round trip, again for a record that comes again, so that a
    crash between the two makes a repeat and no gap.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        form: DocumentFormat,
        ttl_s: int,
        alerts_max_length: int,
    ) -> None:
        self._servers = Servers(client)
        self._form = form
        self._ttl = str(ttl_s)
        self._alerts_max_length = str(alerts_max_length)

    def prepare(self) -> None:
        """
        Load the functions and create the index.

        Raises Misconfigured when the server lacks JSON or Search, Unavailable
        when it does not answer.
        """
        with translated():
            for primary in self._servers.primaries:
                _check_modules(primary)
                refuse_eviction(primary, "redis.documents_url")
            self._load()
            create_indexes(self._servers)

    def ping(self) -> None:
        """Ask every primary for a sign of life. Raises Unavailable."""
        with translated():
            self._servers.ping()

    def close(self) -> None:
        """Close the connections to further primaries of a cluster."""
        self._servers.close()

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]:
        """
        Store each assessment whose id has no document yet; return what stands.

        One round trip, in a cluster two. Sending an assessment again returns the stored
        decision. Raises Unavailable.
        """
        return self.start(assessments).result()

    def start(self, assessments: Sequence[Assessment]) -> Pending[list[StoredDecision]]:
        """Send *assessments*; the result waits for what stands. Raises as ``decide``."""
        documents = [build_document(assessment, self._form) for assessment in assessments]
        sent = self._start(self._decide_calls(assessments, documents))
        return Later(lambda: self._finish(assessments, documents, sent.result()))

    def _finish(
        self,
        assessments: Sequence[Assessment],
        documents: Sequence[bytes],
        replies: Sequence[Any],
    ) -> list[StoredDecision]:
        decisions = [
            StoredDecision(Stored.CREATED, document)
            if reply is None
            else _read_decision(assessment, document, reply)
            for assessment, document, reply in zip(assessments, documents, replies, strict=True)
        ]
        self._alert(assessments, decisions)
        return decisions

    def label(self, labels: Sequence[Label]) -> list[Labelled]:
        """
        Note each label on its document, or keep it until its transaction comes.

        One round trip. Sending a label again changes nothing. Raises Unavailable.
        """
        calls = []
        for label in labels:
            key = PREFIX + label.transaction_id
            time_ms = str(milliseconds(label.label_time))
            words: Words = ("FCALL", _LABEL, 2, key, _waiting_key(key))
            words += (time_ms, label.label_id, build_label(label), self._ttl)
            calls.append(Call(key, words))
        return [_read_labelled(reply) for reply in self._call(calls)]

    def read(self, transaction_id: TransactionId) -> bytes | None:
        """The stored document, or None when there is none (any more). Raises Unavailable."""
        with translated():
            key = PREFIX + transaction_id
            reply: bytes | None = self._servers.command(key, "JSON.GET", key)
            return reply

    def find(self, transaction_ids: Sequence[TransactionId]) -> list[bytes | None]:
        """Return the stored document of each id, see the port. Raises Unavailable."""
        keys = [PREFIX + transaction_id for transaction_id in transaction_ids]
        with translated():
            calls = [Call(key, ("JSON.GET", key)) for key in keys]
            return _checked(self._servers.call(calls))

    def _decide_calls(
        self, assessments: Sequence[Assessment], documents: Sequence[bytes]
    ) -> list[Call]:
        calls = []
        with translated():
            apart = self._servers.clustered
        for assessment, document in zip(assessments, documents, strict=True):
            key = PREFIX + assessment.transaction.transaction_id
            keys = (key, _waiting_key(key))
            words: Words
            if apart or assessment.decision.outcome is Outcome.APPROVE:
                words = ("FCALL", _DECIDE, 2, *keys, self._ttl, document)
            else:
                words = ("FCALL", _DECIDE, 3, *keys, ALERTS, self._ttl, document)
                words += (self._alerts_max_length, build_alert(assessment))
            calls.append(Call(key, words))
        return calls

    def _alert(
        self, assessments: Sequence[Assessment], decisions: Sequence[StoredDecision]
    ) -> None:
        """In a cluster, append the alerts that the decisions may still be without."""
        with translated():
            if not self._servers.clustered:
                return
            alerts = [
                alert
                for assessment, decision in zip(assessments, decisions, strict=True)
                if _may_lack_alert(assessment, decision)
                and (alert := alert_of(orjson.loads(decision.document))) is not None
            ]
            words = ("XADD", ALERTS, "MAXLEN", "~", self._alerts_max_length, "*", "alert")
            _checked(self._servers.call([Call(ALERTS, (*words, alert)) for alert in alerts]))

    def _call(self, calls: Sequence[Call]) -> list[Any]:
        """Return the reply of each call; raise the first error among them."""
        return self._start(calls).result()

    def _start(self, calls: Sequence[Call]) -> Pending[list[Any]]:
        with translated():
            sent = self._servers.start(calls)
        return Later(lambda: self._receive(calls, sent))

    def _receive(self, calls: Sequence[Call], sent: Pending[list[Any]]) -> list[Any]:
        """
        Wait for the replies to *calls*; raise the first error among them.

        A server loses its functions by a restart without persistence or a failover, and
        one that joined a cluster has neither these nor the index. A call that found none
        did nothing, so it is sent once more.
        """
        with translated():
            replies = sent.result()
            lost = [index for index, reply in enumerate(replies) if _is_lost(reply)]
            if lost:
                self._load()
                create_indexes(self._servers)
                again = self._servers.call([calls[index] for index in lost])
                for index, reply in zip(lost, again, strict=True):
                    replies[index] = reply
            return _checked(replies)

    def _load(self) -> None:
        for primary in self._servers.primaries:
            primary.function_load(_LIBRARY, replace=True)


def _check_modules(client: redis.Redis) -> None:
    modules: list[dict[bytes, bytes]] = command(client, "MODULE", "LIST")
    missing = {"rejson", "search"} - {module[b"name"].decode().lower() for module in modules}
    if missing:
        found = f"a server without {' and '.join(sorted(missing))}"
        expected = "Redis 8, Redis Stack, Redis Cloud or a server that loads RedisJSON and Search"
        problem = Problem("redis", "redis.documents_url", found, expected)
        raise Misconfigured([problem])


def _checked(replies: list[Any]) -> list[Any]:
    """The replies of a pipeline, or the first error among them raised."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


def _may_lack_alert(assessment: Assessment, decision: StoredDecision) -> bool:
    """Whether a crash may have come between the document and its alert: not for another's."""
    if decision.stored is Stored.EXISTING:
        # Without a position nothing tells a repeat of ours from another's.
        return assessment.origin.position is None
    return decision.stored is not Stored.CONFLICT


def _is_lost(reply: object) -> bool:
    return isinstance(reply, redis.ResponseError) and "Function not found" in str(reply)


def _waiting_key(document_key: str) -> str:
    """Where a label waits for a document: a hash tag keeps it in the document's slot."""
    return f"unmatched:{{{document_key}}}"


def _read_decision(assessment: Assessment, sent: bytes, reply: Any) -> StoredDecision:
    """What a reply says: the document that stood before, or the label that waited for ours."""
    if isinstance(reply, list):
        document = sent[:-1] + b',"label":' + reply[0] + b"}"
        return StoredDecision(Stored.CREATED, document, read_effect(orjson.loads(document)))
    known = orjson.loads(reply)
    transaction = assessment.transaction
    if known["digest"] not in (transaction.digest, *transaction.former_digests):
        return StoredDecision(Stored.CONFLICT, reply)
    again = came_from(known, assessment.origin)
    stored = Stored.REDELIVERED if again else Stored.EXISTING
    return StoredDecision(stored, reply, read_effect(known))


def _read_labelled(reply: Any) -> Labelled:
    if reply is None:
        return Labelled(LabelOutcome.UNMATCHED)
    outcome, document = reply
    return Labelled(LabelOutcome(outcome.decode()), read_effect(orjson.loads(document)))
