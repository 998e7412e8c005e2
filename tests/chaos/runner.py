"""Runs cases one after the other in one lab, those of the second tier on one daemon."""

import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from tests.chaos.arena import Arena
from tests.chaos.checker import Difference
from tests.chaos.kcl import KclArena, Session, open_session
from tests.chaos.lab import Lab
from tests.chaos.registry import Case, Result, Seen, Tier, judge
from tests.chaos.resharding import ReshardingArena


def run_cases(cases: Iterable[Case], lab: Lab, seed: int, folder: Path) -> Iterator[Result]:
    """
    Run *cases*, those of the first tier first.

    A daemon that a failed case may have left in disorder is replaced by a new one.
    """
    chosen = list(cases)
    for case in chosen:
        if case.tier is Tier.WORKER:
            yield run_case(case, lab, seed, folder / _file_name(case))
    left = [case for case in chosen if case.tier is Tier.KCL]
    sessions = 0
    while left:
        sessions += 1
        with open_session(lab, folder / f"kcl-{sessions}", seed) as session:
            while left:
                result = run_kcl_case(left.pop(0), session, seed)
                yield result
                if result.failure:
                    break
    for case in chosen:
        if case.tier is Tier.RESHARDING:
            yield run_resharding_case(case, lab, seed, folder / _file_name(case))


def run_case(case: Case, lab: Lab, seed: int, folder: Path) -> Result:
    """Run *case* on an empty Redis and check everything it left; logs go to *folder*."""
    lab.heal()
    lab.redis.flushall()
    arena = Arena(lab, case.name, seed, folder)
    started_s = time.monotonic()
    differences, failure = _drive(lambda: case.run(arena), arena.differences, arena.stack)
    sent = sum(len(ledger.placed) for _, ledger in arena.shards)
    seen = Seen(
        len(arena.injected()),
        arena.recovered_s(),
        sent,
        differences,
        time.monotonic() - started_s,
        failure,
    )
    return judge(case, seen)


def run_kcl_case(case: Case, session: Session, seed: int) -> Result:
    """Run *case* on the daemon of *session*, and check everything that is there since its start."""
    session.lab.heal()
    arena = KclArena(session, case.name, seed)
    arena.plan()
    started_s = time.monotonic()
    with ExitStack() as stack:
        differences, failure = _drive(lambda: case.run(arena), arena.differences, stack)
    seen = Seen(
        len(arena.injected()),
        arena.recovered_s(),
        arena.sent,
        differences,
        time.monotonic() - started_s,
        failure,
    )
    return judge(case, seen)


def run_resharding_case(case: Case, lab: Lab, seed: int, folder: Path) -> Result:
    """Run *case* on a stream and with daemons of its own; logs go to *folder*."""
    lab.heal()
    lab.redis.flushall()
    arena = ReshardingArena(lab, case.name, seed, folder)
    started_s = time.monotonic()
    differences, failure = _drive(lambda: case.run(arena), arena.differences, arena.stack)
    seen = Seen(
        len(arena.injected()),
        arena.recovered_s(),
        len(arena.sent),
        differences,
        time.monotonic() - started_s,
        failure,
    )
    return judge(case, seen)


def _drive(
    drive: Callable[[], object],
    look: Callable[[], list[Difference]],
    opened: AbstractContextManager[object],
) -> tuple[list[Difference], str]:
    """Drive a case and look at what it left; what either raises is a failure, in words."""
    failure = ""
    differences: list[Difference] = []
    with opened:
        try:
            drive()
        except Exception:  # noqa: BLE001 - the report names it, and the other cases go on
            failure = traceback.format_exc(limit=6)
        try:
            differences = look()
        except Exception:  # noqa: BLE001 - as above
            failure += traceback.format_exc(limit=6)
    return differences, failure


def _file_name(case: Case) -> str:
    return case.name.replace(" ", "-").replace(",", "")
