"""
``make quality``: the published baseline and our own models on the handbook's data.

``DATA`` in the environment names the Parquet file, ``FOLDS`` first training days. Writes
``.quality/report.json``, and for each fold and model the scores of its test.
"""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

import consumer
from consumer.errors import Misconfigured, Problem
from tests.quality.datasets import HERE, Replayed, check_data, replay
from tests.quality.models import (
    Measured,
    Workshop,
    check_history,
    fit_classifier,
    grow_forest,
)
from tests.quality.protocol import Fold, missing_days, read_folds

DIRECTORY = Path(".quality")
MODELS = ("baseline", "own", "anomaly")

_INTERRUPTED = 130
_FIGURES = ("roc_auc", "average_precision", "card_precision_100")


class Progress:
    """Lines on standard error with the seconds since the start."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._begun

    def say(self, line: str) -> None:
        """Print *line*."""
        sys.stderr.write(f"{self.seconds:7.1f} s  {line}\n")
        sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Scored:
    """Where archives and scores go; *kind* is the Arrow type that ids have in the data."""

    folder: Path
    kind: Any

    def write(self, name: str, measured: Measured) -> None:
        """Write the scores with the ids as they stand in the data, to be joined with it."""
        ids = measured.transaction_ids.cast(self.kind)
        table = pa.table({"transaction_id": ids, "score": pa.array(measured.scores)})
        pq.write_table(table, self.folder / name)


def main(environment: Mapping[str, str] = os.environ, folder: Path = DIRECTORY) -> int:
    """Measure; 2, with every reason, where DATA or FOLDS cannot be, 130 when interrupted."""
    try:
        _run(environment, folder)
    except Misconfigured as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0


def _run(environment: Mapping[str, str], folder: Path) -> None:
    progress = Progress()
    data, folds = _asked(environment)
    check_data(data)
    folder.mkdir(exist_ok=True)
    replays = {
        name: replay(data, HERE / f"{name}.yaml", folder, progress.say)
        for name in ("baseline", "features")
    }
    shops = {
        "baseline": Workshop.open(replays["baseline"].path, HERE / "baseline-train.yaml"),
        "own": Workshop.open(replays["features"].path, HERE / "train.yaml"),
    }
    kind = pq.read_schema(data).field("TRANSACTION_ID").type
    own = shops["own"]
    warm_up_s = own.settings.split.warm_up
    problems = [each for fold in folds for each in check_history(own.facts, fold, warm_up_s)]
    if problems:
        raise Misconfigured(problems)
    report: dict[str, Any] = {
        "data": {"file": data.name, "rows": len(own.facts.cards)},
        "package": consumer.__version__,
        "replays": {name: _describe(each) for name, each in replays.items()},
        "folds": {},
    }
    for fold in folds:
        missing = list(missing_days(own.facts, fold.test_ms))
        if missing:
            progress.say(f"{fold}: no transactions on {', '.join(missing)}; judged by the others")
        report["folds"][str(fold)] = {
            name: _measure(name, shops, fold, Scored(folder, kind), progress) for name in MODELS
        }
        report["folds"][str(fold)]["missing_test_days"] = missing
    report["seconds"] = round(progress.seconds, 1)
    path = folder / "report.json"
    path.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    _show(report)
    progress.say(f"wrote {path}")


def _asked(environment: Mapping[str, str]) -> tuple[Path, tuple[Fold, ...]]:
    """Read the two words. Raises Misconfigured."""
    problems = []
    folds: tuple[Fold, ...] = ()
    data = environment.get("DATA", "")
    if not data:
        expected = "make quality DATA=transactions.parquet FOLDS=2018-07-25"
        problems.append(Problem("arguments", "DATA", "nothing", expected))
    try:
        folds = read_folds(environment.get("FOLDS", ""))
    except ValueError as error:
        found, _, expected = str(error).removeprefix("FOLDS: ").partition(", expected ")
        problems.append(Problem("arguments", "FOLDS", found, expected))
    if problems:
        raise Misconfigured(problems)
    return Path(data), folds


def _measure(
    name: str, shops: Mapping[str, Workshop], fold: Fold, scored: Scored, progress: Progress
) -> dict[str, Any]:
    archive = scored.folder / f"{fold}-{name}.tar.gz"
    begun = progress.seconds

    def say(line: str) -> None:
        progress.say(f"{fold} {name}: {line}")

    if name == "baseline":
        measured = fit_classifier(shops[name], fold, fold.train_ms, archive, say)
    elif name == "own":
        shop = shops[name]
        measured = fit_classifier(shop, fold, shop.all_before(fold), archive, say)
    else:
        measured = grow_forest(shops["own"], fold, archive, say)
    say(", ".join(f"{key} {_number(measured.figures[key])}" for key in _FIGURES))
    scored.write(f"scores-{fold}-{name}.parquet", measured)
    return {**measured.figures, "seconds": round(progress.seconds - begun, 1)}


def _describe(replayed: Replayed) -> dict[str, Any]:
    keys = ("counts", "seconds", "rate", "features")
    told = {key: replayed.summary[key] for key in keys if key in replayed.summary}
    return {"data_set": replayed.path.name, "kept": replayed.kept, **told}


def _show(report: Mapping[str, Any]) -> None:
    head = f"{'fold':<12}{'model':<10}{'ROC AUC':>9}{'avg. precision':>16}{'CP@100':>9}"
    lines = [head + f"{'trained on':>24}{'rows':>11}{'frauds':>8}{'test rows':>11}{'frauds':>8}"]
    for fold, models in report["folds"].items():
        for name in MODELS:
            each = models[name]
            figures = [_number(each[key]) for key in _FIGURES]
            span = f"{each['train_from'][5:]} to {each['train_to'][5:]}"
            lines.append(
                f"{fold:<12}{name:<10}{figures[0]:>9}{figures[1]:>16}{figures[2]:>9}{span:>24}"
                f"{each['train_rows']:>11,}{each['train_frauds']:>8,}"
                f"{each['test_rows']:>11,}{each['test_frauds']:>8,}"
            )
    sys.stdout.write("\n".join(lines) + "\n")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    sys.exit(main())
