"""What a replay through the engine leaves is what a report reads."""

import platform
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from consumer.features.specification import parse_plan
from consumer.local.stack import Stack
from tests.e2e.worker_process import write_models
from tests.replaying import FEATURES, Replayer, generate, write_history

pytestmark = [
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="the embedded Redis exists for Linux x86-64 only",
    ),
    pytest.mark.timeout(240),
]


def test_a_replay_reports_on_its_own_decisions(tmp_path: Path) -> None:
    events = generate(600)
    (tmp_path / "stack").mkdir()
    with Stack(tmp_path / "stack") as stack:
        stack.start_endpoints(write_models(tmp_path / "stack", parse_plan(FEATURES, source="f")))
        replayer = Replayer(tmp_path, stack.environment())
        replayer.run(
            write_history(tmp_path / "history.ndjson", events),
            *("--to", "engine", "decisions.parquet", "--scratch"),
            *("--report", "report"),
        )
    rows = pq.read_table(tmp_path / "decisions.parquet").to_pylist()
    told = orjson.loads((tmp_path / "report" / "report.json").read_bytes())

    assert told["input"]["transactions"] == len(rows) == 600
    assert told["input"]["frauds"] == sum(row["fraud"] is True for row in rows) > 20
    silent = sum(row["fraud"] is None for row in rows)
    assert (told["input"]["unlabelled"], told["input"]["assumed_legitimate"]) == (0, silent)
    flagged = [row for row in rows if row["decision"] != "approve"]
    frauds = sum(row["fraud"] is True for row in flagged)
    assert told["outcomes"]["flagged"]["precision"] == frauds / len(flagged)
    decided = {
        outcome: sum(day["outcomes"][outcome] for day in told["by_day"])
        for outcome in ("approve", "review", "decline")
    }
    assert decided == {
        outcome: sum(row["decision"] == outcome for row in rows) for outcome in decided
    }
    for score in ("fraud", "anomaly"):
        assert told["scores"][score]["absent"] == 0
        assert told["scores"][score]["ranking"]["roc_auc"] is not None
    names = {name for row in rows for name in row["rules"]}
    assert {rule["name"]: rule["all"]["flagged"] for rule in told["rules"]} == {
        name: sum(name in row["rules"] for row in rows) for name in names
    }
    assert told["latency"]["rows"] == 600
    assert (tmp_path / "report" / "report.html").stat().st_size > 50_000
