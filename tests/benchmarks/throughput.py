"""
How many transactions one worker decides a second, and what each costs.

The servers answer at once, so the worker and Redis are what limits; on two cores
the driver and the stubs take their share of the machine too, which is reported.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import redis

from consumer.adapters.redis.connection import command
from consumer.adapters.redis.documents import INDEX, PREFIX
from consumer.adapters.redis.search import count_documents
from tests.benchmarks.counters import Counters
from tests.benchmarks.feed import Delivery, Feed
from tests.benchmarks.measured import Measured, median_of
from tests.benchmarks.processes import cpu_s, rss_bytes
from tests.benchmarks.rig import Rig, running_rig
from tests.multilang import MultilangDriver

DELIVERY = 1_000
WARM_UP = 4
_RUNS = 5
_DELIVERIES_A_RUN = 5
_SAMPLE = 200


@dataclass(frozen=True, slots=True)
class _Run:
    """One run: wall seconds and CPU seconds by process."""

    transactions: int
    wall_s: float
    worker_s: float
    redis_s: float
    others_s: float


def measure(directory: Path) -> dict[str, Measured]:
    """Run the worker on deliveries of 1,000 and take the medians of five runs."""
    feed = Feed(DELIVERY * (WARM_UP + _RUNS * _DELIVERIES_A_RUN))
    with running_rig(directory) as rig:
        rig.warm(feed.history())
        with rig.worker() as driver:
            for delivery in feed.deliveries(WARM_UP, DELIVERY):
                delivery.send(driver)
            before = Counters.read(rig.client)
            runs = [
                _run(rig, driver, feed.deliveries(_DELIVERIES_A_RUN, DELIVERY))
                for _ in range(_RUNS)
            ]
            found = _costs(runs)
            found["worker_rss"] = Measured(rss_bytes(driver.process.pid) / 1e6, 1)
            found |= _commands(rig, before, sum(run.transactions for run in runs))
        sent = DELIVERY * (WARM_UP + _RUNS * _DELIVERIES_A_RUN)
        found |= _documents(rig.client, sent)
        return found


def count_degraded(client: redis.Redis, sent: int) -> int:
    """
    How many of *sent* transactions were decided without a score.

    Raises RuntimeError when not every one has its document: the figures would
    then be those of work that was not done.
    """
    stored = count_documents(client)
    if stored != sent:
        message = f"{sent} transactions were sent and {stored} documents are there"
        raise RuntimeError(message)
    complete = command(
        client,
        *("FT.SEARCH", INDEX, "@fraud_score:[-inf +inf] @anomaly_score:[-inf +inf]"),
        *("LIMIT", "0", "0"),
    )
    return stored - int(complete[b"total_results"])


def _run(rig: Rig, driver: MultilangDriver, deliveries: list[Delivery]) -> _Run:
    pids = (driver.process.pid, rig.redis_pid)
    others = (os.getpid(), *(part.pid for part in rig.parts))
    before = [cpu_s(pid) for pid in pids]
    others_before = sum(map(cpu_s, others))
    started_s = time.perf_counter()
    for delivery in deliveries:
        delivery.send(driver)
    wall_s = time.perf_counter() - started_s
    worker_s, redis_s = (cpu_s(pid) - then for pid, then in zip(pids, before, strict=True))
    return _Run(
        transactions=sum(delivery.size for delivery in deliveries),
        wall_s=wall_s,
        worker_s=worker_s,
        redis_s=redis_s,
        others_s=sum(map(cpu_s, others)) - others_before,
    )


def _costs(runs: list[_Run]) -> dict[str, Measured]:
    return {
        "worker_throughput": median_of([run.transactions / run.wall_s for run in runs]),
        "worker_cpu": median_of([run.worker_s / run.transactions * 1e6 for run in runs]),
        "redis_cpu": median_of([run.redis_s / run.transactions * 1e6 for run in runs]),
        "others_cpu": median_of([run.others_s / run.transactions * 1e6 for run in runs]),
    }


def _commands(rig: Rig, before: Counters, transactions: int) -> dict[str, Measured]:
    after = Counters.read(rig.client)
    return {
        "redis_functions": Measured(
            (after.functions - before.functions) / transactions, transactions
        ),
        "redis_commands": Measured((after.commands - before.commands) / transactions, transactions),
    }


def _documents(client: redis.Redis, sent: int) -> dict[str, Measured]:
    degraded = count_degraded(client, sent)
    keys = []
    for key in client.scan_iter(match=f"{PREFIX}*", count=_SAMPLE):
        keys.append(key)
        if len(keys) == _SAMPLE:
            break
    sizes = [int(client.memory_usage(key) or 0) for key in keys]
    return {
        "throughput_degraded": Measured(degraded, sent),
        "document_bytes": median_of(sizes),
    }
