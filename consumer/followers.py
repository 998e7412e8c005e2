"""
What looks at decisions after they are stored: drift and explanations.

Drift starts from the archives of the models, explanations from an archive or from an
endpoint that explains. When the daemon starts, an archive
that cannot be used is an error; a worker that starts later decides without them.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from consumer.bands import THRESHOLDS, ModelBands
from consumer.clock import Clock
from consumer.drift import Drift
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.explanation import Explainer, Source, Write
from consumer.features.plan import Plan
from consumer.logs import get_logger
from consumer.model_process import ModelProcess
from consumer.settings import Scoring
from consumer.telemetry import WorkerTelemetry
from consumer.training.reference import Reference, read_reference

Fetch = Callable[[str, Path], Path]
"""Gives a local file for a path or an ``s3://`` address, at the second argument if need be."""


@dataclass(frozen=True, slots=True)
class Archives:
    """The archives that *settings* name, to be read for the features of *plan*."""

    settings: Scoring
    plan: Plan
    fetch: Fetch

    @property
    def explaining(self) -> bool:
        """Whether the archive of the fraud model, if there is one, explains decisions."""
        return self.settings.explanations == "archive"

    def read(self, directory: Path) -> dict[str, tuple[Path, Reference]]:
        """
        Read each by its score, those of ``s3://`` through *directory*.

        Raises Unavailable, and Misconfigured for one that is missing, of other
        features, or that needs libraries which are not installed.
        """
        found: dict[str, tuple[Path, Reference]] = {}
        for score, source in self._sources().items():
            path, reference = self._read(score, source, directory)
            if reference.feature_hash != self.plan.hash:
                expected = "the archive of a model trained on the features of features.path"
                raise _refusal(score, source, expected)
            found[score] = (path, reference)
        if self.explaining and "fraud" in found and find_spec("xgboost") is None:
            expected = "pip install 'fraudstream[train]', which explains decisions, or "
            expected += "scoring.explanations: off"
            raise _refusal("fraud", "no xgboost here", expected)
        return found

    def bands(self, score: str) -> ModelBands | None:
        """
        The bands that the archive of *score* carries; None where none is named.

        Raises Misconfigured where it carries none that can be used, and as ``read``.
        """
        source = self._sources().get(score)
        if source is None:
            return None
        with TemporaryDirectory() as directory:
            _, reference = self._read(score, source, Path(directory))
        try:
            return reference.bands()
        except ValueError as error:
            expected = "thresholds in its metrics.json, as training writes them, or numbers in "
            expected += f"the settings: {', '.join(f'decision.{n}' for n in THRESHOLDS[score])}"
            raise _refusal(score, f"{source} with {error}", expected) from error

    def _read(self, score: str, source: str, directory: Path) -> tuple[Path, Reference]:
        path = self.fetch(source, directory / f"{score}.tar.gz")
        reference = read_reference(path)
        if reference.kind != score:
            raise _refusal(score, f"{source}, a model of {reference.kind}", f"one of {score}")
        return path, reference

    def _sources(self) -> dict[str, str]:
        named = {"fraud": self.settings.fraud.archive, "anomaly": self.settings.anomaly.archive}
        return {score: source for score, source in named.items() if source is not None}

    def check(self) -> None:
        """Read all of them for nothing but the errors, see ``read``."""
        with TemporaryDirectory() as directory:
            self.read(Path(directory))


def follow(
    archives: Archives,
    telemetry: WorkerTelemetry,
    clock: Clock,
    write: Write,
    stack: ExitStack,
    endpoint: Source | None = None,
) -> None:
    """
    Measure drift and explain what *telemetry* hears of, as far as there are archives.

    An *endpoint* explains without one. *write* stores an explanation. *stack* ends what was
    started.
    """
    directory = Path(stack.enter_context(TemporaryDirectory(prefix="fraudstream-")))
    found = _read(archives, directory)
    names = archives.plan.names
    if found:
        bins = {name: bin_ for _, each in found.values() for name, bin_ in each.bins.items()}
        drift = Drift(bins, names, archives.settings.drift, telemetry.drifted)
        telemetry.follow(lambda created: drift.observe(created, clock.monotonic_s()))
    source = endpoint
    if archives.explaining and "fraud" in found:
        path, _ = found["fraud"]
        source = ModelProcess([sys.executable, "-m", "consumer.training.explain", str(path)])
    if source is not None:
        explainer = Explainer(source, names, write, telemetry.explained)
        telemetry.follow(stack.enter_context(closing(explainer)).observe)


def _read(archives: Archives, directory: Path) -> dict[str, tuple[Path, Reference]]:
    try:
        return archives.read(directory)
    except (Misconfigured, Unavailable) as error:
        # Decisions are worth more than their analysis.
        get_logger(__name__).error("no drift, no explanations from it", error=str(error))
        return {}


def _refusal(score: str, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem("settings", f"scoring.{score}.archive", found, expected)])
