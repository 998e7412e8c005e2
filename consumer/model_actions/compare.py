"""``fraudstream models compare``: two archives, or two endpoints on the same rows."""

import argparse
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from consumer import configuration
from consumer.deployment.catalogue import describe_endpoint
from consumer.deployment.comparison import compare_archives, compare_scores
from consumer.deployment.naming import KIND
from consumer.errors import Misconfigured, Problem
from consumer.feature_hash import TAG
from consumer.model_actions.connection import endpoint_of, local_archive, open_control
from consumer.scoring import encode_rows
from consumer.settings import Settings
from consumer.training.archive import Kind
from consumer.training.artefacts import load
from consumer.training.examples import Files, open_files

_ENDPOINT = "endpoint:"
_DEADLINE_S = 60.0
_ROWS = 10_000

Rows = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what this action takes."""
    for name in ("first", "second"):
        parser.add_argument(
            name, metavar=name.upper(), help="a model.tar.gz, s3://bucket/key, or endpoint:NAME"
        )
    parser.add_argument(
        "--rows", type=Path, metavar="DATASET", help="score the rows of this data set with both"
    )
    parser.add_argument(
        "--limit", type=int, default=_ROWS, metavar="N", help="rows at most (default %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="as JSON, for scripts")


def run(arguments: argparse.Namespace) -> int:
    """Print how they differ. Raises Misconfigured and Unavailable."""
    settings = configuration.load(arguments.config).settings
    names = (arguments.first, arguments.second)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.rows is None:
            compared = _compare_archives(settings, names, Path(folder))
        else:
            compared = _compare_scores(settings, names, arguments, Path(folder))
    if arguments.json:
        sys.stdout.buffer.write(orjson.dumps(compared, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.flush()
    else:
        sys.stdout.write("\n".join(_lines(compared)) + "\n")
    return 0


class _Scorer(Protocol):
    """Scores rows that are in the order of some list of features."""

    @property
    def kind(self) -> Kind: ...
    @property
    def feature_hash(self) -> str: ...
    def predict(self, rows: Rows, /) -> Scores: ...


class _Served:
    """An endpoint as a scorer; kind and features are those of its tags."""

    def __init__(self, settings: Settings, name: str) -> None:
        with open_control(settings) as control:
            tags: dict[str, str] = describe_endpoint(control, name)["tags"]
        if TAG not in tags or tags.get(KIND) not in ("fraud", "anomaly"):
            expected = f"the tags {TAG} and {KIND}, as fraudstream models deploy sets them"
            raise Misconfigured([Problem("SageMaker", name, "none of its features", expected)])
        self.kind: Kind = "fraud" if tags[KIND] == "fraud" else "anomaly"
        self.feature_hash = tags[TAG]
        self._endpoint = endpoint_of(settings, name, self.kind)

    def predict(self, rows: Rows, /) -> Scores:
        """Score *rows* in requests of the size that workers send. Raises Unavailable."""
        lines = iter(encode_rows(rows.tolist()))
        scores: list[float] = []
        while batch := list(islice(lines, self._endpoint.max_rows)):
            deadline_s = time.monotonic() + _DEADLINE_S
            scores += self._endpoint.invoke(batch, deadline_s, "fraudstream-compare")
        return np.array(scores, np.float64)


def _compare_archives(settings: Settings, names: tuple[str, str], folder: Path) -> dict[str, Any]:
    served = [name for name in names if name.startswith(_ENDPOINT)]
    if served:
        expected = "--rows DATASET, to ask it about; only archives say what they measured"
        raise Misconfigured([Problem("arguments", served[0], "an endpoint", expected)])
    first, second = (
        local_archive(settings, name, folder / f"{number}.tar.gz")
        for number, name in enumerate(names)
    )
    return compare_archives(first, second)


def _compare_scores(
    settings: Settings, names: tuple[str, str], arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    files = open_files([arguments.rows])
    scorers = [_open(settings, name, folder / f"{at}.tar.gz") for at, name in enumerate(names)]
    for name, scorer in zip(names, scorers, strict=True):
        if scorer.feature_hash != files.feature_hash:
            expected = f"{files.feature_hash[:12]}… as in {arguments.rows}"
            found = f"features {scorer.feature_hash[:12]}…"
            raise Misconfigured([Problem(name, "features", found, expected)])
    rows, fraud = _read(files, arguments.limit)
    first, second = (scorer.predict(rows) for scorer in scorers)
    return {"scores_of": list(names), **compare_scores(first, second, fraud)}


def _open(settings: Settings, name: str, target: Path) -> _Scorer:
    if name.startswith(_ENDPOINT):
        return _Served(settings, name.removeprefix(_ENDPOINT))
    return load(local_archive(settings, name, target))


def _read(files: Files, limit: int) -> tuple[Rows, npt.NDArray[np.bool_] | None]:
    """Read the newest *limit* rows, and which are frauds where all of them have a label."""
    labels = files.index.labels
    chosen = np.zeros(len(labels), np.bool_)
    chosen[np.argsort(files.index.times_ms, kind="stable")[-limit:]] = True
    rows = np.concatenate(list(files.read(chosen)))
    known = labels[chosen]
    return rows, known == 1 if (known == 1).any() else None


def _lines(compared: dict[str, Any]) -> list[str]:
    lines = []
    for key, value in compared.items():
        if isinstance(value, dict):
            lines += [f"{name:<32} {_pair(pair)}" for name, pair in value.items()]
        else:
            lines.append(f"{key:<32} {_pair(value)}")
    return lines


def _pair(value: Any) -> str:
    if isinstance(value, list):
        return "  ".join(f"{_one(each):>14}" for each in value)
    return _one(value)


def _one(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={each:.4g}" for key, each in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)
