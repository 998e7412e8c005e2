import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.errors import Unavailable
from consumer.metric_files import NOTHING, MetricFiles, reserve_metric_files

_WORKER = """
import sys
from prometheus_client import REGISTRY
from consumer.metric_files import reserve_metric_files
from consumer.metrics import Metrics
reserve_metric_files()
metrics = Metrics(REGISTRY)
metrics.records.labels("decided").inc(int(sys.argv[1]))
metrics.millis_behind_latest.labels("shard-1").set(40)
metrics.psi.labels("amount").set(float(sys.argv[2]))
for _ in range(int(sys.argv[1])):
    metrics.receive_to_decision.observe(0.02)
"""


def _work(directory: Path, count: int, psi: float = 0.1) -> int:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(count), str(psi)], env=environment
    )
    assert worker.wait(30) == 0
    return worker.pid


def _value(files: MetricFiles, sample: str) -> float | None:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", files.exposition().decode(), re.MULTILINE)
    return None if found is None else float(found[1])


RECORDS = 'fraudstream_records_total{outcome="decided"}'
COUNT = "fraudstream_receive_to_decision_seconds_count"
BUCKET = 'fraudstream_receive_to_decision_seconds_bucket{le="0.025"}'
PSI = 'fraudstream_psi{feature="amount"}'
BEHIND = 'fraudstream_millis_behind_latest{shard="shard-1"}'


def test_processes_are_added_up(tmp_path: Path) -> None:
    files = MetricFiles(tmp_path)
    _work(tmp_path, 2)
    _work(tmp_path, 3)
    assert (_value(files, RECORDS), _value(files, COUNT), _value(files, BUCKET)) == (5, 5, 5)


def test_a_worker_with_nothing_to_say_hides_no_other_and_stays_out_of_a_scrape(
    tmp_path: Path,
) -> None:
    files = MetricFiles(tmp_path)
    _work(tmp_path, 1, NOTHING)
    assert _value(files, PSI) is None
    _work(tmp_path, 1, 0.3)
    _work(tmp_path, 1, NOTHING)
    assert _value(files, PSI) == 0.3


def test_dead_processes_leave_their_counts_and_no_files(tmp_path: Path) -> None:
    files = MetricFiles(tmp_path)
    for _ in range(4):
        _work(tmp_path, 1)
        files.fold_dead(list)
    assert (_value(files, RECORDS), _value(files, COUNT), _value(files, BUCKET)) == (4, 4, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_0.db", "histogram_0.db"]


def test_a_gauge_goes_with_its_process(tmp_path: Path) -> None:
    files = MetricFiles(tmp_path)
    pid = _work(tmp_path, 1)
    files.fold_dead(lambda: [pid])
    assert _value(files, BEHIND) == 40
    files.fold_dead(list)
    assert _value(files, BEHIND) is None


def test_an_earlier_run_is_not_counted(tmp_path: Path) -> None:
    MetricFiles(tmp_path)
    _work(tmp_path, 2)
    assert _value(MetricFiles(tmp_path), RECORDS) is None


def test_a_process_writes_to_no_file_that_has_holes(tmp_path: Path) -> None:
    MetricFiles(tmp_path)
    _work(tmp_path, 1)
    files = list(tmp_path.glob("*.db"))
    assert len(files) == 5
    # In blocks of 512 bytes, see stat(2). A page without any would kill on a full disk.
    assert [path.name for path in files if path.stat().st_blocks * 512 < path.stat().st_size] == []


def test_a_disk_without_room_is_named_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "file"))
    with pytest.raises(Unavailable, match=r"disk: .*\.db: Not a directory"):
        reserve_metric_files()


def test_what_cannot_be_folded_stays_and_counts(tmp_path: Path) -> None:
    files = MetricFiles(tmp_path)
    _work(tmp_path, 2)
    # Nothing can be written to a directory.
    (tmp_path / "counter_0.db").mkdir()
    files.fold_dead(list)
    (tmp_path / "counter_0.db").rmdir()
    assert (_value(files, RECORDS), _value(files, COUNT)) == (2, 2)
    files.fold_dead(list)
    assert (_value(files, RECORDS), _value(files, COUNT)) == (2, 2)
    assert {path.name for path in tmp_path.glob("*.db")} == {"counter_0.db", "histogram_0.db"}
