"""The rows that a model is trained on and measured by, wherever its trees are grown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from consumer.errors import Misconfigured, Problem
from consumer.training.anomaly import check_names
from consumer.training.examples import Examples, Limit, Part, load
from consumer.training.settings import TrainingSettings
from consumer.training.split import Period, Split, divide, usable

_FEWEST_FRAUDS: Final = 10


@dataclass(frozen=True, slots=True)
class Lesson:
    """Training and validation rows, and where they came from."""

    examples: Examples
    split: Split
    learning: Part
    validation: Part
    settings: TrainingSettings

    def load(self, period: Period, known_ms: int, rows: int) -> Part:
        """Read rows of another *period*, see ``examples.load``."""
        chosen = usable(self.examples.index, self.settings.split)
        return load(self.examples, chosen, period, known_ms, Limit(rows, self.settings.seed))

    def describe_split(self) -> dict[str, Any]:
        """
        Say which rows served for what.

        An archive keeps it, so that nobody measures the model by what it has learnt.
        """
        index, split = self.examples.index, self.split
        chosen = usable(index, self.settings.split)
        described: dict[str, Any] = {
            "rows": len(index.times_ms),
            "without_a_label_yet": int((~chosen).sum()),
        }
        for name, part in (("train", self.learning), ("validation", self.validation)):
            described[name] = {
                "period": str(part.period),
                "rows": part.total,
                "rows_read": len(part.rows),
                "frauds": part.frauds,
                "frauds_not_yet_known": part.late,
            }
        if split.test is not None:
            within = chosen & split.test.holds(index.times_ms)
            described["test"] = {
                "period": str(split.test),
                "rows": int(within.sum()),
                "frauds": int((within & (index.labels == 1)).sum()),
            }
        return described

    def describe_origin(self, versions: Mapping[str, str]) -> dict[str, object]:
        """Tell what an archive keeps of how it came about, with *versions* of libraries."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "split": self.describe_split(),
            "data_sets": self.examples.describe(),
            "versions": dict(versions),
        }


def prepare(examples: Examples, settings: TrainingSettings) -> Lesson:
    """Read the rows that *settings* choose. Raises Misconfigured, also for too few frauds."""
    check_names(settings.anomaly, examples.names)
    split = divide(examples.index, settings.split)
    chosen = usable(examples.index, settings.split)
    limit = Limit(settings.classifier.max_rows, settings.seed)
    learning = load(examples, chosen, split.train, split.trained_ms, limit)
    validation = load(examples, chosen, split.validation, split.validated_ms, limit)
    for part, purpose in ((learning, "training"), (validation, "validation")):
        if part.frauds < _FEWEST_FRAUDS:
            found = f"{part.total} {purpose} rows with {part.frauds} known frauds, {part.period}"
            expected = f"at least {_FEWEST_FRAUDS} known frauds in each part; a longer history "
            expected += "has more"
            raise Misconfigured([Problem("training", purpose, found, expected)])
    return Lesson(examples, split, learning, validation, settings)
