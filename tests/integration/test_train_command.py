import json
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from consumer.__main__ import main
from consumer.settings import DecisionSettings
from consumer.training.artefacts import load_anomaly, load_fraud, write_fraud
from consumer.training.dataset_file import METADATA_KEY
from tests.datasets import DAY_MS, FEATURES, HASH, NAMES, Made, block_of, values_of, write_dataset

QUICK = """\
threads: 2
split: {validation: 8d, test: 6d, gap: 5d}
classifier: {rounds: 40, patience: 15, balance: measure}
anomaly: {trees: 15, tree_size: 64, rows: 400}
"""
MADE = Made(rows=5_000, days=45, share=0.04, delay_days=5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features, settings and a data set."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "features.yaml").write_text(FEATURES)
    (folder / "train.yaml").write_text(QUICK)
    write_dataset(folder / "history.parquet", MADE)
    return folder


def arguments(place: Path, out: Path, *more: str, data: str = "history.parquet") -> list[str]:
    return [
        "train",
        str(place / data),
        *("--features", str(place / "features.yaml")),
        *("--settings", str(place / "train.yaml")),
        *("--out", str(out)),
        *more,
    ]


@pytest.fixture(scope="module")
def trained(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models")
    assert main(arguments(place, out)) == 0
    return out


def refused(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    assert main(argv) == 2
    return capsys.readouterr().err


def member(path: Path, name: str) -> Any:
    with tarfile.open(path) as archive:
        content = archive.extractfile(f"fraudstream/{name}")
        assert content is not None
        return json.loads(content.read())


def test_both_archives_load_and_find_frauds(trained: Path) -> None:
    values, fraud = values_of(replace(MADE, seed=11))
    for model in (load_fraud(trained / "fraud.tar.gz"), load_anomaly(trained / "anomaly.tar.gz")):
        scores = model.predict(values)
        assert (model.feature_names, model.feature_hash) == (NAMES, HASH)
        assert scores[fraud].mean() > scores[~fraud].mean()
    assert sorted(path.name for path in trained.iterdir()) == ["anomaly.tar.gz", "fraud.tar.gz"]


def test_metrics_tell_parts_tries_and_test_figures(trained: Path) -> None:
    metrics = member(trained / "fraud.tar.gz", "metrics.json")
    assert metrics["average_precision"] > 0.6
    assert metrics["test"]["average_precision"] > 0.6
    assert set(metrics["balances"]) == {"none", "roots", "weights"}
    assert metrics["average_precision"] == pytest.approx(
        max(metrics["balances"].values()), abs=0.01
    )
    calibration = metrics["calibration"]
    assert calibration["log_loss"] <= calibration["log_loss_before"]
    assert metrics["test"]["at_thresholds"]["fraud_review"]["recall"] > 0.3
    anomaly = member(trained / "anomaly.tar.gz", "metrics.json")
    assert set(anomaly["shapes"]) == {"none", "standard", "log", "rank"}
    assert anomaly["shapes"][anomaly["shape"]] == max(anomaly["shapes"].values())


def test_the_archive_tells_how_it_came_about(trained: Path, place: Path) -> None:
    origin = member(trained / "fraud.tar.gz", "training.json")
    assert origin["settings"]["classifier"]["rounds"] == 40
    (dataset,) = origin["data_sets"]
    assert (dataset["name"], dataset["rows"]) == ("history.parquet", MADE.rows)
    assert len(dataset["sha256"]) == 64
    assert set(origin["versions"]) == {
        "fraudstream",
        "krcf",
        "numpy",
        "scikit-learn",
        "xgboost-cpu",
    }
    split = origin["split"]
    assert split["train"]["period"].startswith("2026-01-01T00:00:00.000Z to 2026-01-22T")
    assert split["train"]["frauds"] + split["validation"]["frauds"] + split["test"]["frauds"] < 200
    assert split["validation"]["rows"] == pytest.approx(MADE.rows * 8 / 45, rel=0.01)


def test_the_same_data_settings_and_seed_give_the_same_bytes(
    trained: Path, place: Path, tmp_path: Path
) -> None:
    shutil.copy(place / "history.parquet", tmp_path / "history.parquet")
    (tmp_path / "train.yaml").write_text(QUICK)
    (tmp_path / "features.yaml").write_text(FEATURES)
    assert main(arguments(tmp_path, tmp_path / "again")) == 0
    for name in ("fraud.tar.gz", "anomaly.tar.gz"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()


def test_json_search_and_refit(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--json", "--search", "2", "--refit", "--only", "fraud", "--seed", "4")
    assert main(arguments(place, tmp_path, *options)) == 0
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    metrics = told["metrics"]["fraud"]
    assert list(told["archives"]) == ["fraud"]
    assert len(metrics["search"]["tries"]) == 2
    assert metrics["refit_rows"] > told["split"]["train"]["rows"]
    assert "search: 2 tries on 3 folds, at most 40 rounds each" in captured.err
    assert not (tmp_path / "anomaly.tar.gz").exists()


def test_the_report_shows_what_was_reached(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(place, tmp_path, "--only", "anomaly", "--max-rows", "500")) == 0
    captured = capsys.readouterr()
    assert "avg. precision" in captured.out
    assert f"anomaly model: {tmp_path / 'anomaly.tar.gz'}" in captured.out
    assert "training: " in captured.err


def rows_of(made: Made) -> list[dict[str, object]]:
    """The rows that Firehose would have delivered."""
    block = block_of(made)
    return [
        {
            "transaction_id": block.transaction_ids[n],
            "event_time": block.times_ms[n],
            "card_id": block.card_ids[n],
            "base_amount": block.amounts[n],
            "degraded": [],
            "feature_hash": HASH,
            **{f"f_{name}": float(block.values[n][at]) for at, name in enumerate(NAMES)},
        }
        for n in range(made.rows)
    ]


def test_logged_rows_and_labels_train_the_same_models(
    place: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = block_of(MADE)
    times = np.array(block.times_ms, "datetime64[ms]").astype(str)
    rows = [
        row | {"event_time": time.replace("T", " ")}
        for row, time in zip(rows_of(MADE), times.tolist(), strict=True)
    ]
    (tmp_path / "rows.ndjson").write_bytes(b"\n".join(orjson.dumps(row) for row in rows[::-1]))
    known = [
        {
            "transaction_id": name,
            "label": "fraud" if fraud else "legitimate",
            "label_time": f"{np.datetime64(at + 5 * DAY_MS, 'ms')}Z",
        }
        for name, fraud, at in zip(block.transaction_ids, block.frauds, block.times_ms, strict=True)
    ]
    (tmp_path / "labels.ndjson").write_bytes(b"\n".join(orjson.dumps(each) for each in known))
    argv = arguments(place, tmp_path / "out", "--labels", str(tmp_path / "labels.ndjson"))
    argv[1] = str(tmp_path / "rows.ndjson")
    assert main(argv) == 0
    assert "5,000 read, 5,000 used, 0 degraded" in capsys.readouterr().err
    values, _ = values_of(MADE)
    same = load_fraud(tmp_path / "out" / "fraud.tar.gz").predict(values)
    assert np.array_equal(same, load_fraud(trained / "fraud.tar.gz").predict(values))
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == []


def test_data_that_do_not_fit_are_refused_in_a_line(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = refused(capsys, arguments(place, tmp_path, data="none.parquet"))
    assert "none.parquet: nothing there" in nothing
    (tmp_path / "features.yaml").write_text(FEATURES.replace("card_max_1d", "card_top_1d"))
    argv = arguments(place, tmp_path, "--features", str(tmp_path / "features.yaml"))
    said = refused(capsys, argv)
    assert "(without card_top_1d and with card_max_1d), expected those of" in said
    said = refused(capsys, arguments(place, tmp_path, "--labels", str(place / "history.parquet")))
    assert "--labels: found data sets, which carry their labels" in said


def test_too_few_frauds_are_told_with_the_part(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(place / "honest.parquet", replace(MADE, share=0.005))
    said = refused(capsys, arguments(place, tmp_path, data="honest.parquet"))
    assert "validation: found 889 validation rows with " in said
    assert "known frauds, 2026-01-27T" in said
    assert "expected at least 10 known frauds" in said


def test_a_value_that_is_no_number_is_named(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pq.read_table(place / "history.parquet")
    head = pq.ParquetFile(place / "history.parquet").metadata.metadata[METADATA_KEY]
    values = table.column("f_card_seconds").to_numpy().copy()
    values[17] = np.inf
    table = table.set_column(8, "f_card_seconds", pa.array(values))
    with pq.ParquetWriter(tmp_path / "bad.parquet", table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({METADATA_KEY: head})
    argv = arguments(place, tmp_path / "out")
    argv[1] = str(tmp_path / "bad.parquet")
    said = refused(capsys, argv)
    assert "card_seconds: found inf in row 18 (1 such values near it)" in said


def test_a_leak_and_a_constant_are_warned_of(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values, fraud = values_of(MADE)
    values[:, 2] = fraud * 100.0
    values[:, 3] = 1.0
    write_dataset(tmp_path / "leak.parquet", MADE, replace(block_of(MADE), values=values))
    argv = arguments(place, tmp_path / "out", "--only", "fraud")
    argv[1] = str(tmp_path / "leak.parquet")
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "warning: card_seconds: tells fraud all alone (AUC 1.0000)" in out
    assert "warning: card_max_1d: constant, 1 in every training row" in out
    assert len(member(tmp_path / "out" / "fraud.tar.gz", "metrics.json")["warnings"]) == 2


def test_a_gap_shorter_than_labels_take_is_warned_of(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train.yaml").write_text(QUICK.replace("gap: 5d", "gap: 1d"))
    argv = arguments(place, tmp_path / "out", "--only", "anomaly")
    argv[argv.index("--settings") + 1] = str(tmp_path / "train.yaml")
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "warning: training: " in out
    assert "frauds were not known yet when it was used" in out


def test_models_show_checks_and_describes_an_archive(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "show", str(trained / "fraud.tar.gz"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["kind"], shown["features"]["names"]) == ("fraud", list(NAMES))
    assert shown["training"]["settings"]["seed"] == 1
    assert main(["models", "show", str(trained / "anomaly.tar.gz")]) == 0
    assert "anomaly_review" in capsys.readouterr().out
    data = bytearray((trained / "fraud.tar.gz").read_bytes())
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) // 2])
    assert "model archive" in refused(capsys, ["models", "show", str(tmp_path / "cut.tar.gz")])


def calibrate(*words: str) -> list[str]:
    return ["models", "calibrate", *words, "--review-capacity", "20/day", "--cost-friction", "5"]


def test_thresholds_are_proposed_from_a_data_set_and_its_models(
    trained: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archives = [str(trained / f"{kind}.tar.gz") for kind in ("fraud", "anomaly")]
    models = [word for archive in archives for word in ("--model", archive)]
    out = tmp_path / "thresholds.yaml"
    argv = calibrate(str(place / "history.parquet"), *models, "--out", str(out), "--json")
    assert main(argv) == 0
    told = json.loads(capsys.readouterr().out)
    written = yaml.safe_load(out.read_text())["decision"]
    assert written == told["decision"]
    DecisionSettings.model_validate(written)
    table: list[Mapping[str, Any]] = told["table"]
    assert table[-1]["reviews"] <= 20
    assert table[-1]["cost"] < table[0]["cost"]
    lines = out.with_suffix(".csv").read_text().splitlines()
    assert len(lines) == len(table) + 1
    # What the models have learnt from does not count: 45 days less the 21 of training.
    assert "of 24 days" in out.read_text()


def decisions(path: Path, made: Made = MADE) -> Path:
    """Decisions of a replay, with the bands that were in force and a rule of its own."""
    values, fraud = values_of(made)
    random = np.random.default_rng(5)
    scores = np.clip(0.2 + 0.5 * fraud + random.normal(0, 0.15, made.rows), 0, 1)
    outcome = np.where(scores >= 0.9, "decline", np.where(scores >= 0.5, "review", "approve"))
    ruled = (random.random(made.rows) < 0.01) & (outcome == "approve")
    block = block_of(made)
    times = pa.array(block.times_ms, pa.timestamp("ms", "UTC"))
    table = pa.table(
        {
            "transaction_id": block.transaction_ids,
            "event_time": times,
            "card_id": block.card_ids,
            "base_amount": values[:, 0],
            "decision": np.where(ruled, "review", outcome),
            "fraud_score": scores,
            "anomaly_score": pa.nulls(made.rows, pa.float64()),
            "fraud_review": np.full(made.rows, 0.5),
            "fraud_decline": np.full(made.rows, 0.9),
            "anomaly_review": np.full(made.rows, 3.0),
            "fraud": block.frauds,
        }
    )
    pq.write_table(table, path)
    return path


def test_thresholds_are_proposed_from_decisions_beside_those_in_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = decisions(tmp_path / "decisions.parquet")
    assert main(calibrate(str(path), "--cost-review", "1", "--cost-fraud", "1x+20", "--json")) == 0
    told = json.loads(capsys.readouterr().out)
    names = [row["name"] for row in told["table"]]
    assert names[1] == "in force"
    assert told["table"][-1]["cost"] <= told["table"][1]["cost"]
    # About one a day goes to review by a rule alone, whatever the thresholds.
    assert told["table"][0]["reviews"] == pytest.approx(1, abs=0.5)
    assert "anomaly_review" not in told["decision"]
    assert main(calibrate(str(path))) == 0
    assert "proposed: 20 a day" in capsys.readouterr().out


def test_what_cannot_be_calibrated_is_refused(
    trained: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    history, model = str(place / "history.parquet"), str(trained / "fraud.tar.gz")
    assert "--model: found none" in refused(capsys, calibrate(history))
    other = Made(rows=60, names=("amount", "x"), feature_hash="ef" * 32, share=0.3)
    path = str(write_dataset(tmp_path / "other.parquet", other))
    said = refused(capsys, calibrate(path, "--model", model))
    assert "other features (without card_count_1h, card_seconds, card_max_1d and with x)" in said
    early = str(write_dataset(tmp_path / "early.parquet", replace(MADE, days=5, first=9_000)))
    said = refused(capsys, calibrate(early, "--model", model))
    assert "no row after the training" in said
    write_fraud(tmp_path / "old.tar.gz", load_fraud(Path(model)).booster, NAMES, HASH, {})
    said = refused(capsys, calibrate(history, "--model", str(tmp_path / "old.tar.gz")))
    assert "training.json: found nothing on the time of its training rows" in said
    few = decisions(tmp_path / "few.parquet", replace(MADE, share=0.001))
    assert "found 5 known frauds in 5,000" in refused(capsys, calibrate(str(few)))
    assert "--model: found decisions" in refused(capsys, calibrate(str(few), "--model", model))
