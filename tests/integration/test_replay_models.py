"""A replay decides with both models: it asks them first, waits for them, and knows them again."""

import platform
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from consumer.features.specification import parse_plan
from consumer.local.part import Part
from consumer.local.ports import listen
from tests.e2e.worker_process import write_models
from tests.replaying import FEATURES, Replayer, eventually, generate, read_state, write_history

pytestmark = [
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="the embedded Redis exists for Linux x86-64 only",
    ),
    pytest.mark.timeout(240),
]
TRANSACTIONS = 1_500
DEAD = "http://127.0.0.1:1"


@pytest.fixture
def replayer(tmp_path: Path) -> Replayer:
    write_history(tmp_path / "history.ndjson", generate(TRANSACTIONS))
    return Replayer(tmp_path)


def serve(folder: Path, models: dict[str, Path], port: int) -> Part:
    """Both models at *port*, 0 for any."""
    command = ["consumer.local.endpoints"]
    for name, archive in models.items():
        command += ["--model", f"{name}={archive}"]
    part = Part("endpoints", command, listen(port, "endpoints"), directory=folder)
    part.await_ready("/ping")
    return part


def words(out: str) -> tuple[str, ...]:
    return ("history.ndjson", "--to", "engine", out, "--scratch")


def test_without_endpoints_nothing_is_decided_unless_asked_for(replayer: Replayer) -> None:
    replayer.variables = {"FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL": DEAD}
    refused = replayer.attempt(*words("o.parquet"))
    assert refused.returncode == 69
    assert b"fraudstream-fraud does not answer: connection" in refused.stderr
    assert b"--allow-degraded" in refused.stderr
    assert not (replayer.folder / "o.parquet").exists()
    counts = replayer.run(*words("o.parquet"), "--allow-degraded")["counts"]
    assert counts["decided"] == counts["degraded"] == TRANSACTIONS


def test_without_credentials_it_is_said_what_to_correct(replayer: Replayer) -> None:
    nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_CONFIG_FILE": "none"}
    replayer.variables = {
        "FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL": DEAD,
        "AWS_SHARED_CREDENTIALS_FILE": "none",
        **nothing,
    }
    refused = replayer.attempt(*words("o.parquet"))
    assert refused.returncode == 2
    assert b"no_credentials, expected AWS credentials" in refused.stderr


def test_an_endpoint_that_goes_away_meanwhile_is_waited_for(replayer: Replayer) -> None:
    models = write_models(replayer.folder, parse_plan(FEATURES, source="features"))
    part = serve(replayer.folder, models, 0)
    port = int(part.url.rpartition(":")[2])
    replayer.variables = {"FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL": part.url}
    whole = replayer.run(*words("whole.parquet"))["counts"]
    state = replayer.folder / "o.parquet.replay" / "state.json"
    process = replayer.start(*words("o.parquet"), "--rate", "700", "--save-every", "0.1s")
    try:
        eventually(lambda: read_state(state).get("ordinal", 0) > 0, "a saved state")
        part.stop()
        log = replayer.folder / "replay.log"
        eventually(lambda: "rows without a score" in log.read_text(), "waiting for the endpoint")
        part = serve(replayer.folder, models, port)
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        part.stop()
    assert read_state(state)["counts"]["decided"] == whole["decided"] == TRANSACTIONS
    expected = (replayer.folder / "whole.parquet").read_bytes()
    assert (replayer.folder / "o.parquet").read_bytes() == expected
    scores = pq.read_table(replayer.folder / "o.parquet").column("anomaly_score")
    assert scores.null_count == 0
