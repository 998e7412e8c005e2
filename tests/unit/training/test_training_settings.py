from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.training.settings import TrainingSettings, load_training_settings, parse_duration


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises(Misconfigured) as caught:
        load_training_settings(path)
    return [str(problem).removeprefix(str(tmp_path)) for problem in caught.value.problems]


def test_a_file_says_only_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("split: {gap: 10d, validation: 14d, until: 2026-06-01}\nanomaly: {shape: log}")
    read = load_training_settings(path)
    assert read.split.gap == 864_000
    assert read.split.validation == 1_209_600
    assert read.split.until == 1_780_272_000_000
    assert read.anomaly.shape == "log"
    assert read.classifier == TrainingSettings().classifier


def test_an_empty_file_leaves_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("# nothing\n")
    assert load_training_settings(path) == TrainingSettings()


def test_every_mistake_is_told_with_its_line(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        "seed: x\n"
        "split: {gap: 7 years}\n"
        "classifier:\n"
        "  dept: 3\n"
        "  parameters: {max_bin: [1]}\n"
        "anomaly: {review_share: 2}\n",
    )
    expected = (
        ":1: seed: found 'x', expected a valid integer",
        ":2: split.gap: found '7 years', expected a duration such as 7d, 12h, 30m or 0s",
        ":4: classifier.dept: found the key dept, expected depth? one of balance",
        ":5: classifier.parameters.max_bin: found [1], expected a text, a number, true or false",
        ":6: anomaly.review_share: found 2, expected less than 1",
    )
    assert len(found) == len(expected)
    for said in expected:
        assert any(each.startswith(f"/train.yaml{said}") for each in found), (said, found)


def test_a_key_that_stands_twice_and_a_missing_file_are_told(tmp_path: Path) -> None:
    assert "each key once" in problems(tmp_path, "seed: 1\nseed: 2\n")[0]
    with pytest.raises(Misconfigured, match="No such file"):
        load_training_settings(tmp_path / "none.yaml")


def test_the_command_line_is_checked_as_the_file_is() -> None:
    with pytest.raises(Misconfigured, match=r"arguments: seed: found -1, expected greater"):
        TrainingSettings.check({"seed": -1}, "arguments")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("1.5h", 5_400), ("2 w", 1_209_600), (60, 60), ("0s", 0)]
)
def test_durations_have_units(text: object, seconds: int) -> None:
    assert parse_duration(text) == seconds
