"""
Checkpoints that DynamoDB throttles, refuses or takes without saying so, and lost leases.

What the KCL answers to a checkpoint is the simple name of its exception. Throttling and a
dependency that fails pass; a lost lease means dropping the rest; everything else means
leaving, since a later checkpoint would say what the refused one did not.
"""

from collections.abc import Sequence
from functools import partial

from consumer.adapters.kinesis import EXIT_UNAVAILABLE
from consumer.metrics import DEPENDENCY_ERRORS
from tests.chaos.arena import Arena
from tests.chaos.faults import Act, Fault, Port, When
from tests.chaos.reading import ScrapedMetrics, assert_no_traceback, read_log
from tests.chaos.registry import case
from tests.chaos.shard import LEASE_LOST, THROTTLED, Reply, ShardRun
from tests.chaos.traffic import Mix

_DEPENDENCY = "KinesisClientLibDependencyException"
# What the KCL makes of a server that it cannot reach.
_UNREACHABLE = "RuntimeException"
_INVALID = "InvalidStateException"
_MIX = Mix(transactions=160, hot=True)
# Then the first checkpoint is that of the end.
_AT_THE_END = {"WORKER__CHECKPOINT_INTERVAL_S": "86400"}
_RETRIED = "tried again until it is taken; the worker stays, and nothing is done twice"
_LEFT = "the worker leaves without it; the next goes on from the last that was stored"
_HANDED_OVER = "the worker checkpoints nothing more and leaves in order; the next owner goes on"


def _shard(arena: Arena, replies: Sequence[Reply], faults: Sequence[Fault] = ()) -> ShardRun:
    run = arena.shard(_MIX, faults=faults)
    run.largest = 30
    run.replies = list(replies)
    return run


def _assert_answered(arena: Arena, run: ShardRun) -> None:
    """Every planned answer was given, and no worker ended in a traceback."""
    assert len(arena.count.at_s) == len(run.replies), "not every planned answer was given"
    assert_no_traceback(run)


def _retried(error: str, stored: bool, end: bool, arena: Arena) -> None:  # noqa: FBT001 - by partial
    """*error* for a while, in mid-stream or at the end; *stored* says that it was kept."""
    nths = range(1, 5) if end else range(2, 6)
    run = _shard(arena, [Reply(nth, error, stored=stored) for nth in nths])
    metrics = ScrapedMetrics(run)
    if end:
        run.configure(_AT_THE_END)
    run.work(end=end)
    assert run.exits == [0]
    assert run.lease.ended is end
    assert _waits(run) == len(nths)
    assert metrics.read(DEPENDENCY_ERRORS, dependency="dynamodb") == len(nths)
    _assert_answered(arena, run)


_PASSING = {
    THROTTLED: "throttled",
    _DEPENDENCY: "failing on a dependency",
    _UNREACHABLE: "without a connection to it",
}
for _error, _what in _PASSING.items():
    for _stored in (False, True):
        case(
            f"dynamodb/checkpoints {_what} for a while"
            f"{', and stored all the same' if _stored else ''}",
            _RETRIED,
        )(partial(_retried, _error, _stored, False))
    case(f"dynamodb/checkpoints {_what} while the shard ends", _RETRIED)(
        partial(_retried, _error, False, True)
    )


def _waits(run: ShardRun) -> int:
    """How often the workers of *run* said that they wait for DynamoDB."""
    return sum(event.get("dependency") == "dynamodb" for event in read_log(run))


def _throttled_for_long(end: bool, arena: Arena) -> None:  # noqa: FBT001 - by partial
    """Longer than a worker waits, twice, in mid-stream or at the end."""
    first = 1 if end else 3
    run = _shard(arena, [Reply(nth, THROTTLED, stored=False) for nth in range(first, first + 400)])
    run.configure({"REDIS__OUTAGE_LIMIT_S": "2.5", **(_AT_THE_END if end else {})})
    for _ in range(2):
        with run.owner() as owner:
            assert not owner.run(end=end)
    assert run.exits == [EXIT_UNAVAILABLE] * 2
    assert _waits(run) > 2 * 2
    assert len(run.lease.stored) == first - 1
    run.replies.clear()
    run.work(end=end)
    assert run.exits[2:] == [0]
    assert_no_traceback(run)


