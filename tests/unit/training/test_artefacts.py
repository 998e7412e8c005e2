import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xgboost

from consumer.errors import Misconfigured
from consumer.training import archive
from consumer.training.archive import Kind
from consumer.training.artefacts import (
    Model,
    load,
    load_anomaly,
    load_fraud,
    read_metrics,
    write_anomaly,
    write_fraud,
)
from consumer.training.forest import Forest, grow
from consumer.training.scaling import fit

NAMES = ("amount", "card_count_1h", "card_sum_1d")
HASH = "ab" * 32
METRICS = {"roc_auc": 0.97, "thresholds": {"fraud_decline": 0.9}}
ROWS = np.random.default_rng(5).lognormal(2, 1, size=(400, 3))


def booster() -> xgboost.Booster:
    fraud = ROWS[:, 0] * ROWS[:, 1] > np.quantile(ROWS[:, 0] * ROWS[:, 1], 0.8)
    parameters = {"objective": "binary:logistic", "seed": 3, "nthread": 1}
    return xgboost.train(parameters, xgboost.DMatrix(ROWS, fraud), num_boost_round=5)


def forest() -> Forest:
    return grow(ROWS, seed=3, trees=20, tree_size=64)


@pytest.fixture(scope="module")
def fraud_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fraud") / "model.tar.gz"
    write_fraud(path, booster(), NAMES, HASH, METRICS)
    return path


@pytest.fixture(scope="module")
def anomaly_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anomaly") / "model.tar.gz"
    write_anomaly(path, forest(), NAMES, HASH, METRICS)
    return path


def members_of(path: Path) -> dict[str, bytes]:
    """Its members by the names that archives of earlier versions gave them, all at the top."""
    with tarfile.open(path) as packed:
        return {
            e.name.removeprefix("fraudstream/"): (packed.extractfile(e) or io.BytesIO()).read()
            for e in packed
        }


def rewrite(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_a_fraud_model_scores_the_same_after_a_round_trip(fraud_archive: Path) -> None:
    model: Model = load_fraud(fraud_archive)
    scores = model.predict(ROWS)
    assert (model.kind, model.feature_names, model.feature_hash) == ("fraud", NAMES, HASH)
    assert np.array_equal(scores, booster().inplace_predict(ROWS.astype(np.float32)))
    assert len(np.unique(scores)) > 5
    assert ((scores >= 0) & (scores <= 1)).all()


def test_an_anomaly_model_scores_the_same_after_a_round_trip(anomaly_archive: Path) -> None:
    model: Model = load_anomaly(anomaly_archive)
    assert (model.kind, model.feature_names, model.feature_hash) == ("anomaly", NAMES, HASH)
    assert np.array_equal(model.predict(ROWS), forest().score(ROWS.astype(np.float32)))


def test_an_unusual_row_scores_above_the_usual_ones(anomaly_archive: Path) -> None:
    model = load_anomaly(anomaly_archive)
    usual = model.predict(ROWS)
    unusual = model.predict(np.array([[50_000.0, 900.0, 2.0]]))
    assert unusual[0] > np.quantile(usual, 0.99)
    assert (usual >= 0).all()


def test_a_batch_scores_as_its_rows_alone_do(fraud_archive: Path, anomaly_archive: Path) -> None:
    for path in (fraud_archive, anomaly_archive):
        model = load(path)
        alone = [float(model.predict(row[np.newaxis])[0]) for row in ROWS[:10]]
        assert model.predict(ROWS[:10]).tolist() == alone
        assert model.predict(ROWS[:0]).shape == (0,)


def test_the_same_model_gives_the_same_bytes(
    tmp_path: Path, fraud_archive: Path, anomaly_archive: Path
) -> None:
    write_fraud(tmp_path / "again.tar.gz", booster(), NAMES, HASH, METRICS)
    assert (tmp_path / "again.tar.gz").read_bytes() == fraud_archive.read_bytes()
    write_anomaly(tmp_path / "again.tar.gz", forest(), NAMES, HASH, METRICS)
    assert (tmp_path / "again.tar.gz").read_bytes() == anomaly_archive.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["again.tar.gz"]


def test_the_fraud_archive_holds_what_the_built_in_container_loads(fraud_archive: Path) -> None:
    members = members_of(fraud_archive)
    loaded = xgboost.Booster(model_file=bytearray(members["xgboost-model"]))
    assert loaded.feature_names is None
    assert sorted(members) == ["features.json", "manifest.json", "metrics.json", "xgboost-model"]


def test_the_booster_is_the_only_file_at_the_top(fraud_archive: Path, tmp_path: Path) -> None:
    # The built-in container takes every plain file there for a booster, and folders for none.
    with tarfile.open(fraud_archive) as archive:
        archive.extractall(tmp_path, filter="data")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["xgboost-model"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fraudstream", "xgboost-model"]


def test_an_archive_with_every_member_at_the_top_still_loads(
    fraud_archive: Path, tmp_path: Path
) -> None:
    earlier = rewrite(tmp_path / "model.tar.gz", members_of(fraud_archive))
    assert np.array_equal(load(earlier).predict(ROWS), load(fraud_archive).predict(ROWS))


def test_metrics_come_back_as_written(fraud_archive: Path) -> None:
    assert read_metrics(fraud_archive) == METRICS


@pytest.mark.parametrize("width", [2, 4])
def test_a_row_of_another_width_is_refused(
    width: int, fraud_archive: Path, anomaly_archive: Path
) -> None:
    for path in (fraud_archive, anomaly_archive):
        with pytest.raises(ValueError, match=r"expected \(n, 3\)"):
            load(path).predict(np.ones((1, width)))


def test_a_model_of_the_other_kind_is_refused(fraud_archive: Path, anomaly_archive: Path) -> None:
    with pytest.raises(Misconfigured, match="found anomaly, expected fraud"):
        load_fraud(anomaly_archive)
    with pytest.raises(Misconfigured, match="found fraud, expected anomaly"):
        load_anomaly(fraud_archive)


def altered(members: dict[str, bytes]) -> dict[str, bytes]:
    return members | {"xgboost-model": members["xgboost-model"] + b" "}


def without_metrics(members: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in members.items() if name != "metrics.json"}


def without_manifest(members: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in members.items() if name != "manifest.json"}


def with_another_member(members: dict[str, bytes]) -> dict[str, bytes]:
    return members | {"../evil": b"x"}


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (altered, "xgboost-model"),
        (without_metrics, "manifest.json"),
        (without_manifest, "manifest.json"),
        (with_another_member, "manifest.json"),
    ],
)
def test_an_altered_archive_is_refused_by_the_name_of_its_member(
    change: Callable[[dict[str, bytes]], dict[str, bytes]],
    key: str,
    fraud_archive: Path,
    tmp_path: Path,
) -> None:
    path = rewrite(tmp_path / "model.tar.gz", change(members_of(fraud_archive)))
    with pytest.raises(Misconfigured) as refusal:
        load(path)
    assert (refusal.value.problems[0].source, refusal.value.problems[0].key) == (str(path), key)


