"""Decisions as a replay writes them, drawn by chance: frauds score high, but not all of them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START = datetime(2026, 6, 1, tzinfo=UTC)
TEXTS = pa.list_(pa.string())
TYPES = {
    "transaction_id": pa.string(),
    "event_time": pa.timestamp("ms", "UTC"),
    "card_id": pa.string(),
    "base_amount": pa.float64(),
    "decision": pa.string(),
    "fraud_score": pa.float64(),
    "anomaly_score": pa.float64(),
    "fraud_review": pa.float64(),
    "fraud_decline": pa.float64(),
    "anomaly_review": pa.float64(),
    "rules": TEXTS,
    "shadow_rules": TEXTS,
    "degraded": TEXTS,
    "received_time": pa.timestamp("ms", "UTC"),
    "decided_time": pa.timestamp("ms", "UTC"),
    "fraud": pa.bool_(),
}


def draw_decisions(
    count: int = 6000, *, days: int = 14, seed: int = 7, skill: float = 1.9
) -> dict[str, list[Any]]:
    """
    Columns of *count* decisions; a greater *skill* puts frauds further from the rest.

    Transactions, cards, amounts and labels depend on *seed* only.
    """
    chance = np.random.default_rng(seed)
    seconds = np.sort(chance.integers(0, days * 86_400, count))
    fraud = chance.random(count) < 0.02
    amount = np.round(np.exp(chance.normal(3.3, 0.9, count)) * np.where(fraud, 3, 1), 2)
    cards = chance.integers(0, 400, count)
    noise, other = chance.normal(0, 1.2, count), chance.normal(0, 0.25, count)
    fraud_score = 1 / (1 + np.exp(-(noise - 4.5 + np.where(fraud, skill * 1.6, 0))))
    anomaly = 1 + np.abs(other) + np.where(fraud, 0.15 * skill, 0)
    missing = chance.random(count) < 0.01
    large = amount > 150
    quick = chance.random(count) < np.where(fraud, 0.2, 0.004)
    shadowed = chance.random(count) < np.where(fraud, 0.3, 0.01)
    declined = (~missing & (fraud_score >= 0.8)) | quick
    flagged = declined | (~missing & (fraud_score >= 0.3)) | (anomaly >= 1.9) | large
    times = [START + timedelta(seconds=int(second)) for second in seconds]
    unlabelled = seconds > (days - 1) * 86_400
    return {
        "transaction_id": [f"tx_{number}" for number in range(count)],
        "event_time": times,
        "card_id": [f"card_{card:03}" for card in cards],
        "base_amount": amount.tolist(),
        "decision": np.select([declined, flagged], ["decline", "review"], "approve").tolist(),
        "fraud_score": [
            None if no else float(s) for no, s in zip(missing, fraud_score, strict=True)
        ],
        "anomaly_score": anomaly.tolist(),
        "fraud_review": [0.3] * count,
        "fraud_decline": [0.8] * count,
        "anomaly_review": [1.9] * count,
        "rules": [
            [name for name, hit in (("large_amount@2", a), ("too_quick@1", b)) if hit]
            for a, b in zip(large, quick, strict=True)
        ],
        "shadow_rules": [["new_device@1"] if hit else [] for hit in shadowed],
        "degraded": [["fraud:timeout"] if no else [] for no in missing],
        "received_time": times,
        "decided_time": times,
        "fraud": [None if no else bool(f) for no, f in zip(unlabelled, fraud, strict=True)],
    }


def write_decisions(path: Path, columns: Mapping[str, list[Any]], **changes: Any) -> Path:
    """Write *columns* as Parquet; *changes* replace columns, None takes one away."""
    told = {name: values for name, values in {**columns, **changes}.items() if values is not None}
    arrays = {name: pa.array(values, TYPES.get(name)) for name, values in told.items()}
    pq.write_table(pa.table(arrays), path, row_group_size=1000)
    return path


def write_latencies(decisions: Path, count: int, seed: int = 3) -> Path:
    """Write how long the chunks of *decisions* took, as a replay does, 500 rows a chunk."""
    chance = np.random.default_rng(seed)
    first = np.arange(0, count, 500)
    rows = np.minimum(500, count - first).astype(np.int32)
    taken = np.exp(chance.normal(3.4, 0.5, len(first)))
    path = decisions.with_name(decisions.name.removesuffix(".parquet") + ".latency.parquet")
    pq.write_table(pa.table({"first": first, "rows": rows, "latency_ms": taken}), path)
    return path