for _end, _where in {False: "in mid-stream", True: "at the end of a shard"}.items():
    case(
        f"dynamodb/checkpoints throttled for longer than a worker waits, {_where}",
        "each attempt is told; then the worker leaves with 75, and the next one goes on",
    )(partial(_throttled_for_long, _end))


@case(
    "dynamodb/checkpoints throttled while a worker is told to stop",
    "it gives up within half of the grace and leaves with 75, whatever its patience",
)
def _throttled_at_shutdown(arena: Arena) -> None:
    run = _shard(arena, [Reply(nth, THROTTLED, stored=False) for nth in range(1, 400)])
    run.configure({**_AT_THE_END, "KCL__SHUTDOWN_GRACE_MS": "5000"})
    with run.owner() as owner:
        assert not owner.run()
    assert run.exits == [EXIT_UNAVAILABLE]
    waited_s = max(float(event.get("waited_s", 0)) for event in read_log(run))
    # A pause of two seconds may begin just before the end.
    assert 2.5 <= waited_s <= 2.5 + 2 + 1
    run.replies.clear()
    run.work()
    assert run.exits == [EXIT_UNAVAILABLE, 0]
    assert_no_traceback(run)


def _bare_throttled(arena: Arena) -> None:
    """The end itself is the second checkpoint."""
    run = _shard(arena, [Reply(nth, THROTTLED, stored=False) for nth in (2, 3)])
    run.configure(_AT_THE_END)
    run.work(end=True)
    assert run.exits == [0]
    assert run.lease.ended
    _assert_answered(arena, run)


case("dynamodb/the end of a shard is throttled", _RETRIED)(_bare_throttled)


def _refused(error: str, stored: bool, arena: Arena) -> None:  # noqa: FBT001 - by partial
    """*error* in mid-stream, at two workers."""
    run = _shard(arena, [Reply(2, error, stored=stored), Reply(5, error, stored=stored)])
    # Rows may be on their way when a delivery ends, so not each brings a checkpoint.
    run.largest = 12
    run.work()
    assert run.exits == [EXIT_UNAVAILABLE, EXIT_UNAVAILABLE, 0]
    assert f"checkpoint refused: {error}" in run.log.read_text()
    _assert_answered(arena, run)


for _error in (_INVALID, "IllegalArgumentException", "NullPointerException"):
    for _stored in (False, True):
        case(
            f"dynamodb/a checkpoint is refused with {_error}"
            f"{', and stored all the same' if _stored else ''}",
            _LEFT,
        )(partial(_refused, _error, _stored))


def _refused_at_the_end(nth: int, end: bool, arena: Arena) -> None:  # noqa: FBT001 - by partial
    """The *nth* checkpoint of the first worker is refused; the second finishes."""
    run = _shard(arena, [Reply(nth, _INVALID, stored=False)])
    run.configure(_AT_THE_END)
    run.work(end=end)
    assert run.exits == [EXIT_UNAVAILABLE, 0]
    assert run.lease.ended is end
    _assert_answered(arena, run)


for _nth, _end, _what in (
    (1, False, "the last checkpoint before a shutdown"),
    (1, True, "the last checkpoint before the end of a shard"),
    (2, True, "the end of a shard"),
):
    case(f"dynamodb/{_what} is refused", _LEFT)(partial(_refused_at_the_end, _nth, _end))


