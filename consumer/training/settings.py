"""How to train: a YAML file of its own, in which every key has a default."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from consumer.errors import Misconfigured, Problem
from consumer.settings_file import SettingsFile, read_settings_file
from consumer.training.archive import Kind
from consumer.training.forest import TREE_SIZE, TREES
from consumer.training.scaling import Shape
from consumer.yaml_document import expect_key, show_found

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_duration(value: Any) -> int:
    """Return the seconds of ``7d``, ``12h`` or a number of seconds. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration such as 7d, 12h, 30m or 0s")
    return round(float(match[1]) * _UNIT_S[match[2]])


def parse_moment(value: Any) -> int:
    """Return the milliseconds of a date or an RFC 3339 time, UTC without a zone; or of a number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError("a date such as 2026-06-01, or an RFC 3339 time") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _length(value: Any) -> float | int:
    """A share of the time below 1, or seconds."""
    if isinstance(value, float) and 0 <= value < 1:
        return value
    return parse_duration(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, str | int | float):
        return value
    raise ValueError("a text, a number, true or false")


Duration = Annotated[int, BeforeValidator(parse_duration)]
Moment = Annotated[int, BeforeValidator(parse_moment)]
Length = Annotated[float | int, BeforeValidator(_length)]
Rounds = Annotated[int, Field(ge=1, le=100_000)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SplitSettings(_Section):
    """
    Which time is for what: training, gap, validation, gap, test, one after the other.

    ``validation`` and ``test`` are shares of the time used, or durations such as 14d; no
    test without one. The gaps are what a label takes to arrive, since a model that is trained
    at the beginning of validation knows no younger labels; ``test_gap`` is ``gap`` unless
    given. ``warm_up`` leaves out the beginning, ``train_from`` and ``until`` (exclusive)
    all that lies outside. ``unlabelled`` says what a row is of which nobody said anything.
    """

    train_from: Moment | None = None
    until: Moment | None = None
    warm_up: Duration = 0
    gap: Duration = 7 * 86_400
    test_gap: Duration | None = None
    validation: Length = 0.2
    test: Length = 0
    unlabelled: Literal["legitimate", "leave_out"] = "legitimate"


class ClassifierSettings(_Section):
    """
    The boosted trees. ``rounds`` is the most there may be; validation stops them earlier when
    ``stop_on`` has not improved for ``patience`` rounds.

    ``balance``: ``none`` learns frauds as rare as they are, ``weights`` counts each as often as
    makes both kinds equal, ``roots`` the square root of that, and ``measure`` takes the best of
    the three by average precision in validation. Above ``max_rows`` training rows, legitimate
    ones are thinned out and weighted up. ``refit`` learns again from all that is known
    after validation, with as many rounds. ``parameters`` go to XGBoost as they are and win.
    """

    rounds: Rounds = 600
    patience: Rounds = 50
    stop_on: Literal["average_precision", "log_loss"] = "average_precision"
    depth: Annotated[int, Field(ge=1, le=16)] = 6
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    min_child_weight: Annotated[float, Field(ge=0)] = 2.0
    subsample: Annotated[float, Field(gt=0, le=1)] = 0.8
    column_share: Annotated[float, Field(gt=0, le=1)] = 0.8
    penalty: Annotated[float, Field(ge=0)] = 1.0
    balance: Literal["none", "roots", "weights", "measure"] = "none"
    calibrate: bool = True
    max_rows: Annotated[int, Field(ge=100)] = 1_000_000
    refit: bool = False
    decline_precision: Annotated[float, Field(gt=0, le=1)] = 0.9
    parameters: dict[str, Annotated[Any, BeforeValidator(_scalar)]] = {}


class SearchSettings(_Section):
    """
    A search over the classifier's hyperparameters; none without ``tries``.

    Each try is trained on ``folds`` folds inside the training part, every one with a gap and a
    later piece to measure by; the best mean average precision wins.
    """

    tries: Annotated[int, Field(ge=0, le=1_000)] = 0
    folds: Annotated[int, Field(ge=1, le=20)] = 3


class AnomalySettings(_Section):
    """
    The random cut forest. ``shape`` is what a feature goes through first, ``measure`` the best
    of them all by average precision in validation; ``shapes`` says it for single features,
    ``columns`` which features the forest sees (all, when empty) and ``weights`` what their
    range is multiplied by. ``review_share`` of the transactions may the score alone send to
    review, null to begin at three standard deviations above the mean; it is measured on
    ``rows`` legitimate rows and the frauds.
    """

    trees: Annotated[int, Field(ge=1, le=1_000)] = TREES
    tree_size: Annotated[int, Field(ge=2, le=4_096)] = TREE_SIZE
    shape: Shape | Literal["measure"] = "measure"
    shapes: dict[str, Shape] = {}
    columns: tuple[str, ...] = Field((), strict=False)
    weights: dict[str, Annotated[float, Field(ge=0)]] = {}
    review_share: Annotated[float, Field(gt=0, lt=1)] | None = 0.005
    rows: Annotated[int, Field(ge=100)] = 10_000


class TrainingSettings(_Section):
    """Everything that decides what comes out, beside the data."""

    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    threads: Annotated[int, Field(ge=1, le=256)] = 2
    models: tuple[Kind, ...] = Field(("fraud", "anomaly"), strict=False, min_length=1)
    split: SplitSettings = SplitSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    search: SearchSettings = SearchSettings()
    anomaly: AnomalySettings = AnomalySettings()

    @classmethod
    def check(cls, values: Mapping[str, object], source: str) -> "TrainingSettings":
        """Build them from *values* of *source*. Raises Misconfigured with every problem."""
        return _validate(SettingsFile(Path(source), values, {}))


def load_training_settings(path: Path) -> TrainingSettings:
    """Read *path*. Raises Misconfigured with every problem, each with its line."""
    return _validate(read_settings_file(path))


def _validate(read: SettingsFile) -> TrainingSettings:
    problems = list(read.problems)
    try:
        settings = TrainingSettings.model_validate(read.values)
    except ValidationError as error:
        problems += [_problem(read, each) for each in error.errors()]
        raise Misconfigured(problems) from None
    if problems:
        raise Misconfigured(problems)
    return settings


def _problem(read: SettingsFile, error: Any) -> Problem:
    words = [str(word) for word in error["loc"] if not _is_branch(str(word))]
    key = ".".join(words)
    line = next(
        (
            read.lines[".".join(words[:end])]
            for end in range(len(words), 0, -1)
            if ".".join(words[:end]) in read.lines
        ),
        None,
    )
    place = str(read.path) if line is None else f"{read.path}:{line}"
    if error["type"] == "extra_forbidden":
        expected = expect_key(words[-1], _keys_beside(words))
        return Problem(place, key, f"the key {words[-1]}", expected)
    expected = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return Problem(place, key, show_found(error["input"]), expected)


def _is_branch(word: str) -> bool:
    """Whether *word* names no key but the branch of a union that pydantic tried."""
    return word.startswith(("literal[", "constrained-", "function-")) or word in {"float", "int"}


def _keys_beside(words: list[str]) -> list[str]:
    model: Any = TrainingSettings
    for word in words[:-1]:
        model = model.model_fields[word].annotation
    return list(model.model_fields)
