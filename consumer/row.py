"""
The analytics row of a decision: one flat JSON object, a line of its own.

What goes to Firehose, and from there to Athena, must not nest and keeps its
columns: those of ``COLUMNS`` stand in every row, null where a transaction has no
such field, so that a table or a Parquet schema is written down once. After them
come ``f_<name>``, a column for each feature, and ``x_<name>``, one for each
further field of the event. Times are UTC, ``2026-06-01 12:00:01.250``, the form
that Athena reads as a timestamp. ``reasons``, ``degraded`` and the three of rules
are arrays of strings. The stored label and the time of storing are left out: a row sent again
is equal to the first.
"""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import orjson

from consumer.document import OPTIONAL_FIELDS

_FIELDS: Final = (
    "card_id",
    "merchant_id",
    "amount",
    "currency",
    "base_amount",
    "kind",
    *OPTIONAL_FIELDS,
)

COLUMNS: Final = (
    "transaction_id",
    "prediction_id",
    "event_time",
    *_FIELDS,
    "decision",
    "reasons",
    "fraud_score",
    "anomaly_score",
    "risk",
    "fraud_review",
    "fraud_decline",
    "anomaly_review",
    "fraud_bands",
    "anomaly_bands",
    "rules",
    "shadow_rules",
    "rule_errors",
    "degraded",
    "future",
    "source",
    "shard_id",
    "position",
    "arrival_time",
    "received_time",
    "decided_time",
    "feature_hash",
    "rules_hash",
    "lists_hash",
    "digest",
)
"""The columns of every row, in their order."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - printed without an offset
_KNOWN: Final = frozenset((*_FIELDS, "event_time"))


def build_row(document: bytes) -> bytes:
    """Build the row of a stored *document*, ending in a newline."""
    stored = orjson.loads(document)
    transaction, origin = stored["transaction"], stored["origin"]
    scores, decision = stored["scores"], stored["decision"]
    rules = stored.get("rules", {})
    row: dict[str, object] = {
        "transaction_id": stored["transaction_id"],
        "prediction_id": stored["prediction_id"],
        "event_time": _format_time(stored["event_ms"]),
    }
    for name in _FIELDS:
        row[name] = transaction.get(name)
    row["decision"] = decision["outcome"]
    row["reasons"] = decision["reasons"]
    row["fraud_score"] = scores.get("fraud")
    row["anomaly_score"] = scores.get("anomaly")
    row["risk"] = decision.get("risk")
    bands = decision.get("bands", {})
    for name in ("fraud_review", "fraud_decline", "anomaly_review"):
        row[name] = bands.get(name)
    row["fraud_bands"] = bands.get("fraud_from")
    row["anomaly_bands"] = bands.get("anomaly_from")
    row["rules"] = rules.get("hits", [])
    row["shadow_rules"] = rules.get("shadow", [])
    row["rule_errors"] = rules.get("errors", [])
    row["degraded"] = stored["degraded"]
    row["future"] = stored.get("future", False)
    row["source"] = origin["source"]
    row["shard_id"] = origin.get("shard_id")
    row["position"] = origin.get("position")
    row["arrival_time"] = _format_time(origin["arrival_ms"])
    row["received_time"] = _format_time(origin["received_ms"])
    row["decided_time"] = _format_time(stored["decided_ms"])
    row["feature_hash"] = stored["feature_hash"]
    row["rules_hash"] = rules.get("hash")
    row["lists_hash"] = rules.get("lists_hash")
    row["digest"] = stored["digest"]
    for name, value in stored["features"].items():
        row["f_" + name] = value
    for name in sorted(transaction.keys() - _KNOWN):
        row["x_" + name] = transaction[name]
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


# Those of a chunk were received and decided together.
@lru_cache(maxsize=1_024)
def _format_time(time_ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=time_ms)).isoformat(" ", "milliseconds")
