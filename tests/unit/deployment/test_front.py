"""What stands in front of the forest on SageMaker, run as its container runs it."""

import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from consumer.deployment.front import ENVIRONMENT, build_front
from consumer.training.scaling import SHAPES, Scaling, fit

ROWS = np.random.default_rng(5).lognormal(2, 3, (200, 4)).astype(np.float32)
PROGRAM = """
import sys
from pathlib import Path
import inference
model = inference.model_fn(sys.argv[1])
rows = inference.input_fn(sys.stdin.buffer.read(), "text/csv; charset=utf-8")
body, content_type = inference.output_fn(inference.predict_fn(rows, model), "application/json")
assert content_type == "text/csv"
sys.stdout.buffer.write(body)
"""


def unpack(scaling: Scaling, folder: Path) -> Path:
    (folder / "front.tar.gz").write_bytes(build_front(scaling))
    with tarfile.open(folder / "front.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def run(model: Path, body: bytes) -> subprocess.CompletedProcess[bytes]:
    """As the image does: the code's folder on the path, and nothing of this package."""
    code = model / "code"
    assert ENVIRONMENT["SAGEMAKER_SUBMIT_DIRECTORY"] == "/opt/ml/model/code"
    assert (code / ENVIRONMENT["SAGEMAKER_PROGRAM"]).is_file()
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(model)],
        input=body,
        cwd=code,
        env={"PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )


def test_the_container_transforms_as_training_does_to_the_last_bit(tmp_path: Path) -> None:
    scaling = fit(ROWS, dict(enumerate(SHAPES)), columns=[3, 1, 2, 0], weights={1: 2.5})
    lines = "\n".join(",".join(row) for row in ROWS.astype(str).tolist())
    ran = run(unpack(scaling, tmp_path), lines.encode())
    assert ran.returncode == 0, ran.stderr.decode()
    answered = [
        [float(each) for each in line.split(",")] for line in ran.stdout.decode().split("\n")
    ]
    assert np.array_equal(np.array(answered, np.float32), scaling.apply(ROWS))


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"1,2,3", b"3 features, expected 4"), (b"a,b,c,d", b"could not convert")],
)
def test_rows_that_it_cannot_transform_are_refused(
    body: bytes, reason: bytes, tmp_path: Path
) -> None:
    ran = run(unpack(fit(ROWS), tmp_path), body)
    assert ran.returncode != 0
    assert reason in ran.stderr


def test_equal_scalings_give_equal_archives() -> None:
    assert build_front(fit(ROWS)) == build_front(fit(ROWS.copy()))
    assert build_front(fit(ROWS)) != build_front(fit(ROWS[:100]))