def _lease_lost(nth: int, end: bool, at_the_end: bool, arena: Arena) -> None:  # noqa: FBT001 - by partial
    """The *nth* checkpoint tells the first worker that its lease is another's."""
    run = _shard(arena, [Reply(nth, LEASE_LOST, stored=False)])
    if at_the_end:
        run.configure(_AT_THE_END)
    with run.owner() as owner:
        assert owner.run(end=end)
        assert owner.driver.refused
        assert not run.lease.ended
    stored = len(run.lease.stored_s)
    assert stored == nth - 1, "it checkpointed after its lease was lost"
    run.work(end=end)
    assert run.exits == [0, 0]
    assert run.lease.ended is end
    assert any(event["event"] == "the lease is lost" for event in read_log(run))
    _assert_answered(arena, run)


for _nth, _end, _at_the_end, _what in (
    (1, False, False, "at the first checkpoint"),
    (3, False, False, "in mid-stream"),
    (1, False, True, "at the shutdown"),
    (1, True, True, "while the shard ends"),
    (2, True, True, "at the end of the shard"),
):
    case(f"dynamodb/the lease is lost {_what}", _HANDED_OVER, quick=_nth == 3)(
        partial(_lease_lost, _nth, _end, _at_the_end)
    )


@case(
    "dynamodb/the lease goes back and forth",
    "four owners one after the other, each told by its checkpoint, decide and count once",
)
def _back_and_forth(arena: Arena) -> None:
    run = _shard(arena, [Reply(nth, LEASE_LOST, stored=False) for nth in (2, 3, 6)])
    for _ in range(3):
        with run.owner() as owner:
            assert owner.run()
            assert owner.driver.refused
    run.work()
    assert run.exits == [0] * 4
    _assert_answered(arena, run)


@case(
    "dynamodb/the lease is lost after throttling",
    "the worker that still tries learns that another one owns the shard",
)
def _lost_while_throttled(arena: Arena) -> None:
    replies = [Reply(nth, THROTTLED, stored=False) for nth in (2, 3)]
    run = _shard(arena, [*replies, Reply(4, LEASE_LOST, stored=False)])
    with run.owner() as owner:
        assert owner.run()
        assert owner.driver.refused
    run.work()
    assert run.exits == [0, 0]
    _assert_answered(arena, run)


@case(
    "dynamodb/a worker dies while its checkpoint is throttled",
    "the next one goes on from the last that was stored",
)
def _dies_while_throttled(arena: Arena) -> None:
    replies = [Reply(nth, THROTTLED, stored=nth == 3) for nth in (2, 3)]
    run = _shard(arena, [*replies, Reply(4, kill=True, stored=False)])
    run.work()
    assert len(run.exits) == 2
    _assert_answered(arena, run)


@case(
    "dynamodb/the lease is lost while Firehose has rows to acknowledge",
    "what was not acknowledged is not checkpointed; the next owner sends it again",
)
def _lost_while_publishing(arena: Arena) -> None:
    faults = [Fault(Port.ACKNOWLEDGE, 2, When.AFTER, Act.UNAVAILABLE, times=3)]
    run = _shard(arena, [Reply(2, LEASE_LOST, stored=False)], faults)
    with run.owner() as owner:
        assert owner.run()
        assert owner.driver.refused
    run.work()
    assert run.exits == [0, 0]
    assert_no_traceback(run)


@case(
    "dynamodb/checkpoints that fare by chance",
    "throttled, failed, refused or lost, stored or not: nothing is lost, nothing twice",
)
def _by_chance(arena: Arena) -> None:
    errors = (THROTTLED, THROTTLED, _DEPENDENCY, _INVALID)
    replies = [
        Reply(nth, arena.choice.choice(errors), stored=arena.choice.random() < 0.5)
        for nth in range(1, 25)
        if arena.choice.random() < 0.5
    ]
    run = _shard(arena, replies)
    run.work()
    assert arena.count.at_s
    assert set(run.exits) <= {0, EXIT_UNAVAILABLE}
    assert_no_traceback(run)
