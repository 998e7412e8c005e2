"""``fraudstream models`` against an emulated AWS: from a data set to an endpoint, and back."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost

from consumer.__main__ import main
from consumer.adapters import aws
from consumer.adapters.endpoint_tags import EndpointTags
from consumer.bands_watch import BandsWatch
from consumer.deployment.calls import Call
from consumer.feature_hash import FeatureHashWatch
from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.local.resources import session
from consumer.settings import Aws, DecisionSettings, Settings
from consumer.training.artefacts import load_fraud, read_metrics
from consumer.training.examples import open_files
from consumer.training.settings import AnomalySettings, ClassifierSettings, TrainingSettings
from consumer.training.train import train
from tests.datasets import FEATURES, HASH, Made, values_of, write_dataset
from tests.fakes.control import problems_of

BUCKET = "fraudstream-models"
FRAUD = Settings().scoring.fraud.name
FAST = """\
classifier: {rounds: 20, patience: 10}
anomaly: {trees: 50, tree_size: 64, shape: standard}
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("aws")
    part = Part("aws", ["consumer.local.aws"], listen(0, "aws"), directory=directory)
    try:
        part.await_ready("/")
        client = session(part.url).client("s3")
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield part.url
    finally:
        part.stop()


@pytest.fixture
def config(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    (tmp_path / "features.yaml").write_text(FEATURES, encoding="utf-8")
    (tmp_path / "train.yaml").write_text(FAST, encoding="utf-8")
    path = tmp_path / "fraudstream.yaml"
    path.write_text(
        f"aws: {{endpoint_url: '{url}'}}\n"
        "features: {path: features.yaml}\n"
        "sagemaker:\n"
        "  role_arn: arn:aws:iam::123456789012:role/fraudstream\n"
        f"  bucket: {BUCKET}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("rows") / "rows.parquet", Made(rows=4_000))


@pytest.fixture(scope="module")
def archives(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two fraud models of the same rows."""
    made = []
    for rounds in (10, 20):
        folder = tmp_path_factory.mktemp("models")
        settings = TrainingSettings(
            models=("fraud",), classifier=ClassifierSettings(rounds=rounds, patience=10)
        )
        made.append(train(open_files([dataset]), folder, settings).fraud)
    return made[0], made[1]


def models(config: Path, *words: object) -> int:
    return main(["models", str(words[0]), "--config", str(config), *map(str, words[1:])])


def boosted(dataset: Path) -> bytes:
    """What a job of the built-in XGBoost leaves: a model.tar.gz with the booster alone."""
    values, fraud = values_of(Made(rows=4_000))
    booster = xgboost.train(
        {"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(values, fraud), 15
    )
    data = bytes(booster.save_raw("ubj"))
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        entry = tarfile.TarInfo("xgboost-model")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def printed_calls(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_job_trains_and_its_model_comes_back_as_an_archive(
    url: str,
    config: Path,
    dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s3 = session(url).client("s3")
    key = "fraudstream/jobs/fraud-one/output/model.tar.gz"
    s3.put_object(Bucket=BUCKET, Key=key, Body=boosted(dataset))
    out = tmp_path / "fraud.tar.gz"
    words = ("train", dataset, "--name", "fraud-one", "--settings", tmp_path / "train.yaml")
    assert models(config, *words, "--out", out) == 0
    assert "wrote" in capsys.readouterr().err
    model = load_fraud(out)
    assert model.feature_hash == HASH
    metrics = read_metrics(out)
    assert {"thresholds", "average_precision", "calibration", "bins"} <= metrics.keys()
    rows, _ = values_of(Made(rows=100, seed=9))
    assert ((model.predict(rows) >= 0) & (model.predict(rows) <= 1)).all()
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="fraudstream/rows/")["Contents"]
    keys = {each["Key"].rpartition("/")[2]: each["Key"] for each in listed}
    assert sorted(keys) == ["train-00000.csv", "validation-00000.csv"]
    body = s3.get_object(Bucket=BUCKET, Key=keys["train-00000.csv"])["Body"].read().decode()
    first = np.array(body.split("\n")[0].split(","), np.float32).tolist()
    # Label, weight, and the features as they are in single precision.
    assert first[:2] in ([0.0, 1.0], [1.0, 1.0])
    assert first[2:] == values_of(Made(rows=4_000))[0][0].astype(np.float32).tolist()
    s3.close()
    # Told again it is the same job; with another input it is refused.
    assert models(config, *words, "--out", out) == 0
    assert "was started before with this very input" in capsys.readouterr().err
    (tmp_path / "train.yaml").write_text("classifier: {rounds: 30, depth: 3}\n", encoding="utf-8")
    assert models(config, *words) == 2
    assert "hyperparameters early_stopping_rounds, max_depth, num_round" in capsys.readouterr().err


def test_a_dry_run_of_training_prints_the_calls_and_makes_none(
    url: str, config: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", dataset, "--name", "dry", "--settings", tmp_path / "train.yaml")
    assert models(config, *words, "--kind", "anomaly", "--dry-run") == 0
    calls = printed_calls(capsys.readouterr().out)
    assert [each["operation"] for each in calls] == [
        "put_object",
        "put_object",
        "create_training_job",
    ]
    assert calls[-1]["parameters"]["HyperParameters"] == {
        "feature_dim": "4",
        "num_trees": "50",
        "num_samples_per_tree": "64",
    }
    jobs = session(url).client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    assert "dry" not in [each["TrainingJobName"] for each in jobs]


def test_a_forest_is_trained_there_and_served_behind_its_front(
    config: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("train", dataset, "--name", "anomaly-one", "--settings", tmp_path / "train.yaml")
    assert models(config, *words, "--kind", "anomaly") == 0
    assert "fraudstream models deploy --job anomaly-one" in capsys.readouterr().err
    assert models(config, "deploy", "--job", "anomaly-one", "--band", "anomaly_review=1.4") == 0
    assert models(config, "describe", "fraudstream-anomaly") == 0
    out = capsys.readouterr().out
    described = json.loads(out[out.index("{") :])
    images = [each["Image"] for each in described["models"][0]["Containers"]]
    assert [each.rpartition("/")[2] for each in images] == [
        "sagemaker-xgboost:3.0-5",
        "randomcutforest:1",
    ]
    assert described["bands"].startswith("anomaly_review=1.4 model=")


def test_a_forest_trained_here_needs_an_image_of_its_own(
    config: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrainingSettings(
        models=("anomaly",), anomaly=AnomalySettings(trees=50, tree_size=64, shape="standard")
    )
    archive = train(open_files([dataset]), tmp_path, settings).anomaly
    assert models(config, "deploy", archive) == 2
    assert "sagemaker.serving_image" in capsys.readouterr().err
    # What was measured here stands in front of the forest that is trained there.
    words = ("train", dataset, "--name", "like-it", "--kind", "anomaly", "--like", archive)
    assert models(config, *words, "--dry-run") == 0


def test_a_model_is_deployed_replaced_and_rolled_back(
    config: Path, archives: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--scale", "2:8", "--capture", "10")
    assert models(config, "deploy", archives[0], *words) == 0
    assert models(config, "deploy", archives[1], *words) == 0
    assert f"update: {FRAUD}" in capsys.readouterr().err
    assert models(config, "list", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    second = next(row for row in rows if row["name"] == FRAUD)
    assert second["feature_hash"] == HASH
    assert models(config, "rollback", FRAUD) == 0
    assert models(config, "list") == 0
    shown = capsys.readouterr().out
    assert FRAUD in shown
    assert second["model"] not in shown


def test_workers_accept_what_was_deployed_and_take_its_bands_over(
    url: str, config: Path, archives: tuple[Path, Path]
) -> None:
    assert models(config, "deploy", archives[0]) == 0
    client = aws.client(
        "sagemaker",
        Aws(endpoint_url=url),
        connect_timeout_s=5,
        read_timeout_s=30,
        max_pool_connections=1,
    )
    tags = EndpointTags(client)
    verdicts: list[tuple[str, bool]] = []
    watch = FeatureHashWatch(tags, {"fraud": FRAUD}, HASH, lambda *told: verdicts.append(told))
    watch.look()
    assert verdicts == [("fraud", True)]
    decision = DecisionSettings(fraud_review="model", fraud_decline="model", anomaly_review=9.0)
    settings = Settings(decision=decision)
    bands = BandsWatch(tags, settings, lambda _: None).policy.bands
    measured = read_metrics(archives[0])["thresholds"]
    assert {"fraud_review": bands.fraud_review, "fraud_decline": bands.fraud_decline} == measured
    # A deployment of another model carries its own, in the same step.
    assert models(config, "deploy", archives[1]) == 0
    second = BandsWatch(tags, settings, lambda _: None).policy.bands
    assert second.fraud_review == read_metrics(archives[1])["thresholds"]["fraud_review"]  # type: ignore[index]
    client.close()


def test_a_dry_run_of_a_deployment_prints_calls_of_the_form_aws_takes(
    config: Path, archives: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("deploy", archives[0], "--endpoint", "dry", "--shadow", archives[1], "--scale", "1:2")
    assert models(config, *words, "--dry-run") == 0
    calls = printed_calls(capsys.readouterr().out)
    assert [each["operation"] for each in calls] == [
        "put_object",
        "put_object",
        "create_model",
        "create_model",
        "create_endpoint_config",
        "create_endpoint",
        "register_scalable_target",
        "put_scaling_policy",
    ]
    for each in calls[2:]:
        assert problems_of(Call(**each)) == []
    assert models(config, "describe", "dry") == 2


def test_a_model_of_other_features_is_not_deployed_unasked(
    config: Path, archives: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    text = FEATURES.replace("card_max_1d", "card_most_1d")
    (config.parent / "features.yaml").write_text(text, encoding="utf-8")
    words = ("deploy", archives[0], "--endpoint", "other")
    assert models(config, *words) == 2
    assert f"trained on the feature list {HASH[:12]}…" in capsys.readouterr().err
    assert models(config, *words, "--other-features", "--dry-run") == 0


def test_two_archives_are_compared_by_what_they_measured(
    config: Path,
    archives: tuple[Path, Path],
    dataset: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert models(config, "compare", *archives, "--json") == 0
    compared = json.loads(capsys.readouterr().out)
    assert compared["same_validation"]
    assert compared["same_features"]
    assert len(compared["metrics"]["average_precision"]) == 2
    words = ("compare", *archives, "--rows", dataset, "--limit", "500")
    assert models(config, *words, "--json") == 0
    scored = json.loads(capsys.readouterr().out)
    assert scored["rows"] == 500
    assert 0 < scored["rank_correlation"] < 1
    assert len(scored["average_precision"]) == 2
    assert models(config, "compare", archives[0], "endpoint:none") == 2
    assert "only archives say what they measured" in capsys.readouterr().err


def test_the_endpoint_that_workers_ask_is_not_deleted_unasked(
    config: Path, archives: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert models(config, "deploy", archives[0]) == 0
    assert models(config, "delete", FRAUD, "--yes") == 2
    assert "scoring.fraud.name" in capsys.readouterr().err
    assert models(config, "delete", FRAUD, "--live") == 1
    assert "--yes deletes without asking" in capsys.readouterr().err
    assert models(config, "delete", FRAUD, "--live", "--versions", "--dry-run") == 0
    operations = [each["operation"] for each in printed_calls(capsys.readouterr().out)]
    assert "delete_endpoint" in operations
    assert models(config, "delete", FRAUD, "--live", "--versions", "--yes") == 0
    assert models(config, "describe", FRAUD) == 2


@pytest.mark.parametrize(
    ("key", "words"),
    [("role_arn", "sagemaker.role_arn"), ("bucket", "sagemaker.bucket")],
)
def test_what_the_settings_lack_is_named(
    key: str,
    words: str,
    config: Path,
    archives: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    kept = [line for line in config.read_text().splitlines() if f"  {key}:" not in line]
    config.write_text("\n".join(kept), encoding="utf-8")
    assert models(config, "deploy", archives[0]) == 2
    assert words in capsys.readouterr().err
