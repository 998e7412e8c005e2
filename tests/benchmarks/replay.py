"""
How fast history is replayed: into the features alone, and with the scores of two real models.

``fraudstream replay`` as a person runs it, on an embedded Redis, over events of the
simulator; the endpoints are processes of their own. The rate runs from the first event to
the finished results; starting and the first look at the files are left out.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.local.simulator.traffic import Scenario, Traffic
from tests.benchmarks.measured import Measured
from tests.benchmarks.models import small_models

_END = datetime(2026, 6, 1, tzinfo=UTC)
_DAYS = 25.0
_SCORED = 40_000
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class _Run:
    """What a replay said, and what it took: CPU seconds with its Redis, bytes without."""

    summary: Mapping[str, Any]
    cpu_s: float
    rss_bytes: int

    @property
    def transactions(self) -> int:
        return int(self.summary["counts"]["transactions"])

    def told(self, name: str) -> dict[str, Measured]:
        count = self.transactions
        return {
            f"replay_{name}": Measured(count / self.summary["seconds"], count),
            f"replay_{name}_cpu": Measured(self.cpu_s / count * 1e6, count),
            f"replay_{name}_rss": Measured(self.rss_bytes / 1e6, 1),
        }


def measure(directory: Path) -> dict[str, Measured]:
    """Replay the same history twice, without and with models."""
    history = _write_history(directory / "history.ndjson")
    models = small_models(directory.parent / "models")
    features = _replay(directory, {}, history, "--to", "features", "--scratch")
    command = ["consumer.local.endpoints"]
    for name, archive in models.archives.items():
        command += ["--model", f"{name}={archive}"]
    part = Part("endpoints", command, listen(0, "endpoints"), directory=directory)
    try:
        part.await_ready("/ping")
        variables = {
            **models.environment,
            "FRAUDSTREAM_AWS__ENDPOINT_URL": part.url,
            "FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL": part.url,
        }
        words = ("--to", "engine", "decisions.parquet", "--scratch", "--limit", str(_SCORED))
        scores = _replay(directory, variables, history, *words)
    finally:
        part.stop()
    degraded = int(scores.summary["counts"].get("degraded", 0))
    found = {**features.told("features"), **scores.told("scores")}
    return {**found, "replay_degraded": Measured(degraded, scores.transactions)}


def _write_history(path: Path) -> Path:
    """Transactions and labels of 2,000 cards, about 150,000 in all."""
    scenario = Scenario(end_ms=int(_END.timestamp() * 1000), transactions=1, history_days=_DAYS)
    with path.open("wb") as file:
        for _, events in Traffic(scenario).history():
            file.writelines(event.data + b"\n" for event in events)
    return path


def _replay(directory: Path, variables: Mapping[str, str], *words: str | Path) -> _Run:
    """Run a replay to its end. Raises RuntimeError when it does not succeed."""
    environment = {
        **{name: value for name, value in os.environ.items() if "FRAUDSTREAM_" not in name},
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        **variables,
    }
    command: Sequence[str] = [sys.executable, "-m", "consumer", "replay", *map(str, words)]
    out = directory / "summary.json"
    with out.open("wb") as stdout, (directory / "replay.log").open("ab") as stderr:
        process = subprocess.Popen(
            [*command, "--json"], env=environment, cwd=directory, stdout=stdout, stderr=stderr
        )
        peak_bytes = 0
        while True:
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            peak_bytes = max(peak_bytes, _peak_bytes(process.pid))
            time.sleep(_LOOK_S)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        message = f"the replay ended with {process.returncode}; its log is in {directory}"
        raise RuntimeError(message)
    return _Run(orjson.loads(out.read_bytes()), usage.ru_utime + usage.ru_stime, peak_bytes)


def _peak_bytes(pid: int) -> int:
    """
    The most memory that process *pid* had resident so far; 0 for one that has just ended.

    ``ru_maxrss`` begins at what its launcher had, which it shares until it execs.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
