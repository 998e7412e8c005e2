import io
import json
from pathlib import Path

import numpy as np
import pytest
import xgboost

from consumer.errors import Misconfigured
from consumer.training import archive as archive_file
from consumer.training.artefacts import load_fraud, write_fraud
from consumer.training.explain import TOP, explain, main, serve
from consumer.training.reference import read_reference

NAMES = tuple(f"feature_{number}" for number in range(7))
ROWS = np.random.default_rng(5).normal(size=(400, len(NAMES)))
BINS = {"feature_0": {"edges": [0.5], "counts": [3, 4]}}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fraud") / "model.tar.gz"
    parameters = {"objective": "binary:logistic", "seed": 3, "nthread": 1}
    booster = xgboost.train(parameters, xgboost.DMatrix(ROWS, ROWS[:, 3] > 1), num_boost_round=9)
    write_fraud(path, booster, NAMES, "ab" * 32, {"bins": BINS})
    return path


def test_the_feature_that_made_the_score_comes_first(archive: Path) -> None:
    row = [0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]
    ((first, *others),) = explain(load_fraud(archive), [row])
    assert first[0] == 3
    assert first[1] > 0
    assert len(others) == TOP - 1
    sizes = [abs(contribution) for _, contribution in (first, *others)]
    assert sizes == sorted(sizes, reverse=True)


def test_each_line_is_answered_by_one(archive: Path) -> None:
    lines = b"[[0,0,0,2,0,0,0],[0,0,0,-2,0,0,0]]\n[[1,1,1,1,1,1,1]]\n"
    target = io.BytesIO()
    serve(load_fraud(archive), io.BytesIO(lines), target)
    answers = [json.loads(line) for line in target.getvalue().splitlines()]
    assert [len(answer) for answer in answers] == [2, 1]


def test_an_archive_that_is_none_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.nice", lambda _: 0)
    assert main([str(tmp_path / "none.tar.gz")]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_reference_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.tar.gz"
    members = {"features.json": b'{"names": [], "hash": "ab"}', "metrics.json": b'{"bins": 1}'}
    archive_file.write(path, "fraud", members)
    with pytest.raises(Misconfigured, match=r"metrics\.json of this package"):
        read_reference(path)


def test_the_reference_is_read_without_the_model(archive: Path) -> None:
    reference = read_reference(archive)
    assert reference.feature_hash == "ab" * 32
    assert reference.bins["feature_0"].counts == (3, 4)
