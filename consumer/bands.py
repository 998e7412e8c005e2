"""
The bands of the scores: from which value on to review and to decline.

Scores of two models cannot be compared, so thresholds belong to a model. Training
proposes them and writes them into its archive; a tag beside the model carries them to
where it is served. A number in the settings wins over both.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from consumer.errors import Misconfigured, Problem
from consumer.model import Bands
from consumer.settings import DecisionSettings

TAG: Final = "fraudstream:bands"
"""The tag of an endpoint whose value is that of ``render_tag``."""

MODEL_DIGITS: Final = 12
"""Hex digits of the SHA-256 of an archive, by which bands say whose they are."""

THRESHOLDS: Final[Mapping[str, tuple[str, ...]]] = {
    "fraud": ("fraud_review", "fraud_decline"),
    "anomaly": ("anomaly_review",),
}
"""The thresholds of each score, in rising order; named as under ``decision`` in the settings."""


@dataclass(frozen=True, slots=True)
class ModelBands:
    """The thresholds of one model, name → value, and the beginning of its archive's hash."""

    thresholds: Mapping[str, float]
    model: str


def check_bands(score: str, thresholds: Mapping[str, float], model: str) -> ModelBands:
    """
    Return the bands of *score* in *thresholds*.

    Raises ValueError, saying what is wrong, where one is missing, out of range or above the next.
    """
    names = THRESHOLDS[score]
    missing = [name for name in names if name not in thresholds]
    if missing:
        message = f"no {' and no '.join(missing)}"
        raise ValueError(message)
    values = [thresholds[name] for name in names]
    highest = 1.0 if score == "fraud" else math.inf
    for name, value in zip(names, values, strict=True):
        if not (math.isfinite(value) and 0 <= value <= highest):
            message = f"{name} {value:g}, outside 0 to {highest:g}"
            raise ValueError(message)
    if values != sorted(values):
        message = " above ".join(f"{n} {v:g}" for n, v in zip(names, values, strict=True))
        raise ValueError(message)
    return ModelBands(dict(zip(names, values, strict=True)), model)


def render_tag(bands: ModelBands) -> str:
    """Write *bands* in the characters that a tag of AWS may have, below 256 of them."""
    values = [f"{name}={value!r}" for name, value in bands.thresholds.items()]
    return " ".join([*values, f"model={bands.model}"])


def parse_tag(score: str, text: str) -> ModelBands:
    """Read what ``render_tag`` wrote. Raises ValueError, saying what is wrong."""
    fields = dict(word.partition("=")[::2] for word in text.split())
    model = fields.pop("model", "untold")
    try:
        thresholds = {name: float(value) for name, value in fields.items()}
    except ValueError as error:
        message = f"{text!r}, which is no name=number"
        raise ValueError(message) from error
    return check_bands(score, thresholds, model)


def scores_of_models(settings: DecisionSettings) -> tuple[str, ...]:
    """The scores of which some threshold is the model's."""
    return tuple(
        score
        for score, names in THRESHOLDS.items()
        if any(getattr(settings, name) == "model" for name in names)
    )


def resolve_bands(settings: DecisionSettings, models: Mapping[str, ModelBands]) -> Bands:
    """
    Take each threshold from *settings* or, where these say ``model``, from *models*, by score.

    Raises Misconfigured where a model's are missing, or contradict a number beside them.
    """
    values: dict[str, float] = {}
    problems = [
        missing_bands(score, settings, "nothing")
        for score in scores_of_models(settings)
        if score not in models
    ]
    for score, names in THRESHOLDS.items():
        for name in names:
            told = getattr(settings, name)
            if told != "model":
                values[name] = told
            elif score in models:
                values[name] = models[score].thresholds[name]
    if not problems and values["fraud_review"] > values["fraud_decline"]:
        found = f"{values['fraud_review']:g}, where decision.fraud_decline is "
        found += f"{values['fraud_decline']:g}"
        expected = "at most decision.fraud_decline; let both be numbers, or both be the model's"
        problems.append(Problem("settings", "decision.fraud_review", found, expected))
    if problems:
        raise Misconfigured(problems)
    whose = [
        models[score].model if score in scores_of_models(settings) else "settings"
        for score in THRESHOLDS
    ]
    return Bands(values["fraud_review"], values["fraud_decline"], values["anomaly_review"], *whose)


def missing_bands(score: str, settings: DecisionSettings, found: str) -> Problem:
    """What to say where the bands of the model of *score* are not to be had."""
    keys = [f"decision.{n}" for n in THRESHOLDS[score] if getattr(settings, n) == "model"]
    expected = (
        f"the tag {TAG} on the endpoint of scoring.{score}.name, or thresholds in "
        f"scoring.{score}.archive, or a number instead of 'model'"
    )
    return Problem("settings", keys[0], f"'model', with {found}", expected)
