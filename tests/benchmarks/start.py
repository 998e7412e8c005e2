"""From the start of ``fraudstream process`` until it has handled its first record."""

import time
from pathlib import Path

from tests.benchmarks.feed import Feed
from tests.benchmarks.measured import Measured, median_of
from tests.benchmarks.rig import running_rig

_RUNS = 5


def measure(directory: Path) -> dict[str, Measured]:
    """
    Start it five times on a Redis that is there, after once that is not counted.

    The time ends with the answer to the delivery, when the decision is stored.
    """
    feed = Feed(1 + _RUNS)
    seconds = []
    with running_rig(directory) as rig:
        for _ in range(1 + _RUNS):
            (delivery,) = feed.deliveries(1, 1)
            started_s = time.perf_counter()
            with rig.worker() as driver:
                delivery.send(driver)
                seconds.append(time.perf_counter() - started_s)
    return {"process_start": median_of(seconds[1:])}
