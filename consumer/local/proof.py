"""
The demo's proof: what was sent against what is there, counted from the outside.

Nothing here asks the daemon. The ledger of the producer says what was sent; the
documents in Redis, their index, the rows and dead letters in S3 and the endpoint
server's counters say what came of it.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from consumer.local.demo_rest import RestCheck
from consumer.verification import Verification

MANY = 100
SKEW_LIMIT = 0.01


@dataclass(frozen=True, slots=True)
class Sent:
    """
    The ledger in short.

    ``sent`` counts transaction records with repeats, ``frauds`` maps each unique
    transaction id to whether the simulator made it a fraud, ``labels`` each of
    them that was labelled to its newest label, and ``corrected`` names those that
    were labelled both ways. ``labels_sent`` counts those of history's transactions
    too, which have no document.
    """

    sent: int
    duplicates: int
    malformed: int
    frauds: Mapping[str, bool]
    labels_sent: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    corrected: Collection[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Found:
    """
    What came of it: documents by id, what the index counts by outcome, rows, letters' ids.

    ``verification`` is what ``features verify`` finds; None where no document was there.
    """

    documents: Mapping[str, dict[str, object]]
    decisions: Mapping[str, int]
    rows: Sequence[dict[str, object]]
    letters: Sequence[str]
    endpoint_requests: int
    verification: Verification | None


@dataclass(frozen=True, slots=True)
class FeatureCheck:
    """Feature values compared with the oracle; ``examples`` names the first ones that differ."""

    checked: int
    wrong: int
    examples: tuple[str, ...] = ()

    def __add__(self, other: "FeatureCheck") -> "FeatureCheck":
        """Both checks as one."""
        return FeatureCheck(
            self.checked + other.checked, self.wrong + other.wrong, self.examples + other.examples
        )


@dataclass(slots=True)
class Verdict:
    """The summary as written to ``summary.json``, and what speaks against it."""

    summary: dict[str, object]
    failures: list[str] = field(default_factory=list)


def judge(
    sent: Sent,
    found: Found,
    features: FeatureCheck,
    seconds: Mapping[str, float],
    rest: RestCheck,
) -> Verdict:
    """Compare *sent* with *found*; every difference is one sentence in ``failures``."""
    rows = Counter(str(row["transaction_id"]) for row in found.rows)
    scores = {name: _scores(found.documents, name) for name in ("fraud", "anomaly")}
    degraded = sum(bool(document["degraded"]) for document in found.documents.values())
    letters = len(set(found.letters))
    failures = [
        *_differences(sent, found, rows),
        *_disagreements(found),
        *_score_failures(scores, len(sent.frauds)),
        *_label_failures(sent, found),
        *_skew(found.verification),
        *rest.failures,
    ]
    if letters != sent.malformed or letters != len(found.letters):
        failures.append(
            f"{sent.malformed} malformed records were sent, {len(found.letters)} dead letters "
            f"({letters} different ones) are there"
        )
    if degraded:
        failures.append(f"{degraded} decisions are degraded")
    if features.wrong or not features.checked:
        failures.append(
            f"{features.wrong} of {features.checked} feature values differ from the oracle: "
            + "; ".join(features.examples)
        )
    summary: dict[str, object] = {
        "ok": not failures,
        "sent": sent.sent,
        "unique": len(sent.frauds),
        "duplicates": sent.duplicates,
        "malformed": sent.malformed,
        "decided": sum(found.decisions.values()),
        "documents": len(found.documents),
        "firehose_rows": len(found.rows),
        "firehose_unique": len(rows),
        "dead_letters": len(found.letters),
        "decisions": dict(found.decisions),
        "reasons": _counted(found, "decision", "reasons"),
        "rules": _counted(found, "rules", "hits"),
        "rest": rest.summary(),
        "labels": {
            "sent": sent.labels_sent,
            "due": len(sent.labels),
            "corrected": len(sent.corrected),
        },
        "degraded": degraded,
        "endpoint_requests": found.endpoint_requests,
        "features_checked": features.checked,
        "features_wrong": features.wrong,
        "online_offline": found.verification.summary() if found.verification else {},
        "distinct_scores": {name: len(set(values)) for name, values in scores.items()},
        "latency_ms": _latencies(found.documents),
        **_quality(sent, found),
        "seconds": {stage: round(value, 1) for stage, value in seconds.items()},
    }
    return Verdict(summary, failures)


def _differences(sent: Sent, found: Found, rows: Counter[str]) -> list[str]:
    """Ids that were sent and are not there, are there and were not sent, or are there twice."""
    failures = []
    for place, ids in (("Redis", found.documents.keys()), ("S3", rows.keys())):
        missing, extra = sent.frauds.keys() - ids, ids - sent.frauds.keys()
        if missing:
            failures.append(f"{len(missing)} transactions are missing in {place}: {_few(missing)}")
        if extra:
            failures.append(f"{len(extra)} unknown transactions are in {place}: {_few(extra)}")
    repeated = [transaction_id for transaction_id, count in rows.items() if count > 1]
    if repeated:
        failures.append(f"{len(repeated)} transactions have more than one row: {_few(repeated)}")
    decided = sum(found.decisions.values())
    if decided != len(sent.frauds):
        failures.append(f"the index counts {decided} decisions, {len(sent.frauds)} were due")
    return failures


def _disagreements(found: Found) -> list[str]:
    """Rows in S3 whose decision is not the one that stands in Redis."""
    wrong = []
    for row in found.rows:
        document = found.documents.get(str(row["transaction_id"]))
        if document is None:
            continue
        decision = document["decision"]
        stored = decision["outcome"] if isinstance(decision, dict) else None
        if (row["prediction_id"], row["decision"]) != (document["prediction_id"], stored):
            wrong.append(str(row["transaction_id"]))
    return [f"{len(wrong)} rows differ from their document: {_few(wrong)}"] if wrong else []


def _score_failures(scores: Mapping[str, list[float]], unique: int) -> list[str]:
    failures = []
    for name, values in scores.items():
        if len(values) != unique:
            failures.append(f"{len(values)} of {unique} documents have the score {name}")
        # A demo made smaller than usual cannot have as many different scores.
        needed = min(MANY, unique // 10)
        if len(set(values)) < needed:
            failures.append(f"the score {name} has {len(set(values))} values, expected {needed}")
    return failures


def _label_failures(sent: Sent, found: Found) -> list[str]:
    """Documents that do not show the newest label of their transaction, or none to show any."""
    if not sent.labels:
        why = f"{sent.labels_sent} were sent, none of them for a transaction of the live traffic"
        return [f"no label is proved: {why}"]
    if not sent.corrected:
        return ["no correction is proved: no transaction was labelled one way, then the other"]
    wrong = []
    for transaction_id, expected in sent.labels.items():
        label = found.documents.get(transaction_id, {}).get("label")
        if not isinstance(label, dict) or label.get("label") != expected:
            wrong.append(transaction_id)
    return [f"{len(wrong)} documents lack their label: {_few(wrong)}"] if wrong else []


def _skew(verification: Verification | None) -> list[str]:
    """Why the features of the documents are not those that the documents give."""
    if verification is None:
        return ["no decision could be recomputed: there are no documents"]
    if verification.holds(SKEW_LIMIT):
        return []
    return [verification.verdict(SKEW_LIMIT)]


def _counted(found: Found, section: str, name: str) -> dict[str, int]:
    """How often each word stands in the list *name* of a document's *section*, most first."""
    words: Counter[str] = Counter()
    for document in found.documents.values():
        part = document.get(section)
        if isinstance(part, dict):
            words.update(part.get(name, ()))
    return dict(words.most_common())


