"""
The three models of a fold, by the code of ``fraudstream train``, scored from their archives.

No model has a validation part: rounds and settings were chosen on earlier folds, so all
that is known by the first test day is learnt from.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from consumer.errors import Misconfigured, Problem
from consumer.training.anomaly import check_names, front_of
from consumer.training.artefacts import load, write_anomaly, write_fraud
from consumer.training.classifier import Say, fit_all
from consumer.training.examples import Files, Limit, Part, open_files
from consumer.training.examples import load as load_part
from consumer.training.forest import grow
from consumer.training.settings import TrainingSettings, load_training_settings
from consumer.training.split import Period, usable
from tests.quality.protocol import Facts, Fold, Mask, choose_test, measure, show_day

_DAY_MS = 86_400_000
_FEWEST_FRAUDS = 10


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model reached on a fold, and the score of each transaction of its test."""

    figures: dict[str, Any]
    transaction_ids: Any
    scores: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Workshop:
    """One data set, what the protocol looks at of it, and how models are made from it."""

    examples: Files
    facts: Facts
    settings: TrainingSettings

    @classmethod
    def open(cls, dataset: Path, settings: Path) -> "Workshop":
        """Open *dataset*. Raises Misconfigured as the reading of both does."""
        examples = open_files([dataset])
        wanted = load_training_settings(settings)
        check_names(wanted.anomaly, examples.names)
        index = examples.index
        cards = examples.files[0].read_column("card_id").combine_chunks().dictionary_encode()
        facts = Facts(index.times_ms, np.asarray(cards.indices, dtype=np.int64), index.labels == 1)
        return cls(examples, facts, wanted)

    def known(self, span_ms: tuple[int, int], fold: Fold, rows: int) -> Part:
        """Read *span_ms* with the labels that are known on the first day of test."""
        chosen = usable(self.examples.index, self.settings.split)
        period, limit = Period(*span_ms), Limit(rows, self.settings.seed)
        part = load_part(self.examples, chosen, period, fold.test_ms[0], limit)
        if part.frauds < _FEWEST_FRAUDS:
            found = f"{part.total} rows with {part.frauds} known frauds, {period}"
            expected = f"at least {_FEWEST_FRAUDS} known frauds; a later fold has more history"
            raise Misconfigured([Problem("FOLDS", str(fold), found, expected)])
        return part

    def all_before(self, fold: Fold) -> tuple[int, int]:
        """From the end of the warm-up to the gap before the test."""
        first = int(self.facts.times_ms.min()) // _DAY_MS * _DAY_MS
        return first + self.settings.split.warm_up * 1000, fold.train_ms[1]

    def score(self, archive: Path, part: Part, fold: Fold) -> Measured:
        """Score the test of *fold* with the model *archive*, which learnt from *part*."""
        chosen = choose_test(self.facts, fold)
        model = load(archive)
        scores = np.concatenate(
            [np.empty(0), *(model.predict(rows) for rows in self.examples.read(chosen))]
        )
        ids = self.examples.files[0].read_column("transaction_id").filter(_as_arrow(chosen))
        figures = {
            **measure(self.facts, chosen, scores),
            "train_from": show_day(part.period.first_ms),
            "train_to": show_day(part.period.end_ms - 1),
            "train_rows": part.total,
            "train_frauds": part.frauds,
            "rows_in_memory": len(part.rows),
            "test_from": show_day(fold.test_ms[0]),
            "test_to": show_day(fold.test_ms[1] - 1),
            "features": list(self.examples.names),
            "feature_hash": self.examples.feature_hash,
            "settings": self.settings.model_dump(mode="json"),
        }
        return Measured(figures, ids, scores)


def fit_classifier(
    shop: Workshop, fold: Fold, span_ms: tuple[int, int], archive: Path, say: Say
) -> Measured:
    """Fit the classifier of the settings on *span_ms*, write its archive and score the test."""
    wanted = shop.settings.classifier
    part = shop.known(span_ms, fold, wanted.max_rows)
    booster = fit_all(part, shop.settings, wanted, wanted.rounds, say)
    write_fraud(archive, booster, shop.examples.names, shop.examples.feature_hash, {})
    return shop.score(archive, part, fold)


def grow_forest(shop: Workshop, fold: Fold, archive: Path, say: Say) -> Measured:
    """
    Grow the forest of the settings on the weeks before the gap, and score the test.

    It takes as many rows as its trees hold, drawn from that time; labels it is not told.
    """
    settings, wanted, names = shop.settings, shop.settings.anomaly, shop.examples.names
    assert wanted.shape != "measure"
    part = shop.known(fold.train_ms, fold, settings.classifier.max_rows)
    forest = grow(
        part.rows,
        seed=settings.seed,
        trees=wanted.trees,
        tree_size=wanted.tree_size,
        scaling=front_of(part.rows, names, wanted, wanted.shape),
    )
    say(f"{wanted.trees} trees of {wanted.tree_size} rows on {', '.join(wanted.columns)}")
    write_anomaly(archive, forest, names, shop.examples.feature_hash, {})
    return shop.score(archive, part, fold)


def check_history(facts: Facts, fold: Fold, warm_up_s: int) -> Iterator[Problem]:
    """Yield what of the days that *fold* needs is not there at all."""
    first, last = int(facts.times_ms.min()), int(facts.times_ms.max())
    reach = f"transactions from {show_day(first)} to {show_day(last)}"
    if fold.train_ms[0] < first // _DAY_MS * _DAY_MS + warm_up_s * 1000:
        expected = f"at least {warm_up_s // 86_400} days before {fold}, which fill the features"
        yield Problem("FOLDS", str(fold), reach, expected)
    if last < fold.test_ms[0]:
        test = f"{show_day(fold.test_ms[0])} to {show_day(fold.test_ms[1] - 1)}"
        yield Problem("FOLDS", str(fold), reach, f"transactions of its test days, {test}")


def _as_arrow(mask: Mask) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    return pa.array(mask)
