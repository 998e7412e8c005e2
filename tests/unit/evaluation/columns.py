"""Decisions built by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from consumer.evaluation.decisions import Decisions, RuleHits

NO_HITS = RuleHits((), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32))
DAY_MS = 86_400_000


def hits(**rows: Sequence[int]) -> RuleHits:
    """Rules by name with the rows that they hit."""
    names = tuple(sorted(rows))
    pairs = sorted((row, number) for number, name in enumerate(names) for row in rows[name])
    return RuleHits(
        names,
        np.array([row for row, _ in pairs], dtype=np.int64),
        np.array([number for _, number in pairs], dtype=np.int32),
    )


def build_decisions(**columns: Any) -> Decisions:
    """Decisions of the *columns* given as lists; the rest is plain: one a second, approved."""
    length = len(next(iter(columns.values())))
    none = [np.nan] * length
    scores = {name: columns.pop(name, none) for name in ("fraud", "anomaly")}
    plain: dict[str, tuple[Any, type]] = {
        "identity": (range(length), np.int64),
        "time_ms": ([1000 * number for number in range(length)], np.int64),
        "card": (range(length), np.int32),
        "amount": ([10.0] * length, np.float64),
        "outcome": ([0] * length, np.int8),
        "label": ([0] * length, np.int8),
        "banded": ([False] * length, np.bool_),
        "degraded": ([False] * length, np.bool_),
    }
    arrays: dict[str, Any] = {
        name: np.array(columns.pop(name, values), dtype=kind)
        for name, (values, kind) in plain.items()
    }
    told: dict[str, Any] = {"live": NO_HITS, "shadow": NO_HITS, **columns}
    return Decisions(
        **arrays,
        scores={name: np.array(values, dtype=np.float64) for name, values in scores.items()},
        **told,
    )
