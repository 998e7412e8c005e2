"""Real archives behind the endpoint server in a process of its own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest
import urllib3
import xgboost

from consumer.adapters.aws import client
from consumer.errors import Unavailable
from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.local.resources import session
from consumer.local.stack import Stack
from consumer.settings import Aws
from consumer.training import artefacts
from consumer.training.forest import grow

NAMES = ("amount", "card_count_1h", "card_sum_1d")
ROWS = np.random.default_rng(7).normal(size=(400, len(NAMES)))


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("models")
    labels = (ROWS.sum(axis=1) > 0).astype(float)
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 3, "nthread": 1, "seed": 1},
        xgboost.DMatrix(ROWS, label=labels),
        num_boost_round=10,
    )
    paths = {"fraud": directory / "fraud.tar.gz", "anomaly": directory / "anomaly.tar.gz"}
    artefacts.write_fraud(paths["fraud"], booster, NAMES, "plan-1", {})
    forest = grow(ROWS, seed=1, trees=20, tree_size=64)
    artefacts.write_anomaly(paths["anomaly"], forest, NAMES, "plan-1", {})
    return paths


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def served(archives: dict[str, Path], tmp_path: Path) -> Iterator[Part]:
    arguments = [f"--model={name}={path}" for name, path in archives.items()]
    part = Part(
        "endpoints",
        ["consumer.local.endpoints", *arguments],
        listen(0, "endpoints"),
        directory=tmp_path,
    )
    part.await_ready("/ping")
    yield part
    part.stop()


def scores(url: str, name: str, rows: np.ndarray) -> list[float]:
    runtime = client(
        "sagemaker-runtime",
        Aws(sagemaker_runtime_url=url),
        connect_timeout_s=10,
        read_timeout_s=10,
        max_pool_connections=1,
    )
    body = "\n".join(",".join(map(repr, row)) for row in rows.tolist()).encode()
    answer = runtime.invoke_endpoint(
        EndpointName=name, Body=body, ContentType="text/csv", Accept="application/json"
    )
    (found,) = orjson.loads(answer["Body"].read()).values()
    runtime.close()
    return [entry["score"] for entry in found]


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("name", ["fraud", "anomaly"])
def test_the_scores_over_http_are_those_of_the_archive(
    served: Part, archives: dict[str, Path], name: str
) -> None:
    expected = artefacts.load(archives[name]).predict(ROWS[:300])

    assert scores(served.url, name, ROWS[:300]) == pytest.approx(expected.tolist(), abs=1e-6)
    assert len(set(expected.tolist())) > 20


@pytest.mark.usefixtures("credentials")
def test_archives_in_s3_are_served_by_the_stack_and_counted(
    archives: dict[str, Path], tmp_path: Path
) -> None:
    with Stack(tmp_path) as stack:
        s3 = session(stack.aws_url).client("s3")
        s3.create_bucket(Bucket="models")
        s3.upload_file(str(archives["fraud"]), "models", "fraud/model.tar.gz")
        s3.close()

        stack.start_endpoints(
            {"f": "s3://models/fraud/model.tar.gz", "a": archives["anomaly"]},
        )

        assert len(scores(stack.endpoints_url, "f", ROWS[:5])) == 5
        assert len(scores(stack.endpoints_url, "a", ROWS[:2])) == 2
        variables = stack.environment()
        assert variables["FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL"] == stack.endpoints_url
        with urllib3.PoolManager() as http:
            counted = orjson.loads(http.request("GET", f"{stack.endpoints_url}/stats").data)
        assert counted["endpoints"]["f"]["rows"] == 5
        assert counted["endpoints"]["a"]["rows"] == 2
        stack.check()


def test_an_archive_that_is_missing_in_s3_is_named(tmp_path: Path) -> None:
    with Stack(tmp_path) as stack, pytest.raises(Unavailable, match="s3://models/none"):
        stack.start_endpoints({"fraud": "s3://models/none"})


def test_an_archive_that_was_altered_is_refused(archives: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "model.tar.gz"
    broken.write_bytes(archives["fraud"].read_bytes()[:-40])

    with Stack(tmp_path) as stack, pytest.raises(Unavailable, match=r"model\.tar\.gz"):
        stack.start_endpoints({"fraud": broken})