@pytest.mark.parametrize("data", [b"", b"no archive", gzip.compress(b"no tar", mtime=0)])
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.tar.gz").write_bytes(data)
    with pytest.raises(Misconfigured, match="model archive"):
        load(tmp_path / "model.tar.gz")


def test_a_cut_off_archive_is_refused(fraud_archive: Path, tmp_path: Path) -> None:
    data = fraud_archive.read_bytes()
    for length in (20, len(data) // 2):
        (tmp_path / "model.tar.gz").write_bytes(data[:length])
        with pytest.raises(Misconfigured):
            load(tmp_path / "model.tar.gz")


def test_a_missing_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="no such file"):
        load(tmp_path / "model.tar.gz")


def test_features_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    write_fraud(tmp_path / "fraud.tar.gz", booster(), NAMES[:2], HASH, METRICS)
    write_anomaly(tmp_path / "anomaly.tar.gz", forest(), NAMES[:2], HASH, METRICS)
    for name in ("fraud.tar.gz", "anomaly.tar.gz"):
        with pytest.raises(Misconfigured, match=r"features\.json: found 2 names, expected 3"):
            load(tmp_path / name)


def resealed(path: Path, members: dict[str, bytes]) -> Path:
    """Write *members* with hashes that fit them, as somebody with this package could."""
    kind: Kind = "anomaly" if "forest.json" in members else "fraud"
    archive.write(path, kind, {n: data for n, data in members.items() if n != "manifest.json"})
    return path


def test_a_forest_of_the_earlier_format_scores_as_it_did(
    anomaly_archive: Path, tmp_path: Path
) -> None:
    members = members_of(anomaly_archive)
    columns = forest().scaling.columns
    earlier = {
        "format": "fraudstream-rcf-1",
        "parameters": forest().parameters,
        "centre": [column.centre for column in columns],
        "spread": [1 / column.factor for column in columns],
    }
    path = resealed(tmp_path / "m.tar.gz", members | {"forest.json": json.dumps(earlier).encode()})
    assert load(path).predict(ROWS) == pytest.approx(load(anomaly_archive).predict(ROWS), rel=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "fraudstream-rcf-9"}, "found format fraudstream-rcf-9"),
        ({"scaling": {"width": 3, "columns": []}}, "found no columns"),
        ({"scaling": None, "centre": [1.0], "spread": [0.0]}, "division by zero"),
        ({"scaling": None, "centre": [1.0], "spread": [1.0]}, "found 1 inputs, expected 3"),
    ],
)
def test_a_forest_behind_a_scaling_that_does_not_fit_is_refused(
    change: dict[str, object], said: str, anomaly_archive: Path, tmp_path: Path
) -> None:
    members = members_of(anomaly_archive)
    told = json.loads(members["forest.json"]) | change
    path = resealed(tmp_path / "m.tar.gz", members | {"forest.json": json.dumps(told).encode()})
    with pytest.raises(Misconfigured, match=said):
        load(path)


def test_a_forest_that_sees_some_features_takes_the_whole_vector(tmp_path: Path) -> None:
    front = fit(ROWS, "log", columns=[2, 0])
    grown = grow(ROWS, seed=3, trees=20, tree_size=64, scaling=front)
    write_anomaly(tmp_path / "m.tar.gz", grown, NAMES, HASH, METRICS)
    model = load_anomaly(tmp_path / "m.tar.gz")
    other = ROWS.copy()
    other[:, 1] *= 1_000
    assert np.array_equal(model.predict(other), model.predict(ROWS))
    assert np.array_equal(model.predict(ROWS), grown.score(ROWS.astype(np.float32)))


def test_an_archive_may_tell_how_it_came_about(tmp_path: Path) -> None:
    told = {"settings": {"seed": 3}}
    write_fraud(tmp_path / "m.tar.gz", booster(), NAMES, HASH, METRICS, told)
    assert json.loads(members_of(tmp_path / "m.tar.gz")["training.json"]) == told
    assert len(load_fraud(tmp_path / "m.tar.gz").predict(ROWS)) == len(ROWS)