def _scores(documents: Mapping[str, dict[str, object]], name: str) -> list[float]:
    found = []
    for document in documents.values():
        scores = document["scores"]
        if isinstance(scores, dict) and name in scores:
            found.append(float(scores[name]))
    return found


def _latencies(documents: Mapping[str, dict[str, object]]) -> dict[str, dict[str, float]]:
    """Milliseconds from receipt, and from arrival, until Redis stored the document."""
    receive, arrival = [], []
    for document in documents.values():
        origin, stored_ms = document["origin"], document["stored_ms"]
        if isinstance(origin, dict) and isinstance(stored_ms, int):
            receive.append(stored_ms - origin["received_ms"])
            arrival.append(stored_ms - origin["arrival_ms"])
    return {
        "receive_to_decision": _percentiles(receive),
        "arrival_to_decision": _percentiles(arrival),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    p50, p99, p999 = np.percentile(values, (50, 99, 99.9))
    return {
        "p50": round(float(p50), 1),
        "p99": round(float(p99), 1),
        "p999": round(float(p999), 1),
    }


def _quality(sent: Sent, found: Found) -> dict[str, float | None]:
    """How well the fraud score ranks, by what the simulator knows; None without both classes."""
    truth, scores = [], []
    for transaction_id, fraud in sent.frauds.items():
        document = found.documents.get(transaction_id, {})
        given = document.get("scores")
        if isinstance(given, dict) and "fraud" in given:
            truth.append(fraud)
            scores.append(given["fraud"])
    if len(set(truth)) < len((True, False)):
        return {"roc_auc": None, "average_precision": None}
    return {
        "roc_auc": round(float(roc_auc_score(truth, scores)), 4),
        "average_precision": round(float(average_precision_score(truth, scores)), 4),
    }


def _few(ids: Collection[str], most: int = 3) -> str:
    shown = sorted(ids)[:most]
    return ", ".join(shown) + (" …" if len(ids) > most else "")
