"""Scored transactions for choosing thresholds: decisions of a replay, or data sets and models."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from consumer.errors import Misconfigured, Problem
from consumer.evaluation.decisions import DECLINE, REVIEW, Decisions
from consumer.training import archive
from consumer.training.artefacts import Model, load
from consumer.training.dataset_file import DatasetFile, open_dataset
from consumer.training.examples import difference
from consumer.training.proposal import Bands, Scored
from consumer.training.settings import SplitSettings
from consumer.training.split import usable

_DAY_MS: Final = 86_400_000


def of_decisions(decisions: Decisions) -> Scored:
    """
    Take the scores of *decisions*.

    What was declined for something else than a score is left out, what was reviewed so is
    reviewed whatever the thresholds.
    """
    otherwise = ~decisions.banded if decisions.bands else np.zeros(len(decisions), bool)
    kept = ~(otherwise & (decisions.outcome == DECLINE))
    return Scored(
        day=decisions.day[kept],
        amount=decisions.amount[kept],
        fraud=decisions.fraud[kept],
        fraud_score=decisions.scores["fraud"][kept],
        anomaly_score=decisions.scores["anomaly"][kept],
        anyway=(otherwise & (decisions.outcome == REVIEW))[kept],
        days=max(decisions.days, 1),
    )


def bands_in_force(decisions: Decisions) -> Bands | None:
    """Return the bands of most of the *decisions*, None where these do not tell."""
    for bands in decisions.bands:
        if None not in bands:
            return Bands(*(float(value or 0) for value in bands))
    return None


def of_datasets(
    files: Sequence[Path], models: Sequence[Path], say: Callable[[str], None]
) -> Scored:
    """
    Score the data sets *files* by the archives *models*, one of a kind.

    Rows that a model has learnt from are left out, and so are those too young to have their
    label, by the gap of its training. Raises Misconfigured for features other than the model's,
    for an archive that does not tell what it has learnt from, and where no row is left.
    """
    loaded = {model.kind: (path, model) for path in models for model in (load(path),)}
    origins = [_origin(path) for path in models]
    begin_ms = max(
        (_begin_ms(path, origin) for path, origin in zip(models, origins, strict=True)), default=0
    )
    split = max((_split_of(origin) for origin in origins), key=lambda each: each.gap)
    parts = [_score(open_dataset(path), loaded, (begin_ms, split), say) for path in files]
    day = np.concatenate([part.day for part in parts])
    if not len(day):
        found = f"no row after the training of {', '.join(str(path) for path in models)}"
        raise _problem("DECISIONS_OR_DATASET", found, "later transactions than it has learnt from")
    return Scored(
        day=day,
        amount=np.concatenate([part.amount for part in parts]),
        fraud=np.concatenate([part.fraud for part in parts]),
        fraud_score=np.concatenate([part.fraud_score for part in parts]),
        anomaly_score=np.concatenate([part.anomaly_score for part in parts]),
        anyway=np.concatenate([part.anyway for part in parts]),
        days=int(day.max() - day.min()) + 1,
    )


def trained_until_ms(origin: Mapping[str, Any]) -> int:
    """
    When the training rows end, by the *origin* that an archive tells.

    Raises KeyError where it does not.
    """
    part = (
        "validation" if origin.get("settings", {}).get("classifier", {}).get("refit") else "train"
    )
    period: str = origin["split"][part]["period"]
    return round(datetime.fromisoformat(period.partition(" to ")[2]).timestamp() * 1000)


def _begin_ms(path: Path, origin: Mapping[str, Any]) -> int:
    try:
        return trained_until_ms(origin)
    except (KeyError, TypeError, ValueError) as error:
        found = "nothing on the time of its training rows, which must not be measured by"
        expected = "an archive of fraudstream train or models train; or decisions of a replay "
        expected += "with this model instead of a data set"
        raise Misconfigured([Problem(str(path), "training.json", found, expected)]) from error


def _origin(path: Path) -> Mapping[str, Any]:
    _, members = archive.read(path)
    told: dict[str, Any] = msgspec.json.decode(members.get("training.json", b"{}"))
    return told


def _split_of(origin: Mapping[str, Any]) -> SplitSettings:
    told = origin.get("settings", {}).get("split", {})
    return SplitSettings.model_validate({k: told[k] for k in ("gap", "unlabelled") if k in told})


def check_features(model: Model, path: Path, dataset: DatasetFile) -> None:
    """Raise Misconfigured where *dataset* holds other features than *model*, of *path*, takes."""
    head = dataset.head
    if head.features == model.feature_names and head.feature_hash == model.feature_hash:
        return
    found = f"other features ({difference(head.features, model.feature_names)})"
    expected = f"the {len(model.feature_names)} features of {path}, in their order"
    raise Misconfigured([Problem(str(dataset.path), "feature_hash", found, expected)])


def _score(
    dataset: DatasetFile,
    loaded: dict[Any, tuple[Path, Any]],
    limits: tuple[int, SplitSettings],
    say: Callable[[str], None],
) -> Scored:
    for path, model in loaded.values():
        check_features(model, path, dataset)
    index = dataset.read_index()
    begin_ms, split = limits
    chosen = (index.times_ms >= begin_ms) & usable(index, split)
    scores: dict[str, list[Any]] = {kind: [np.empty(0)] for kind in ("fraud", "anomaly")}
    done = 0
    for rows in dataset.read_rows(chosen):
        for kind, pieces in scores.items():
            known = kind in loaded
            pieces.append(loaded[kind][1].predict(rows) if known else np.full(len(rows), np.nan))
        done += len(rows)
        say(f"{dataset.path.name}: {done:,} of {int(chosen.sum()):,} rows scored")
    amount = dataset.read_column("amount").to_numpy()
    day = index.times_ms[chosen] // _DAY_MS
    return Scored(
        day=day,
        amount=np.asarray(amount, np.float64)[chosen],
        fraud=index.labels[chosen] == 1,
        fraud_score=np.concatenate(scores["fraud"]),
        anomaly_score=np.concatenate(scores["anomaly"]),
        anyway=np.zeros(len(day), bool),
        days=1,
    )


def _problem(key: str, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem("arguments", key, found, expected)])
