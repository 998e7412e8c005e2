"""What a training job is given, what is made of its model, and how two models are compared."""

import json
import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import xgboost

from consumer.deployment.comparison import compare_archives, compare_scores
from consumer.deployment.learning import (
    forest_hyperparameters,
    hyperparameters_of,
    read_booster,
    scaling_of,
    weighted,
    write_archive,
)
from consumer.deployment.rows import ROWS_A_FILE, build_uploads, write_inputs, write_labelled
from consumer.errors import Misconfigured
from consumer.training.archive import read
from consumer.training.artefacts import load_fraud, write_anomaly
from consumer.training.examples import Part, open_files
from consumer.training.forest import grow
from consumer.training.lesson import Lesson, prepare
from consumer.training.scaling import fit
from consumer.training.scored import of_datasets, trained_until_ms
from consumer.training.settings import AnomalySettings, ClassifierSettings, TrainingSettings
from tests.datasets import DAY_MS, FIRST_MS, HASH, NAMES, Made, write_dataset

SETTINGS = TrainingSettings(classifier=ClassifierSettings(rounds=20, patience=5))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("rows") / "rows.parquet", Made(rows=3_000))


@pytest.fixture(scope="module")
def lesson(dataset: Path) -> Lesson:
    return prepare(open_files([dataset]), SETTINGS)


