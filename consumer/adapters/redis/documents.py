"""
Decision documents in Redis: RedisJSON, an index, and the alerts stream.

``tx:<transaction_id>`` is written by one server-side function that writes only
when the key is absent, so two owners of a shard cannot both decide. The same
call sets the lifetime, stamps the server's time as ``stored_ms`` and appends to
the alerts stream, so a crash leaves no document without them. A label that came
before its document waits as ``unmatched:{tx:<transaction_id>}``, in the document's
slot, and the same call takes it over.
"""

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import redis

from consumer.adapters.redis.connection import command, refuse_eviction, translated
from consumer.document import DocumentFormat, build_alert, build_document, came_from, milliseconds
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

INDEX = "idx:tx"
PREFIX = "tx:"
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

_CREATE_INDEX = (
    *("FT.CREATE", INDEX, "ON", "JSON", "PREFIX", "1", PREFIX, "SCHEMA"),
    *("$.transaction.card_id", "AS", "card", "TAG", "CASESENSITIVE"),
    *("$.transaction.merchant_id", "AS", "merchant", "TAG", "CASESENSITIVE"),
    *("$.transaction.device_id", "AS", "device", "TAG", "CASESENSITIVE"),
    *("$.event_ms", "AS", "time", "NUMERIC", "SORTABLE"),
    *("$.transaction.base_amount", "AS", "amount", "NUMERIC"),
    *("$.decision.outcome", "AS", "decision", "TAG"),
    *("$.decision.reasons[*]", "AS", "reason", "TAG"),
    *("$.scores.fraud", "AS", "fraud_score", "NUMERIC"),
    *("$.scores.anomaly", "AS", "anomaly_score", "NUMERIC"),
    *("$.label.label", "AS", "label", "TAG"),
)


class RedisDocuments:
    """The document store of one Redis server with JSON and Search."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        form: DocumentFormat,
        ttl_s: int,
        alerts_max_length: int,
    ) -> None:
        self._client = client
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
            self._check_modules()
            refuse_eviction(self._client, "redis.documents_url")
            self._load()
            try:
                command(self._client, *_CREATE_INDEX)
            except redis.ResponseError as error:
                if "already exists" not in str(error):
                    raise

    def ping(self) -> None:
        """Ask for a sign of life. Raises Unavailable."""
        with translated():
            self._client.ping()

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]:
        """
        Store each assessment whose id has no document yet; return what stands.

        One round trip. Sending an assessment again returns the stored decision.
        Raises Unavailable.
        """
        documents = [build_document(assessment, self._form) for assessment in assessments]
        replies = self._call(lambda: self._send(assessments, documents))
        return [
            StoredDecision(Stored.CREATED, document)
            if reply is None
            else _read_decision(assessment, document, reply)
            for assessment, document, reply in zip(assessments, documents, replies, strict=True)
        ]

    def label(self, labels: Sequence[Label]) -> list[Labelled]:
        """
        Note each label on its document, or keep it until its transaction comes.

        One round trip. Sending a label again changes nothing. Raises Unavailable.
        """

        def send() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for label in labels:
                key = PREFIX + label.transaction_id
                time_ms = str(milliseconds(label.label_time))
                pipeline.fcall(
                    *(_LABEL, 2, key, _waiting_key(key)),
                    *(time_ms, label.label_id, build_label(label), self._ttl),
                )
            return _checked(pipeline.execute(raise_on_error=False))

        return [_read_labelled(reply) for reply in self._call(send)]

    def read(self, transaction_id: TransactionId) -> bytes | None:
        """The stored document, or None when there is none (any more). Raises Unavailable."""
        with translated():
            reply: bytes | None = command(self._client, "JSON.GET", PREFIX + transaction_id)
            return reply

    def _send(self, assessments: Sequence[Assessment], documents: Sequence[bytes]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for assessment, document in zip(assessments, documents, strict=True):
            key = PREFIX + assessment.transaction.transaction_id
            keys = (key, _waiting_key(key))
            if assessment.decision.outcome is Outcome.APPROVE:
                pipeline.fcall(_DECIDE, 2, *keys, self._ttl, document)
            else:
                alert = build_alert(assessment)
                pipeline.fcall(
                    *(_DECIDE, 3, *keys, ALERTS, self._ttl, document),
                    *(self._alerts_max_length, alert),
                )
        return _checked(pipeline.execute(raise_on_error=False))

    def _call(self, send: Callable[[], list[Any]]) -> list[Any]:
        """Run *send*, loading the functions once when the server has lost them."""
        with translated():
            try:
                return send()
            except redis.ResponseError as error:
                # A server that lost its functions (a restart without persistence, a new
                # primary) has run none of these calls or answers them again by the stored
                # decision, so sending all of them once more is safe.
                if "Function not found" not in str(error):
                    raise
                self._load()
                return send()

    def _load(self) -> None:
        self._client.function_load(_LIBRARY, replace=True)

    def _check_modules(self) -> None:
        modules: list[dict[bytes, bytes]] = command(self._client, "MODULE", "LIST")
        missing = {"rejson", "search"} - {module[b"name"].decode().lower() for module in modules}
        if missing:
            found = f"a server without {' and '.join(sorted(missing))}"
            expected = (
                "Redis 8, Redis Stack, Redis Cloud or a server that loads RedisJSON and Search"
            )
            problem = Problem("redis", "redis.documents_url", found, expected)
            raise Misconfigured([problem])


def _checked(replies: list[Any]) -> list[Any]:
    """The replies of a pipeline, or the first error among them raised."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


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
