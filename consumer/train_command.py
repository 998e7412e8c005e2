"""``fraudstream train``: from data sets to two model archives."""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from consumer import configuration
from consumer.errors import Misconfigured, Problem
from consumer.evaluation.label_source import Labels, read_labels
from consumer.evaluation.places import find_files
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.training.examples import Files, difference, open_files
from consumer.training.logged import Log, is_dataset, write_logged
from consumer.training.settings import TrainingSettings, load_training_settings
from consumer.training.train import Trained, train

_SHOWN_HASH: Final = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this command takes."""
    parser.add_argument(
        "datasets",
        nargs="+",
        metavar="DATASET",
        help="data sets of fraudstream replay --to dataset, or rows of decisions that Firehose "
        "delivered; files, folders or patterns",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("models"), metavar="DIR", help="for the archives (models)"
    )
    parser.add_argument(
        "--settings", type=Path, metavar="PATH", help="how to train; see docs/training.md"
    )
    parser.add_argument(
        "--labels",
        nargs="+",
        default=[],
        metavar="SOURCE",
        help="labels for rows of decisions: label events, or a table with transaction_id and label",
    )
    parser.add_argument(
        "--features",
        type=Path,
        metavar="PATH",
        help="the features that are expected (default: features.path of the settings)",
    )
    parser.add_argument(
        "--search", type=int, metavar="N", help="try N sets of hyperparameters on folds first"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="another seed, another sample")
    parser.add_argument(
        "--max-rows", type=int, metavar="N", help="above it, legitimate rows are thinned out"
    )
    parser.add_argument("--refit", action="store_true", help="learn from validation too, at last")
    parser.add_argument("--only", choices=["fraud", "anomaly"], help="one of the two models")
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def run(arguments: argparse.Namespace) -> int:
    """
    Train, and print what was measured.

    Raises Misconfigured for settings, features, data sets and labels that do not fit.
    """
    settings = _settings(arguments)
    service = configuration.load(arguments.config).settings
    path = arguments.features or service.features.path
    plan = load_plan(path, service.events.base_currency)
    say = _Progress().say
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out, prefix=".logged-") as folder:
        examples = _open(arguments, settings, plan, Path(folder))
        _check_plan(examples, plan, path)
        trained = train(examples, arguments.out, settings, say)
    if arguments.json:
        body = to_json(trained)
        sys.stdout.buffer.write(orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
    else:
        sys.stdout.write("\n".join(render(trained)) + "\n")
    return 0


def to_json(trained: Trained) -> dict[str, Any]:
    """Everything that came out, for machines."""
    return {
        "archives": {kind: str(path) for kind, path in trained.archives.items()},
        "split": dict(trained.split),
        "metrics": {kind: dict(metrics) for kind, metrics in trained.metrics.items()},
        "warnings": list(trained.warnings),
    }


def render(trained: Trained) -> Iterator[str]:
    """The report for a person: the split, what each model reaches, thresholds, doubts."""
    for name in ("train", "validation", "test"):
        if name in trained.split:
            part = trained.split[name]
            counts = f"{part['rows']:>12,} rows {part['frauds']:>8,} frauds"
            yield f"{name:<11} {counts}  {part['period']}"
    for kind, metrics in trained.metrics.items():
        yield ""
        yield f"{kind} model: {trained.archives[kind]}"
        yield f"  {'':<22}{'ROC AUC':>10}{'avg. precision':>16}"
        yield f"  {'validation':<22}{_figures(metrics)}"
        if "test" in metrics:
            yield f"  {'test':<22}{_figures(metrics['test'])}"
        yield from _thresholds(metrics)
        if kind == "fraud":
            yield f"  {metrics['trees']} trees, calibration {metrics['calibration']['method']}"
        else:
            yield f"  shape {metrics['shape']} of {len(metrics['inputs'])} features"
    for warning in trained.warnings:
        yield f"warning: {warning}"


def _figures(metrics: Mapping[str, Any]) -> str:
    auc, precision = metrics["roc_auc"], metrics["average_precision"]
    if auc is None:
        return "   nothing to measure by: one kind of rows only"
    return f"{auc:>10.4f}{precision:>16.4f}"


def _thresholds(metrics: Mapping[str, Any]) -> Iterator[str]:
    measured = metrics.get("test", metrics)["at_thresholds"]
    for name, each in measured.items():
        precision, recall = (each[key] for key in ("precision", "recall"))
        told = "flags nothing" if precision is None else f"precision {precision:.1%}"
        told += "" if recall is None else f", recall {recall:.1%}"
        yield f"  {name:<15} {each['threshold']:<10.6g} {told}, {each['share']:.2%} of transactions"


def _settings(arguments: argparse.Namespace) -> TrainingSettings:
    """Take the file, and over it what stands on the command line."""
    path: Path | None = arguments.settings
    settings = TrainingSettings() if path is None else load_training_settings(path)
    values = settings.model_dump()
    if arguments.seed is not None:
        values["seed"] = arguments.seed
    if arguments.only is not None:
        values["models"] = (arguments.only,)
    if arguments.search is not None:
        values["search"]["tries"] = arguments.search
    if arguments.max_rows is not None:
        values["classifier"]["max_rows"] = arguments.max_rows
    if arguments.refit:
        values["classifier"]["refit"] = True
    return TrainingSettings.check(values, "arguments")


def _open(
    arguments: argparse.Namespace, settings: TrainingSettings, plan: Plan, folder: Path
) -> Files:
    """Open the data sets, those of logged rows once they are written into *folder*."""
    files = find_files("DATASET", arguments.datasets)
    datasets = [path for path in files if is_dataset(path)]
    logged = [path for path in files if path not in set(datasets)]
    if arguments.labels and not logged:
        found, expected = "data sets, which carry their labels", "rows of decisions beside it"
        raise Misconfigured([Problem("arguments", "--labels", found, expected)])
    if logged:
        labels: Labels | None = None
        if arguments.labels:
            labels = read_labels(find_files("--labels", arguments.labels))
        target = folder / "logged.parquet"
        log = Log(tuple(logged), plan.names, plan.hash, labels, settings.split.gap)
        counts = write_logged(log, target)
        sys.stderr.write(", ".join(f"{n:,} {name}" for name, n in counts.items()) + "\n")
        datasets.append(target)
    return open_files(datasets)


def _check_plan(examples: Files, plan: Plan, path: Path) -> None:
    if examples.feature_hash == plan.hash:
        return
    found = f"features {examples.feature_hash[:_SHOWN_HASH]}… "
    found += f"({difference(examples.names, plan.names)})"
    expected = f"those of {path}, {plan.hash[:_SHOWN_HASH]}…: replay again, or name the file "
    expected += "they were made with by --features"
    source = str(examples.files[0].path)
    raise Misconfigured([Problem(source, "feature_hash", found, expected)])


class _Progress:
    """Lines on standard error with the seconds since the start."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def say(self, line: str) -> None:
        """Print *line*."""
        sys.stderr.write(f"{time.monotonic() - self._begun:7.1f} s  {line}\n")
        sys.stderr.flush()
