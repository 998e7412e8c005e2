"""
What a decision must say, worked out anew: rules, outcome, reasons, and the Firehose row.

Nothing of the package decides here. Conditions of the shipped rules are read as Python, whose
``and``, ``or`` and ``not`` mean here what CEL's signs do; bands and the policy without scores
are written down. A row is told column by column.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import yaml

from tests.chaos.found import Document

_RULES = Path(__file__).parents[2] / "config" / "rules.yaml"
_BANDS = {"fraud_review": 0.5, "fraud_decline": 0.9, "anomaly_review": 3.0}
_BANDS_FROM = {"fraud_from": "settings", "anomaly_from": "settings"}
_AS_PYTHON = (
    (r"has\((tx|scores)\.(\w+)\)", r'("\2" in \1)'),
    (r"tx\.(\w+) in lists\.(\w+)", r'(tx.get("\1") in lists["\2"])'),
    (r"\b(tx|f|scores)\.(\w+)\b(?!\()", r'\1["\2"]'),
    (r"&&", " and "),
    (r"\|\|", " or "),
    (r"!(?!=)", " not "),
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """*outcome* is empty for one that adds *add* to the fraud score; *name* is id@version."""

    name: str
    condition: CodeType
    outcome: str
    add: float
    code: str
    live: bool

    def hits(self, names: Mapping[str, object]) -> bool:
        """Whether it holds for ``tx``, ``f``, ``scores`` and ``lists``."""
        return bool(eval(self.condition, {"__builtins__": {}}, dict(names)))  # noqa: S307 - our own file


@cache
def _rules() -> Mapping[str, _Rule]:
    """The shipped rules that are not off, by name, in the order of the file."""
    rules = {}
    for each in yaml.safe_load(_RULES.read_text())["rules"]:
        text = each["when"]
        for pattern, python in _AS_PYTHON:
            text = re.sub(pattern, python, text)
        outcome, mode = each["outcome"], each.get("mode", "live")
        adds = isinstance(outcome, dict)
        name = f"{each['id']}@{each['version']}"
        if mode != "off":
            rules[name] = _Rule(
                name,
                compile(f"({text})", name, "eval"),
                "" if adds else outcome,
                float(outcome["add"]) if adds else 0.0,
                each["reason"]["code"],
                mode == "live",
            )
    return rules


def expected_decision(document: Document) -> Iterator[tuple[str, Any, Any]]:
    """
    What *document* says and should say of its rules and its decision: what, found, expected.

    From its transaction, features and scores, which others hold against the oracle. A rule
    that reads a warming feature is recorded and decides nothing; which ones those are, the
    document is taken at its word, but each has to have hit.
    """
    names = {
        "tx": document["transaction"],
        "f": document["features"],
        "scores": document["scores"],
        # The shipped lists are empty.
        "lists": defaultdict(frozenset),
    }
    hit = [rule for rule in _rules().values() if rule.hits(names)]
    said = document["rules"]
    warming, live = said.get("warming", []), said.get("hits", [])
    shadow = [name for name in said.get("shadow", []) if name not in warming]
    yield "rules that hit", sorted([*live, *warming]), sorted(r.name for r in hit if r.live)
    yield "shadow rules that hit", sorted(shadow), sorted(r.name for r in hit if not r.live)
    yield "rules without a value", said.get("errors", []), []
    decision, scores = document["decision"], document["scores"]
    told = [_rules()[name] for name in live if name in _rules()]
    outcome, reasons, risk = _decide(told, scores, degraded=bool(document["degraded"]))
    yield "outcome", decision["outcome"], outcome
    yield "reasons", decision["reasons"], reasons
    yield "risk", decision.get("risk"), risk
    yield "bands", decision.get("bands"), _BANDS | _BANDS_FROM


def _decide(
    hits: Sequence[_Rule], scores: Mapping[str, float], *, degraded: bool
) -> tuple[str, list[str], float | None]:
    """The outcome, the codes of its reasons, and the fraud score with what rules add."""
    allowed = [rule.code for rule in hits if rule.outcome == "approve"]
    if allowed:
        return "approve", list(dict.fromkeys(allowed)), None
    adds = [rule for rule in hits if not rule.outcome]
    fraud, risk = scores.get("fraud"), None
    if adds:
        total = (fraud or 0.0) + sum(rule.add for rule in adds)
        fraud = risk = round(min(max(total, 0.0), 1.0), 12)
    declining = [rule.code for rule in hits if rule.outcome == "decline"]
    reviewing = [rule.code for rule in hits if rule.outcome == "review"]
    if fraud is not None and fraud >= _BANDS["fraud_decline"]:
        declining.append("fraud_score_high")
    elif fraud is not None and fraud >= _BANDS["fraud_review"]:
        reviewing.append("fraud_score_elevated")
    if scores.get("anomaly", 0.0) >= _BANDS["anomaly_review"]:
        reviewing.append("anomaly_score_high")
    reasons = [*declining, *reviewing]
    if reasons:
        reasons += [rule.code for rule in adds]
    if degraded:
        reasons.append("score_missing")
    # Without a score people look at what nothing else speaks against.
    outcome = "decline" if declining else "review" if reasons else "approve"
    return outcome, list(dict.fromkeys(reasons)), risk


_OF_TRANSACTION = (
    "card_id",
    "merchant_id",
    "amount",
    "currency",
    "base_amount",
    "kind",
    "customer_id",
    "terminal_id",
    "merchant_category",
    "country",
    "latitude",
    "longitude",
    "channel",
    "entry_mode",
    "device_id",
    "ip_address",
)


def expected_row(document: Document) -> dict[str, Any]:
    """The row of *document* with every column that Athena is told of, null where unknown."""
    transaction, decision, rules = (document[key] for key in ("transaction", "decision", "rules"))
    origin, scores, bands = document["origin"], document["scores"], decision.get("bands", {})
    known = {*_OF_TRANSACTION, "event_time"}
    return {
        **{name: document[name] for name in ("transaction_id", "prediction_id", "digest")},
        **{name: transaction.get(name) for name in _OF_TRANSACTION},
        **{f"x_{name}": value for name, value in transaction.items() if name not in known},
        **{f"f_{name}": value for name, value in document["features"].items()},
        **{name: bands.get(name) for name in _BANDS},
        "fraud_bands": bands.get("fraud_from"),
        "anomaly_bands": bands.get("anomaly_from"),
        "event_time": _utc(document["event_ms"]),
        "decided_time": _utc(document["decided_ms"]),
        "arrival_time": _utc(origin["arrival_ms"]),
        "received_time": _utc(origin["received_ms"]),
        "decision": decision["outcome"],
        "reasons": decision["reasons"],
        "risk": decision.get("risk"),
        "fraud_score": scores.get("fraud"),
        "anomaly_score": scores.get("anomaly"),
        "rules": rules.get("hits", []),
        "shadow_rules": rules.get("shadow", []),
        "rule_errors": rules.get("errors", []),
        "rules_hash": rules["hash"],
        "lists_hash": rules["lists_hash"],
        "feature_hash": document["feature_hash"],
        "degraded": document["degraded"],
        "future": document.get("future", False),
        "source": origin["source"],
        "shard_id": origin.get("shard_id"),
        "position": origin.get("position"),
    }


def _utc(time_ms: int) -> str:
    moment = datetime.fromtimestamp(time_ms // 1_000, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{time_ms % 1_000:03}"
