"""
How often the worker waits for Redis in a chunk.

Redis counts how often it reads from a connection. A chunk of two transactions
fits into one packet each way, so reads are round trips; their number does not
depend on the size of the chunk.
"""

from pathlib import Path

from tests.benchmarks.counters import Counters
from tests.benchmarks.feed import Feed
from tests.benchmarks.measured import Measured
from tests.benchmarks.rig import running_rig

_CHUNKS = 200
_CHUNK = 2
# The two commands of the second reading of the counters.
_OWN_READS = 2


def measure(directory: Path) -> dict[str, Measured]:
    """Deliver 200 chunks of two transactions and count."""
    feed = Feed(_CHUNK * (1 + _CHUNKS))
    with running_rig(directory) as rig, rig.worker() as driver:
        first, *others = feed.deliveries(1 + _CHUNKS, _CHUNK)
        first.send(driver)
        before = Counters.read(rig.client)
        for delivery in others:
            delivery.send(driver)
        after = Counters.read(rig.client)
    reads = after.reads - before.reads - _OWN_READS
    return {"redis_round_trips": Measured(reads / _CHUNKS, _CHUNKS)}
