"""
Worker processes that die, stop, hang, fail or are told to end.

Points are found by stepping through the path: a dry run counts the calls of every port,
then a worker is killed at each of them, started again, and killed at the next.
"""

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

from consumer.adapters.kinesis import EXIT_FAILED
from tests.chaos.arena import Arena
from tests.chaos.faults import Act, Fault, Port, When
from tests.chaos.reading import assert_no_traceback
from tests.chaos.registry import case
from tests.chaos.shard import Owner, Reply, ShardRun
from tests.chaos.traffic import Item, Mix, build_traffic

ONCE = "each transaction is decided and counted once, whatever the worker was doing"
_STEPS = (When.BEFORE, When.MIDDLE, When.AFTER)
_NEVER_S = "86400"
_SMALL = Mix(transactions=36, labels=0.5, malformed=0.2, conflicts=0.1)


def _spread(port: Port, nths: Sequence[int] = (1, 2, 3)) -> list[Fault]:
    """A kill before, in the middle of and after calls of *port*."""
    return [Fault(port, nth, when) for nth, when in zip(nths, _STEPS, strict=True)]


def _assert_all_fired(arena: Arena, planned: int) -> None:
    fired = [fired.step for fired in arena.folders[-1].fired()]
    assert sorted(set(fired)) == list(range(planned)), f"only the steps {fired} took place"


def _kill_around(port: Port, arena: Arena) -> None:
    faults = _spread(port)
    # Many labels and letters, so that every chunk has some.
    mix = Mix(transactions=200, hot=True, labels=0.5, malformed=0.1, conflicts=0.08)
    arena.shard(mix, faults=faults).work()
    _assert_all_fired(arena, len(faults))


for _port, _what in {
    Port.OBSERVE: "the feature update",
    Port.DECIDE: "the documents",
    Port.NOTE_LABEL: "the labels of documents",
    Port.COUNT_LABEL: "the labels of entities",
    Port.PUT: "the dead letters",
    Port.PUBLISH: "the sending to Firehose",
    Port.ACKNOWLEDGE: "the acknowledgement of Firehose",
    Port.FRAUD: "the call of an endpoint",
}.items():
    case(f"processes/kill around {_what}", ONCE, quick=_port is Port.OBSERVE)(
        partial(_kill_around, _port)
    )


@case(
    "processes/kill between documents and the labels that waited for them",
    "a label whose own record is checkpointed still counts once its transaction comes",
    quick=True,
)
def _kill_before_waited_labels(arena: Arena) -> None:
    items = build_traffic(
        f"{arena.name}w", Mix(labels=0.6), arena.choice, time.time_ns() // 1_000_000
    )
    labels = [item for item in items if b'"type":"label"' in item.data]
    others = [item for item in items if item not in labels]
    faults = [*_spread(Port.COUNT_LABEL), Fault(Port.DECIDE, 2, When.AFTER)]
    run = arena.shard(faults=faults, items=labels + others)
    everything = run.placed
    run.placed = everything[: len(labels)]
    run.work()
    run.placed = everything
    run.work()
    _assert_all_fired(arena, len(faults))


@case("processes/kill around the checkpoint", "a checkpoint is never ahead of what was done")
def _kill_around_checkpoint(arena: Arena) -> None:
    faults = [
        Fault(Port.CHECKPOINT, 2, When.BEFORE),
        Fault(Port.CHECKPOINT, 1, When.AFTER),
        Fault(Port.CHECKPOINT, 2, When.AFTER),
    ]
    run = arena.shard(Mix(transactions=240), faults=faults)
    run.largest = 40
    run.work()
    _assert_all_fired(arena, len(faults))


@case(
    "processes/kill between a checkpoint and its answer",
    "whether DynamoDB took it or not, nothing is lost or done twice",
    quick=True,
)
def _kill_at_checkpoint(arena: Arena) -> None:
    run = arena.shard(Mix(transactions=200))
    run.largest = 30
    run.replies = [
        Reply(1, kill=True, stored=False),
        Reply(3, kill=True, stored=True),
        Reply(5, kill=True, stored=False),
    ]
    run.work()


