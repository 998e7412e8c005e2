"""The serving container's process, with an archive unpacked as SageMaker unpacks it."""

import json
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np
import pytest

from consumer.local.ports import listen
from consumer.training.artefacts import load, write_anomaly
from consumer.training.forest import grow

NAMES = ("amount", "card_count_1h", "card_seconds")
ROWS = np.random.default_rng(4).lognormal(2, 1, (300, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anomaly") / "model.tar.gz"
    write_anomaly(path, grow(ROWS, seed=1, trees=10, tree_size=32), NAMES, "a" * 64, {})
    return path


@contextmanager
def serving(model: Path) -> Iterator[str]:
    with listen(0, "serving") as socket:
        port = socket.getsockname()[1]
    words = ["serve", "--model", str(model), "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "consumer.local.serving", *words, "--processes", "2"]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline_s = time.monotonic() + 60
        while not answers(f"{url}/ping"):
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in (0, -signal.SIGTERM)


def answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback
            return bool(answer.status == 200)
    except URLError:
        return False


def test_an_unpacked_forest_scores_as_its_archive(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    with serving(tmp_path) as url:
        body = "\n".join(",".join(row) for row in ROWS[:20].astype(str).tolist()).encode()
        headers = {"Content-Type": "text/csv", "Accept": "application/json"}
        request = Request(f"{url}/invocations", body, headers)  # noqa: S310 - loopback
        with urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
            scores = [each["score"] for each in json.load(answer)["scores"]]
        assert scores == load(archive).predict(ROWS[:20]).tolist()
        wrong = Request(f"{url}/invocations", b"1,2", headers)  # noqa: S310 - loopback
        with pytest.raises(HTTPError) as refusal:
            urlopen(wrong, timeout=30)  # noqa: S310 - loopback
        assert refusal.value.code == 400
        refusal.value.close()


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_what_cannot_be_served_is_told_at_the_start(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "model.tar.gz").write_bytes(content)
    command = [sys.executable, "-m", "consumer.local.serving", "serve", "--model", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 2
    assert str(tmp_path) in ran.stderr
    assert "Traceback" not in ran.stderr
