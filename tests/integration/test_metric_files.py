import os
import re
import subprocess
import sys
from pathlib import Path

from consumer.metric_files import MetricFiles

_WORKER = """
import sys
from prometheus_client import REGISTRY
from consumer.metrics import Metrics
metrics = Metrics(REGISTRY)
metrics.records.labels("decided").inc(int(sys.argv[1]))
metrics.millis_behind_latest.labels("shard-1").set(40)
for _ in range(int(sys.argv[1])):
    metrics.receive_to_decision.observe(0.02)
"""


def _work(directory: Path, count: int) -> int:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
    worker = subprocess.Popen([sys.executable, "-c", _WORKER, str(count)], env=environment)
    assert worker.wait(30) == 0
    return worker.pid


def _value(files: MetricFiles, sample: str) -> float | None:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", files.exposition().decode(), re.MULTILINE)
    return None if found is None else float(found[1])


RECORDS = 'fraudstream_records_total{outcome="decided"}'
COUNT = "fraudstream_receive_to_decision_seconds_count"
BUCKET = 'fraudstream_receive_to_decision_seconds_bucket{le="0.025"}'
BEHIND = 'fraudstream_millis_behind_latest{shard="shard-1"}'


def test_processes_are_added_up(tmp_path: Path) -> None:
    files = MetricFiles(tmp_path)
    _work(tmp_path, 2)
    _work(tmp_path, 3)
    assert (_value(files, RECORDS), _value(files, COUNT), _value(files, BUCKET)) == (5, 5, 5)


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