def _points(calls: Sequence[str]) -> Iterator[Fault]:
    """A kill before, within and after each of *calls*, as often as a port was called."""
    seen: Counter[str] = Counter()
    halves = {Port.OBSERVE, Port.DECIDE, Port.NOTE_LABEL, Port.COUNT_LABEL, Port.PUT, Port.PUBLISH}
    for call in calls:
        port = Port(call)
        seen[port] += 1
        if port in (Port.FRAUD, Port.ANOMALY):
            # Their threads run beside the path, which changes nothing outside meanwhile.
            continue
        for when in _STEPS:
            if when is not When.MIDDLE or port in halves:
                yield Fault(port, seen[port], when)


def _short_shard(
    arena: Arena, faults: Sequence[Fault] = (), items: list[Item] | None = None
) -> ShardRun:
    """A few chunks in one delivery, checkpointed at its end."""
    run = arena.shard(
        _SMALL,
        faults=faults,
        items=items,
        WORKER__CHUNK_SIZE="16",
        WORKER__CHECKPOINT_INTERVAL_S=_NEVER_S,
    )
    run.smallest = run.largest = 1_000
    return run


def _step(part: int, parts: int, arena: Arena) -> None:
    """Kill at every *parts*-th point, the *part*-th first; every run is from the beginning."""
    dry = _short_shard(arena)
    dry.work()
    items, calls = arena.take_back()
    faults = list(_points(calls))[part::parts]
    # A port that is told less the second time, since all is known, may be called less often.
    run = _short_shard(arena, faults, items)
    run.work(restarts=len(faults) + 2)
    _assert_all_fired(arena, len(faults))


_PARTS = 8
for _part in range(_PARTS):
    case(f"processes/kill at every step of the path, {_part + 1} of {_PARTS}", ONCE)(
        partial(_step, _part, _PARTS)
    )


def _two_owners(fault: Fault, together: bool, arena: Arena) -> None:  # noqa: FBT001 - by partial
    """The first is stopped at *fault*; it wakes while the second works (*together*) or later."""
    run = arena.shard(Mix(transactions=240, hot=True), faults=[fault])
    run.largest = 60
    with run.owner() as former:
        former.begin()
        former.await_stopped()
        with run.owner() as owner:
            if together:
                former.resume()
            assert owner.run()
            if not together:
                former.resume()
            former.join()
    assert run.exits == [0, 0]


for _fault, _what in {
    Fault(Port.OBSERVE, 3, When.BEFORE, Act.STOP): "before a feature update",
    Fault(Port.OBSERVE, 3, When.AFTER, Act.STOP): "after a feature update",
    Fault(Port.DECIDE, 3, When.BEFORE, Act.STOP): "before documents",
    Fault(Port.DECIDE, 3, When.MIDDLE, Act.STOP): "among documents",
    Fault(Port.PUBLISH, 3, When.BEFORE, Act.STOP): "before rows are sent",
    Fault(Port.CHECKPOINT, 2, When.BEFORE, Act.STOP): "before a checkpoint",
}.items():
    for _together in (False, True):
        case(
            f"processes/two owners, the first stopped {_what}, "
            f"{'both awake' if _together else 'awake too late'}",
            "two owners together decide and count once, and only the second one checkpoints",
            quick=_fault.port is Port.DECIDE and _fault.when is When.MIDDLE and _together,
        )(partial(_two_owners, _fault, _together))


@case(
    "processes/a hung worker is ended by its timeout",
    "what it had begun is finished by the next one, once",
)
def _hung(arena: Arena) -> None:
    faults = [
        Fault(Port.DECIDE, 2, When.AFTER, Act.HANG),
        Fault(Port.OBSERVE, 2, When.MIDDLE, Act.HANG),
    ]
    run = arena.shard(faults=faults)
    run.child_timeout_s = 4.0
    run.work()
    _assert_all_fired(arena, len(faults))


@case(
    "processes/an error nobody expected",
    "the worker leaves with 70 and without a checkpoint, the next one goes on",
)
def _bug(arena: Arena) -> None:
    ports = (Port.OBSERVE, Port.DECIDE, Port.COUNT_LABEL, Port.PUT, Port.PROCESS)
    faults = [Fault(port, 2, When.AFTER, Act.RAISE) for port in ports]
    run = arena.shard(Mix(labels=0.5, malformed=0.1), faults=faults)
    run.work()
    _assert_all_fired(arena, len(faults))
    assert run.exits == [EXIT_FAILED] * len(faults) + [0]


