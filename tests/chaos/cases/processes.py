"""Processes that die, stop, hang or live too long, one worker at a time."""

from tests.chaos.arena import Arena
from tests.chaos.faults import Fault, Port, When
from tests.chaos.registry import case
from tests.chaos.traffic import Mix

_ONCE = "each transaction is decided and counted once, whatever the worker was doing"
_STEPS = (When.BEFORE, When.MIDDLE, When.AFTER)


@case("processes/kill around the feature update", _ONCE, quick=True)
def _kill_around_observe(arena: Arena) -> None:
    faults = [Fault(Port.OBSERVE, nth, when) for nth, when in enumerate(_STEPS, 1)]
    run = arena.shard(Mix(hot=True, transactions=220), faults=faults)
    run.work()
