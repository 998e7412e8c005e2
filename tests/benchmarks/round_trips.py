"""
How often the worker waits for Redis in a chunk, and what it asks beside.

Redis counts how often it reads from a connection. A chunk of two transactions
fits into one packet each way, so reads are round trips; their number does not
depend on the size of the chunk.

Not every chunk asks the same: the bound of the features' warming rises once in a
step of event time, and threads look for rules now and then. The simulated cards
are so few that a step is over after some five transactions, at a thousand a
second after 300,000, so these reads are told by the step and not by the chunk.
"""

import time
from itertools import pairwise
from pathlib import Path

from consumer.features.warming import STEP_S
from tests.benchmarks.counters import Counters
from tests.benchmarks.feed import Delivery, Feed
from tests.benchmarks.measured import Measured, median_of
from tests.benchmarks.rig import running_rig

_CHUNKS = 200
_CHUNK = 2
# The two commands of a reading of the counters.
_OWN_READS = 2


def measure(directory: Path) -> dict[str, Measured]:
    """Deliver 200 chunks of two transactions and count after each."""
    feed = Feed(_CHUNK * (1 + _CHUNKS))
    chunks = [feed.take(_CHUNK) for _ in range(1 + _CHUNKS)]
    now_ms = int(time.time() * 1000)
    first, *others = [
        Delivery.of([feed.encode(event, now_ms) for event in chunk]) for chunk in chunks
    ]
    with running_rig(directory) as rig, rig.worker() as driver:
        first.send(driver)
        reads = [Counters.read(rig.client).reads]
        for delivery in others:
            delivery.send(driver)
            reads.append(Counters.read(rig.client).reads)
    trips = [after - before - _OWN_READS for before, after in pairwise(reads)]
    usual = median_of(trips)
    steps = len({chunk[-1].event_time_ms // 1000 // STEP_S for chunk in chunks}) - 1
    beside = sum(trips) - usual.value * _CHUNKS
    return {"redis_round_trips": usual, "redis_beside": Measured(beside / steps, steps)}
