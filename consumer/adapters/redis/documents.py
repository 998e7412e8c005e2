"""
Decision documents in Redis: RedisJSON, an index, and the alerts stream.

``tx:<transaction_id>`` is written by one server-side function that writes only
when the key is absent, so two owners of a shard cannot both decide. The same
call sets the lifetime, stamps the server's time as ``stored_ms`` and appends to
the alerts stream, so a crash leaves no document without them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import redis

from consumer.adapters.redis.connection import command, refuse_eviction, translated
from consumer.document import DocumentFormat, build_alert, build_document, milliseconds
from consumer.errors import Misconfigured, Problem
from consumer.model import (
    Assessment,
    Label,
    Outcome,
    Stored,
    StoredDecision,
    Transaction,
    TransactionId,
)

INDEX = "idx:tx"
PREFIX = "tx:"
ALERTS = "alerts"

_LIBRARY = """#!lua name=fraudstream_documents_1
local function decide(keys, args)
  local t = redis.call('TIME')
  local stored = string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000))
  local document = '{"stored_ms":' .. stored .. ',' .. string.sub(args[2], 2)
  if not redis.call('JSON.SET', keys[1], '$', document, 'NX') then
    return redis.call('JSON.GET', keys[1])
  end
  redis.call('EXPIRE', keys[1], args[1])
  if args[3] then
    redis.call('XADD', keys[2], 'MAXLEN', '~', args[3], '*', 'alert', args[4])
  end
  return false
end

local function label(keys, args)
  local times = redis.call('JSON.GET', keys[1], '$.label.time_ms')
  if not times then
    return 0
  end
  local known = string.match(times, '%d+')
  if known == nil or tonumber(known) < tonumber(args[1]) then
    redis.call('JSON.SET', keys[1], '$.label', args[2])
  end
  return 1
end

redis.register_function('fraudstream_decide_1', decide)
redis.register_function('fraudstream_label_1', label)
"""
_DECIDE = "fraudstream_decide_1"
_LABEL = "fraudstream_label_1"

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
            else StoredDecision(_compare(assessment.transaction, reply), reply)
            for assessment, document, reply in zip(assessments, documents, replies, strict=True)
        ]

    def label(self, labels: Sequence[Label]) -> list[bool]:
        """Note each label on its document when it is the newest; False where none exists."""

        def send() -> list[Any]:
            pipeline = self._client.pipeline(transaction=False)
            for label in labels:
                time_ms = milliseconds(label.label_time)
                body = orjson.dumps(
                    {"label": label.label, "source": label.source, "time_ms": time_ms}
                )
                pipeline.fcall(_LABEL, 1, PREFIX + label.transaction_id, str(time_ms), body)
            return _checked(pipeline.execute(raise_on_error=False))

        return [reply == 1 for reply in self._call(send)]

    def read(self, transaction_id: TransactionId) -> bytes | None:
        """The stored document, or None when there is none (any more). Raises Unavailable."""
        with translated():
            reply: bytes | None = command(self._client, "JSON.GET", PREFIX + transaction_id)
            return reply

    def _send(self, assessments: Sequence[Assessment], documents: Sequence[bytes]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for assessment, document in zip(assessments, documents, strict=True):
            key = PREFIX + assessment.transaction.transaction_id
            if assessment.decision.outcome is Outcome.APPROVE:
                pipeline.fcall(_DECIDE, 1, key, self._ttl, document)
            else:
                alert = build_alert(assessment)
                pipeline.fcall(
                    _DECIDE, 2, key, ALERTS, self._ttl, document, self._alerts_max_length, alert
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


def _compare(transaction: Transaction, document: bytes) -> Stored:
    same = orjson.loads(document)["digest"] == transaction.digest
    return Stored.EXISTING if same else Stored.CONFLICT