@case(
    "processes/a library prints to standard output",
    "it reaches the log and never the KCL, whose protocol goes on",
    quick=True,
)
def _printed(arena: Arena) -> None:
    ports = (Port.START, Port.OBSERVE, Port.FRAUD, Port.DECIDE, Port.CHECKPOINT)
    faults = [Fault(port, 2 if port is Port.FRAUD else 1, act=Act.PRINT) for port in ports]
    run = arena.shard(faults=faults)
    run.largest = 30
    run.work()
    _assert_all_fired(arena, len(faults))
    assert run.exits == [0]
    said = run.log.read_text()
    assert said.count("printed by a library") == said.count("printed below Python") == len(faults)


@case("processes/SIGTERM in the middle of a delivery", "only the KCL ends a worker: nothing stops")
def _terminated(arena: Arena) -> None:
    run = arena.shard(Mix(transactions=240), faults=[Fault(Port.DECIDE, 2, act=Act.STOP)])
    run.largest = 60
    with run.owner() as owner:
        owner.begin()
        owner.await_stopped()
        owner.signal(signal.SIGTERM)
        owner.signal(signal.SIGINT)
        owner.resume()
        owner.join()
        assert not owner.died
    assert run.exits == [0]


@case("processes/SIGTERM while a worker starts", "it ends or goes on; the next one does the work")
def _terminated_at_start(arena: Arena) -> None:
    run = arena.shard()
    for _ in range(4):
        with run.owner() as owner:
            time.sleep(arena.choice.uniform(0, 1.0))
            owner.signal(signal.SIGTERM)
            owner.run(drain=False)
    # Python itself is ended by it; from its first line on the worker goes on.
    assert set(run.exits) <= {0, -signal.SIGTERM}, run.exits
    run.work()
    assert run.exits[-1] == 0
    assert_no_traceback(run)


@case("processes/kill while it starts, takes up and drains", ONCE)
def _kill_at_the_ends(arena: Arena) -> None:
    faults = [
        Fault(Port.FRAUD, 1, When.AFTER),
        Fault(Port.START, 1, When.BEFORE),
        Fault(Port.START, 1, When.AFTER),
        Fault(Port.DRAIN, 1, When.BEFORE),
        Fault(Port.DRAIN, 1, When.AFTER),
    ]
    arena.shard(faults=faults, WORKER__CHECKPOINT_INTERVAL_S=_NEVER_S).work()
    _assert_all_fired(arena, len(faults))


@case(
    "processes/kill while a shard ends",
    "its end is checkpointed only when everything in it is done",
)
def _kill_at_shard_end(arena: Arena) -> None:
    faults = [
        Fault(Port.DRAIN, 1, When.BEFORE),
        Fault(Port.CHECKPOINT, 1, When.BEFORE),
        Fault(Port.DRAIN, 1, When.AFTER),
    ]
    run = arena.shard(faults=faults, WORKER__CHECKPOINT_INTERVAL_S=_NEVER_S)
    run.work(end=True)
    _assert_all_fired(arena, len(faults))
    assert run.lease.ended


@case("processes/kill by chance, again and again", ONCE)
def _kill_by_chance(arena: Arena) -> None:
    """At any instruction, and not between two calls."""
    run = arena.shard(Mix(transactions=300, hot=True), WORKER__CHUNK_SIZE="7")
    run.largest = 150
    for _ in range(6):
        with run.owner() as owner:
            _let_it_work(owner, arena.choice.uniform(0.0, 0.25))
            owner.kill()
            owner.join()
    run.work()


def _let_it_work(owner: Owner, seconds: float) -> None:
    """Begin, and return so long after the first delivery was sent."""
    owner.begin(drain=False)
    assert owner.taken_up.wait(60)
    time.sleep(seconds)


@case("processes/a worker that falls behind its own successor", ONCE)
def _three_owners(arena: Arena) -> None:
    """Three alive at once, woken in the order in which they came."""
    faults = [
        Fault(Port.DECIDE, 2, When.AFTER, Act.STOP),
        Fault(Port.OBSERVE, 3, When.MIDDLE, Act.STOP),
    ]
    run = arena.shard(Mix(transactions=240), faults=faults)
    run.largest = 60
    with run.owner() as first:
        first.begin()
        first.await_stopped()
        with run.owner() as second:
            second.begin()
            second.await_stopped()
            with run.owner() as third:
                first.resume()
                second.resume()
                assert third.run()
                first.join()
                second.join()