def packed(folder: Path, name: str, data: bytes) -> Path:
    with tarfile.open(folder / "job.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        archive.addfile(entry, BytesIO(data))
    return folder / "job.tar.gz"


def boosted(columns: int) -> xgboost.Booster:
    random = np.random.default_rng(2)
    rows = random.normal(size=(500, columns)).astype(np.float32)
    matrix = xgboost.DMatrix(rows, rows[:, 0] > 1)
    return xgboost.train({"objective": "binary:logistic", "nthread": 1}, matrix, 5)


def test_too_few_frauds_are_told_before_anything_is_sent(tmp_path: Path) -> None:
    rare = write_dataset(tmp_path / "rare.parquet", Made(rows=500, share=0.01))
    with pytest.raises(Misconfigured, match="at least 10 known frauds in each part"):
        prepare(open_files([rare]), SETTINGS)


def test_the_container_is_told_the_parameters_of_training_here() -> None:
    told = hyperparameters_of(SETTINGS)
    assert (told["num_round"], told["early_stopping_rounds"]) == ("20", "5")
    assert (told["eval_metric"], told["base_score"], told["csv_weights"]) == ("aucpr", "0.5", "1")
    assert "nthread" not in told


def test_balanced_rows_carry_their_weights(dataset: Path) -> None:
    settings = SETTINGS.model_copy(update={"classifier": ClassifierSettings(balance="weights")})
    part = weighted(prepare(open_files([dataset]), settings))
    frauds = part.weights[part.fraud].sum()
    assert frauds == pytest.approx(part.weights[~part.fraud].sum(), rel=1e-4)


def test_a_balance_that_has_to_be_measured_is_left_to_training_here(dataset: Path) -> None:
    settings = SETTINGS.model_copy(update={"classifier": ClassifierSettings(balance="measure")})
    with pytest.raises(Misconfigured, match="none, roots or weights: a job trains one model"):
        weighted(prepare(open_files([dataset]), settings))


def test_a_shape_that_has_to_be_measured_is_taken_from_a_forest_trained_here(
    lesson: Lesson, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match="--like ARCHIVE of a forest trained here"):
        scaling_of(lesson, None)
    forest = grow(lesson.learning.rows, seed=1, trees=5, tree_size=16)
    write_anomaly(tmp_path / "anomaly.tar.gz", forest, NAMES, HASH, {})
    assert scaling_of(lesson, tmp_path / "anomaly.tar.gz") == forest.scaling
    other = grow(lesson.learning.rows[:, :2], seed=1, trees=5, tree_size=16)
    write_anomaly(tmp_path / "other.tar.gz", other, NAMES[:2], HASH, {})
    with pytest.raises(Misconfigured, match="a forest of the features of the data set"):
        scaling_of(lesson, tmp_path / "other.tar.gz")


def test_a_forest_of_named_columns_has_as_many_inputs(dataset: Path) -> None:
    anomaly = AnomalySettings(shape="log", columns=NAMES[:2], trees=60, tree_size=128)
    settings = SETTINGS.model_copy(update={"anomaly": anomaly})
    scaling = scaling_of(prepare(open_files([dataset]), settings), None)
    assert forest_hyperparameters(settings, len(scaling.columns)) == {
        "feature_dim": "2",
        "num_trees": "60",
        "num_samples_per_tree": "128",
    }


def test_a_booster_that_comes_back_is_calibrated_measured_and_kept(
    lesson: Lesson, tmp_path: Path
) -> None:
    booster = read_booster(packed(tmp_path, "xgboost-model", bytes(boosted(4).save_raw("ubj"))))
    out = tmp_path / "fraud.tar.gz"
    metrics = write_archive(out, booster, lesson, {"name": "job"})
    assert metrics["validation_rows"] == lesson.validation.total
    model = load_fraud(out)
    assert (model.feature_names, model.feature_hash) == (NAMES, HASH)
    write_archive(tmp_path / "again.tar.gz", booster, lesson, {"name": "job"})
    assert (tmp_path / "again.tar.gz").read_bytes() == out.read_bytes()


def test_thresholds_are_not_measured_by_rows_that_a_job_has_learnt_from(
    lesson: Lesson, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fraud.tar.gz"
    write_archive(out, boosted(4), lesson, {"name": "job"})
    scored = of_datasets([dataset], [out], say=lambda _: None)
    origin = json.loads(read(out)[1]["training.json"])
    assert trained_until_ms(origin) == lesson.split.train.end_ms
    assert scored.day.min() == lesson.split.train.end_ms // DAY_MS > FIRST_MS // DAY_MS
    before = int((lesson.examples.index.times_ms < lesson.split.train.end_ms).sum())
    assert 0 < len(scored.day) <= 3_000 - before


def test_a_booster_of_other_features_is_refused(lesson: Lesson, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="found 3 features, expected 4, as the rows have"):
        write_archive(tmp_path / "fraud.tar.gz", boosted(3), lesson, {})


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("model", b"", "a plain file xgboost-model"),
        ("xgboost-model", b"no booster", "a booster that this version of XGBoost reads"),
    ],
)
def test_what_is_no_model_of_a_job_is_told(
    name: str, data: bytes, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(Misconfigured, match=reason):
        read_booster(packed(tmp_path, name, data))
    (tmp_path / "job.tar.gz").write_bytes(b"cut off")
    with pytest.raises(Misconfigured, match="a plain file xgboost-model"):
        read_booster(tmp_path / "job.tar.gz")


def test_many_rows_become_several_files_under_one_digest(lesson: Lesson, tmp_path: Path) -> None:
    part = lesson.learning
    times = -(-ROWS_A_FILE // len(part.rows)) + 1
    many = Part(
        part.period,
        np.tile(part.rows, (times, 1)),
        np.tile(part.fraud, times),
        np.tile(part.times_ms, times),
        np.tile(part.label_times_ms, times),
        np.tile(part.weights, times),
        part.late,
    )
    channel = write_labelled(many, tmp_path, "train")
    assert [file.name for file in channel.files] == ["train-00000.csv", "train-00001.csv"]
    lines = [line for file in channel.files for line in file.read_text().splitlines()]
    assert len(lines) == channel.rows == len(many.rows)
    read = np.array([line.split(",") for line in lines[:: len(lines) // 50]], np.float32)
    assert np.array_equal(read[:, 2:], many.rows[:: len(lines) // 50])
    urls, calls = build_uploads([channel], "bucket", "prefix/")
    assert urls == {"train": f"s3://bucket/prefix/rows/{channel.digest}/train/"}
    assert len(calls) == 2


def test_the_forest_gets_its_inputs_and_no_label(lesson: Lesson, tmp_path: Path) -> None:
    scaling = fit(lesson.learning.rows, "rank", columns=[2, 0])
    channel = write_inputs(lesson.learning, scaling, tmp_path)
    read = np.loadtxt(channel.files[0], delimiter=",", dtype=np.float32)
    assert np.array_equal(read, scaling.apply(lesson.learning.rows))


def test_archives_of_two_kinds_are_not_compared(lesson: Lesson, tmp_path: Path) -> None:
    write_archive(tmp_path / "fraud.tar.gz", boosted(4), lesson, {})
    forest = grow(lesson.learning.rows, seed=1, trees=5, tree_size=16)
    write_anomaly(tmp_path / "anomaly.tar.gz", forest, NAMES, HASH, {})
    with pytest.raises(Misconfigured, match="two models of one kind"):
        compare_archives(tmp_path / "fraud.tar.gz", tmp_path / "anomaly.tar.gz")


def test_equal_scores_compare_as_equal() -> None:
    scores = np.linspace(0, 1, 200)
    compared = compare_scores(scores, scores.copy(), scores > 0.9)
    assert compared["equal"] == 200
    assert compared["largest_difference"] == 0
    assert compared["rank_correlation"] == pytest.approx(1)
    assert compared["roc_auc"] == [1.0, 1.0]


def test_reversed_scores_have_nothing_in_common() -> None:
    scores = np.linspace(0, 1, 200)
    compared = compare_scores(scores, scores[::-1], None)
    assert compared["rank_correlation"] == pytest.approx(-1)
    assert compared["top_share_in_common"] == 0
    assert "roc_auc" not in compared


def test_one_row_has_no_rank() -> None:
    compared = compare_scores(np.array([0.5]), np.array([0.4]), None)
    assert compared["rank_correlation"] is None
