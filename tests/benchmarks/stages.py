"""
Where the worker's CPU time goes, by stage, in a run of its own.

The thread clock is read at each change of stage, so waiting does not count and
nothing is slowed down as a profiler would. A stage is all that is done in its
name, on whichever thread: ``score`` includes the threads that speak to the
endpoints, ``publish`` those that build rows and speak to Firehose. ``beside`` is
what the other threads do.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import orjson

from tests.benchmarks.feed import Feed
from tests.benchmarks.measured import Measured
from tests.benchmarks.rig import running_rig
from tests.benchmarks.throughput import DELIVERY, WARM_UP

_DELIVERIES = 12
# The worker says "idle" when it hands back; then the next delivery is read and unpacked.
_MAIN = {
    "idle": "stage_envelope",
    "decode": "stage_decode",
    "observe": "stage_observe",
    "score": "stage_score",
    "decide": "stage_decide",
    "label": "stage_decide",
    "publish": "stage_publish",
    "checkpoint": "stage_publish",
}
_THREADS = {
    "score-fraud": "stage_score",
    "score-anomaly": "stage_score",
    "firehose": "stage_publish",
}
# Threads that look after rules, tags, explanations and second assessments.
_BESIDE = "stage_beside"


def measure(directory: Path) -> dict[str, Measured]:
    """Run the worker that keeps time on deliveries of 1,000."""
    feed = Feed(DELIVERY * (WARM_UP + _DELIVERIES))
    report = directory / "stages.json"
    command = (sys.executable, "-m", "tests.benchmarks.staged_worker", str(report))
    with running_rig(directory) as rig:
        rig.warm(feed.history())
        with rig.worker(command) as driver:
            for delivery in feed.deliveries(WARM_UP, DELIVERY):
                delivery.send(driver)
            before = _read(report)
            for delivery in feed.deliveries(_DELIVERIES, DELIVERY):
                delivery.send(driver)
            after = _read(report)
    transactions = DELIVERY * _DELIVERIES
    found = {
        name: Measured((after[name] - before[name]) / transactions / 1e3, transactions)
        for name in after
    }
    total = sum(each.value for each in found.values())
    return {**found, "stage_sum": Measured(total, transactions)}


def _read(report: Path) -> Mapping[str, int]:
    """Nanoseconds by figure. Raises KeyError for a stage that belongs to none."""
    told = orjson.loads(report.read_bytes())
    spent = dict.fromkeys([*_MAIN.values(), _BESIDE], 0)
    for stage, spent_ns in told["stages"].items():
        if stage != "start":
            spent[_MAIN[stage]] += spent_ns
    for thread, spent_ns in told["threads"].items():
        spent[_THREADS.get(thread.rpartition("-")[0], _BESIDE)] += spent_ns
    return spent
