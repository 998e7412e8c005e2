"""The notebook of deploy/sagemaker, executed as it stands: real training, real archives."""

import copy
import json
import os
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from consumer.training import archive
from consumer.training.artefacts import load
from consumer.training.examples import open_files
from consumer.training.reference import read_reference

NOTEBOOK = Path(__file__).parents[2] / "deploy" / "sagemaker" / "fraudstream.ipynb"
ROOT = Path(__file__).parents[2]


def cells(notebook: Any, kind: str) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == kind]


@pytest.fixture(scope="module")
def written() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def executed(written: Any, work: Path) -> Any:
    """The notebook after its run on this machine alone, from an empty folder."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [each for each in os.environ if each.startswith("FRAUDSTREAM_")]:
            environment.delenv(name)
        environment.delenv("HISTORY", raising=False)
        environment.setenv("WORK", str(work))
        environment.setenv("PYTHONPATH", str(ROOT))
        environment.setenv("IPYTHONDIR", str(work / "ipython"))
        environment.setenv("JUPYTER_RUNTIME_DIR", str(work / "jupyter"))
        environment.setenv("MPLCONFIGDIR", str(work / "matplotlib"))
        notebook = copy.deepcopy(written)
        NotebookClient(
            notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": work}}
        ).execute()
    return notebook


def test_the_notebook_is_kept_without_outputs(written: Any) -> None:
    nbformat.validate(written)
    assert all(cell.outputs == [] for cell in cells(written, "code"))
    assert all(cell.execution_count is None for cell in cells(written, "code"))


def test_every_step_is_told_before_it_is_done(written: Any) -> None:
    kinds = [cell.cell_type for cell in written.cells]
    assert kinds[0] == "markdown"
    assert all(pair != ("code", "code") for pair in pairwise(kinds[2:]))


@pytest.mark.timeout(300)
def test_endpoints_score_as_the_archives_that_were_trained(executed: Any, work: Path) -> None:
    scores = json.loads((work / "scores.json").read_text())
    rows = _validation_rows(work)
    rows = rows[:: len(rows) // 80]
    for kind in ("fraud", "anomaly"):
        model = load(work / "models" / f"{kind}.tar.gz")
        assert len(set(scores[kind])) > 1
        # Workers round scores to twelve decimals.
        assert scores[kind] == [round(score, 12) for score in model.predict(rows).tolist()]
        compared = json.loads((work / "compared.json").read_text())[kind]
        assert compared["rows"] == 400
        assert compared["largest_difference"] <= 1e-12


@pytest.mark.timeout(300)
def test_what_was_served_came_from_s3_under_the_hash_of_the_archive(
    executed: Any, work: Path
) -> None:
    text = "\n".join(
        output.get("text", "") for cell in cells(executed, "code") for output in cell.outputs
    )
    for kind in ("fraud", "anomaly"):
        digits = read_reference(work / "models" / f"{kind}.tar.gz").model
        url = f"s3://fraudstream-sample/fraudstream/models/{digits}/model.tar.gz"
        assert f"'fraudstream-{kind}': '{url}'" in text


@pytest.mark.timeout(300)
def test_figures_are_drawn(executed: Any) -> None:
    pictures = [
        output.data["image/png"]
        for cell in cells(executed, "code")
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    (picture,) = pictures
    assert len(picture) > 10_000


@pytest.mark.timeout(300)
def test_nothing_is_left_behind(executed: Any, work: Path) -> None:
    deadline_s = time.monotonic() + 30
    while pids := _processes_in(work):
        assert time.monotonic() < deadline_s, pids
        time.sleep(0.1)


def _validation_rows(work: Path) -> np.ndarray:
    """The rows that the archive says it was validated on."""
    _, members = archive.read(work / "models" / "fraud.tar.gz")
    period = json.loads(members["training.json"])["split"]["validation"]["period"]
    first, end = (datetime.fromisoformat(each).timestamp() * 1000 for each in period.split(" to "))
    files = open_files([work / "rows.parquet"])
    times = files.index.times_ms
    return np.concatenate(list(files.read((times >= first) & (times < end))))


def _processes_in(work: Path) -> list[int]:
    """Processes that name the folder in their command line: parts of the stack do."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(work).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
