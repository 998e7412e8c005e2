"""Runs cases of the worker tier one after the other in one lab."""

import time
import traceback
from pathlib import Path

from tests.chaos.arena import Arena
from tests.chaos.checker import Difference
from tests.chaos.lab import Lab
from tests.chaos.registry import Case, Result, Seen, judge


def run_case(case: Case, lab: Lab, seed: int, folder: Path) -> Result:
    """Run *case* on an empty Redis and check everything it left; logs go to *folder*."""
    started_s = time.monotonic()
    lab.heal()
    lab.redis.flushall()
    arena = Arena(lab, case.name, seed, folder)
    failure = ""
    differences: list[Difference] = []
    try:
        with arena.stack:
            case.run(arena)
    except Exception:  # noqa: BLE001 - the report names it, and the other cases go on
        failure = traceback.format_exc(limit=6)
    try:
        differences = arena.differences()
    except Exception:  # noqa: BLE001 - as above
        failure += traceback.format_exc(limit=6)
    seen = Seen(
        injected=len(arena.injected()),
        recovered_s=arena.recovered_s(),
        sent=sum(len(ledger.placed) for _, ledger in arena.shards),
        differences=differences,
        seconds=time.monotonic() - started_s,
        failure=failure,
    )
    return judge(case, seen)
