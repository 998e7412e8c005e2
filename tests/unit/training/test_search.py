from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.training.examples import Limit, Part, load, open_files
from consumer.training.search import build_folds, draw, search
from consumer.training.settings import TrainingSettings
from consumer.training.split import Period
from tests.datasets import DAY_MS, FIRST_MS, Made, write_dataset

DAYS = 60


def settings(tries: int = 3, folds: int = 2) -> TrainingSettings:
    return TrainingSettings.model_validate(
        {
            "threads": 1,
            "classifier": {"rounds": 15, "patience": 5},
            "search": {"tries": tries, "folds": folds},
        }
    )


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Part:
    path: Path = tmp_path_factory.mktemp("data") / "a.parquet"
    examples = open_files([write_dataset(path, Made(rows=4_000, days=DAYS))])
    period = Period(FIRST_MS, FIRST_MS + DAYS * DAY_MS)
    return load(examples, examples.index.times_ms >= 0, period, period.end_ms, Limit(10_000, 1))


def test_folds_measure_later_than_they_learn_with_a_gap_for_labels(learning: Part) -> None:
    folds = build_folds(learning, settings(folds=3))
    assert len(folds) == 3
    for fold in folds:
        gap_ms = fold.validation.period.first_ms - fold.learning.period.end_ms
        assert gap_ms == 7 * DAY_MS
        assert fold.learning.times_ms.max() < fold.validation.times_ms.min()
        known = fold.learning.label_times_ms[fold.learning.fraud]
        assert known.max() <= fold.validation.period.first_ms
    assert folds[-1].validation.period.end_ms == learning.period.end_ms
    assert folds[0].validation.period.end_ms <= folds[1].validation.period.first_ms


def test_the_search_keeps_the_best_try_and_tells_all_of_them(learning: Part) -> None:
    told: list[str] = []
    found = search(learning, settings(), told.append, now_s=iter(range(100)).__next__)
    scores = [float(str(each["average_precision"])) for each in found.table]
    assert len(scores) == 3
    best = found.table[scores.index(max(scores))]
    assert (best["depth"], best["learning_rate"]) == (
        found.classifier.depth,
        found.classifier.learning_rate,
    )
    assert told[0] == "search: 3 tries on 2 folds, at most 15 rounds each"
    assert told[-1].endswith("about 0 s left")
    assert [len(list(str(each["by_fold"]).split(","))) for each in found.table] == [2, 2, 2]


def test_the_same_seed_tries_the_same(learning: Part) -> None:
    one = search(learning, settings(), lambda _: None)
    again = search(learning, settings(), lambda _: None)
    assert one.table == again.table
    other = settings().model_copy(update={"seed": 2})
    assert draw(settings())[0] == draw(other)[0] == settings().classifier
    assert draw(settings())[1:] != draw(other)[1:]


def test_folds_with_too_few_frauds_are_refused(learning: Part) -> None:
    with pytest.raises(Misconfigured, match=r"search\.folds: found \d known frauds"):
        build_folds(learning, settings(folds=20))
