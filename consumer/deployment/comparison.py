"""Two models side by side: what their archives say, or what their endpoints answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from consumer.errors import Misconfigured, Problem
from consumer.training import archive
from consumer.training.reference import read_reference

Scores = npt.NDArray[np.float64]

_TOP_SHARE: Final = 0.01


def compare_archives(first: Path, second: Path) -> dict[str, Any]:
    """
    What two archives of one kind say of themselves, number by number.

    Figures of different validation rows do not compare, so whether they are the same is
    told beside them. Raises Misconfigured for archives of different kinds.
    """
    references = read_reference(first), read_reference(second)
    kinds = [each.kind for each in references]
    if kinds[0] != kinds[1]:
        found = f"{kinds[1]}, where {first.name} is {kinds[0]}"
        raise Misconfigured([Problem(str(second), "kind", found, "two models of one kind")])
    numbers = [_numbers(_metrics(path)) for path in (first, second)]
    keys = [key for key in numbers[0] if key in numbers[1]]
    counts = [
        {key: value for key, value in each.items() if "validation" in key} for each in numbers
    ]
    return {
        "kind": kinds[0],
        "models": [each.model for each in references],
        "same_features": references[0].feature_hash == references[1].feature_hash,
        "same_validation": bool(counts[0]) and counts[0] == counts[1],
        "metrics": {key: [numbers[0][key], numbers[1][key]] for key in keys},
        "thresholds": [dict(each.thresholds) for each in references],
    }


def compare_scores(
    first: Scores, second: Scores, fraud: npt.NDArray[np.bool_] | None
) -> dict[str, Any]:
    """
    How the scores of the same n rows differ; with labels, which ranks frauds better.

    ``top_share_in_common`` is how many of the first's highest percent the second has there
    as well; two forests' scores compare in rank only.
    """
    ranks = [np.argsort(np.argsort(scores, kind="stable")) for scores in (first, second)]
    top = max(round(len(first) * _TOP_SHARE), 1)
    tops = [
        frozenset(np.argsort(-scores, kind="stable")[:top].tolist()) for scores in (first, second)
    ]
    compared: dict[str, Any] = {
        "rows": len(first),
        "equal": int((first == second).sum()),
        "mean": [float(first.mean()), float(second.mean())],
        "mean_difference": float(np.abs(first - second).mean()),
        "largest_difference": float(np.abs(first - second).max()),
        "rank_correlation": _correlation(ranks[0], ranks[1]),
        "top_share_in_common": len(tops[0] & tops[1]) / top,
    }
    if fraud is not None and 0 < fraud.sum() < len(fraud):
        compared["frauds"] = int(fraud.sum())
        for name, measure in (
            ("roc_auc", roc_auc_score),
            ("average_precision", average_precision_score),
        ):
            compared[name] = [float(measure(fraud, scores)) for scores in (first, second)]
    return compared


def _correlation(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> float | None:
    if len(first) < 2:  # noqa: PLR2004 - one row has no order
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _metrics(path: Path) -> dict[str, Any]:
    _, members = archive.read(path)
    decoded: dict[str, Any] = msgspec.json.decode(members["metrics.json"])
    return decoded


def _numbers(values: Mapping[str, Any], before: Sequence[str] = ()) -> dict[str, float]:
    """Every number in *values*, by its dotted key; distributions are left out."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[".".join((*before, key))] = value
        elif isinstance(value, Mapping) and key not in ("bins", "score_quantiles", "thresholds"):
            found |= _numbers(value, (*before, key))
    return found
