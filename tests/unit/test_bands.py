"""Thresholds of models: read, carried in a tag, and put together with the settings."""

from typing import Any

import pytest

from consumer.bands import (
    ModelBands,
    check_bands,
    parse_tag,
    render_tag,
    resolve_bands,
    scores_of_models,
)
from consumer.errors import Misconfigured
from consumer.model import Bands
from consumer.settings import DecisionSettings

FRAUD = ModelBands({"fraud_review": 0.4123456789012345, "fraud_decline": 0.93}, "ab12cd34ef56")
ANOMALY = ModelBands({"anomaly_review": 1.7}, "0123456789ab")


def settings(**changes: Any) -> DecisionSettings:
    return DecisionSettings.model_validate(changes)


@pytest.mark.parametrize(("score", "bands"), [("fraud", FRAUD), ("anomaly", ANOMALY)])
def test_a_tag_carries_bands_exactly_in_the_characters_of_aws(
    score: str, bands: ModelBands
) -> None:
    text = render_tag(bands)
    assert parse_tag(score, text) == bands
    assert len(text) <= 256
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz0123456789 _.:/=+-@")


@pytest.mark.parametrize(
    ("score", "text", "wrong"),
    [
        ("fraud", "", "no fraud_review and no fraud_decline"),
        ("fraud", "fraud_review=0.4", "no fraud_decline"),
        ("fraud", "fraud_review=0.9 fraud_decline=0.4", "fraud_review 0.9 above fraud_decline 0.4"),
        ("fraud", "fraud_review=0.4 fraud_decline=1.2", "fraud_decline 1.2, outside 0 to 1"),
        ("fraud", "fraud_review=low fraud_decline=1", "which is no name=number"),
        ("anomaly", "anomaly_review=-1", "outside 0 to inf"),
        ("anomaly", "anomaly_review=nan", "anomaly_review nan"),
        ("anomaly", "fraud_review=0.4 fraud_decline=0.9", "no anomaly_review"),
    ],
)
def test_bands_that_cannot_be_used_say_why(score: str, text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        parse_tag(score, text)


def test_equal_thresholds_are_fine() -> None:
    assert check_bands("fraud", {"fraud_review": 0.5, "fraud_decline": 0.5}, "m").model == "m"


def test_numbers_in_the_settings_need_no_model() -> None:
    assert scores_of_models(settings()) == ()
    assert resolve_bands(settings(), {}) == Bands(0.5, 0.9, 3.0, "settings", "settings")


def test_model_takes_the_thresholds_of_the_model_and_says_whose_they_are() -> None:
    told = settings(fraud_review="model", fraud_decline=0.95, anomaly_review="model")
    assert scores_of_models(told) == ("fraud", "anomaly")
    assert resolve_bands(told, {"fraud": FRAUD, "anomaly": ANOMALY}) == Bands(
        0.4123456789012345, 0.95, 1.7, "ab12cd34ef56", "0123456789ab"
    )


def test_every_model_without_bands_is_named_at_its_setting() -> None:
    told = settings(fraud_decline="model", anomaly_review="model")
    with pytest.raises(Misconfigured) as refused:
        resolve_bands(told, {})
    assert [problem.key for problem in refused.value.problems] == [
        "decision.fraud_decline",
        "decision.anomaly_review",
    ]
    assert "scoring.anomaly.archive" in str(refused.value)


def test_a_number_that_contradicts_the_model_is_refused() -> None:
    told = settings(fraud_review="model", fraud_decline=0.3)
    with pytest.raises(
        Misconfigured, match=r"found 0\.412346, where decision.fraud_decline is 0\.3"
    ):
        resolve_bands(told, {"fraud": FRAUD})
