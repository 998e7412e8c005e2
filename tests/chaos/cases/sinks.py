"""
Firehose, its spill and the bucket of the dead letters: refusing, slow, silent or gone.

What a sink did not acknowledge is never checkpointed. Short trouble is waited out, long
trouble ends the worker without a checkpoint, and the next one goes on where it stopped.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from consumer.adapters.kinesis import EXIT_UNAVAILABLE
from consumer.metrics import DEPENDENCY_ERRORS, SPILLED_ROWS, SPILLING
from tests.chaos.arena import Arena
from tests.chaos.faults import Fault, Port, When
from tests.chaos.gateway import Fails, HttpFault
from tests.chaos.lab import RESOURCES, SETTINGS, Lab
from tests.chaos.reading import ScrapedMetrics, assert_no_traceback, read_log
from tests.chaos.registry import case
from tests.chaos.shard import Owner, ShardRun
from tests.chaos.traffic import Mix
from tests.firehose_server import Answer, Batch, accept, answer_some, fail, refuse
from tests.scripted_server import Handler, close

_MIX = Mix(transactions=120, hot=True)
_MANY_LETTERS = Mix(transactions=120, malformed=0.15, conflicts=0.08)
_PUT_ROWS = "Firehose_20150804.PutRecordBatch"
_BUCKET = RESOURCES.delivery_bucket
_EVER = 1_000_000
# A row a record, as far as rows go, so that a batch can be taken in part.
_SMALL_RECORDS = {"FIREHOSE__RECORD_BYTES": "1024"}
_SHORT_PATIENCE = {
    "REDIS__OUTAGE_LIMIT_S": "2.5",
    "FIREHOSE__ATTEMPTS": "2",
    "FIREHOSE__TIMEOUT_S": "1",
}
WAITED = "waited out: each row arrives, repeats are equal, the worker stays"
LEFT = "the worker leaves without a checkpoint; healed, the next goes on where it stopped"


def _by_chance(arena: Arena, share: float, answer: Answer) -> Answer:
    """*answer* to a *share* of the batches, counted, and everything else accepted."""

    def choose(handler: Handler, batch: Batch) -> None:
        if arena.choice.random() < share:
            arena.count.note()
            answer(handler, batch)
        else:
            accept(handler, batch)

    return choose


def _refuse_some(arena: Arena, handler: Handler, batch: Batch) -> None:
    """Refuse records by chance, at least one."""
    indexes = range(len(batch.records))
    some = {index for index in indexes if arena.choice.random() < 0.5}
    code = arena.choice.choice(("ServiceUnavailableException", "InternalFailure"))
    refuse(*(some or {arena.choice.choice(indexes)}), code=code)(handler, batch)


def _work_through(
    arena: Arena, mix: Mix = _MIX, settings: Mapping[str, str] = MappingProxyType({})
) -> ShardRun:
    """Work a shard in small deliveries by one worker, which stays."""
    run = arena.shard(mix)
    run.configure(settings)
    run.largest = 30
    run.work()
    assert run.exits == [0], run.exits
    assert_no_traceback(run)
    return run


def _repeats(arena: Arena) -> int:
    """Rows that arrived more than once; the checker has seen that they are equal."""
    rows = Counter(str(row["transaction_id"]) for row in arena.rows())
    return sum(number - 1 for number in rows.values())


@case("sinks/Firehose refuses some records of a batch", WAITED)
def _partial(arena: Arena) -> None:
    answer = _by_chance(arena, 0.4, partial(_refuse_some, arena))
    arena.lab.firehose.always(answer)
    # When all attempts have failed, a publication begins anew with all of its rows.
    _work_through(arena, settings={**_SMALL_RECORDS, "FIREHOSE__ATTEMPTS": "100"})
    assert not _repeats(arena), "a record that was acknowledged was sent again"


@case("sinks/Firehose answers 503 and 500", WAITED)
def _refused(arena: Arena) -> None:
    arena.lab.gateway.fail(
        HttpFault(_PUT_ROWS, Fails.REFUSED, nth=2, times=3),
        HttpFault(_PUT_ROWS, Fails.REFUSED, nth=3, times=3, status=500),
    )
    _work_through(arena)


@case("sinks/Firehose is throttled", WAITED)
def _throttled(arena: Arena) -> None:
    answer = _by_chance(arena, 0.5, fail(400, "ServiceUnavailableException"))
    arena.lab.firehose.always(answer)
    _work_through(arena)


@case("sinks/Firehose takes rows and its answer comes too late", WAITED)
def _too_late(arena: Arena) -> None:
    arena.lab.gateway.fail(HttpFault(_PUT_ROWS, Fails.DELAYED, nth=2, times=2, seconds=1.2))
    _work_through(arena, settings={"FIREHOSE__TIMEOUT_S": "0.4"})
    assert _repeats(arena)


@case(
    "sinks/Firehose takes rows and its answers drip",
    "a drip counts as no answer once the timeout is over: the rows go out again, the worker stays",
)
def _dripped(arena: Arena) -> None:
    dripped = HttpFault(_PUT_ROWS, Fails.DRIPPED, nth=2, times=3)
    arena.lab.gateway.fail(dripped)
    run = _work_through(arena, settings={"FIREHOSE__TIMEOUT_S": "0.5"})
    assert _repeats(arena)
    assert _causes(run, "firehose failed") == {"timeout"}


def _causes(run: ShardRun, event: str) -> set[str]:
    return {str(each["cause"]) for each in read_log(run) if each["event"] == event}


@case(
    "sinks/calls of Firehose hang while nothing comes",
    "on a quiet shard the worker waits and says so, then leaves with 75; the next sends the rows",
)
def _hang_without_traffic(arena: Arena) -> None:
    run = arena.shard(Mix(transactions=20))
    run.smallest = run.largest = 10
    run.configure(
        {
            "WORKER__PROGRESS_LIMIT_S": "4",
            "REDIS__OUTAGE_LIMIT_S": "6",
            "FIREHOSE__TIMEOUT_S": "0.5",
        }
    )
    # The head of an answer is not timed as a whole: this is a call that nothing ends.
    arena.lab.gateway.fail(HttpFault(_PUT_ROWS, Fails.HEAD_DRIPPED, times=_EVER))
    with run.owner() as owner:
        owner.run(drain=False)
        ends_s = time.monotonic() + 60
        while not owner.died and time.monotonic() < ends_s:
            owner.rest()
    assert run.exits == [EXIT_UNAVAILABLE], run.exits
    waits = [event for event in read_log(run) if event.get("dependency") == "firehose"]
    assert any("rows are not acknowledged" in str(event["error"]) for event in waits), waits
    assert not run.lease.stored
    arena.lab.gateway.end()
    run.work()
    assert run.exits[1:] == [0]
    assert_no_traceback(run)


@case("sinks/Firehose takes rows and its answer is lost", WAITED)
def _answer_lost(arena: Arena) -> None:
    arena.lab.gateway.fail(HttpFault(_PUT_ROWS, Fails.ANSWER_LOST, nth=2, times=3))
    _work_through(arena)
    assert _repeats(arena)


@case("sinks/Firehose hangs up unanswered", WAITED)
def _hung_up(arena: Arena) -> None:
    arena.lab.firehose.always(_by_chance(arena, 0.4, close))
    _work_through(arena)


@case("sinks/Firehose says nothing about some records", "what has no id is sent again")
def _unanswered(arena: Arena) -> None:
    arena.lab.firehose.always(_by_chance(arena, 0.5, answer_some))
    _work_through(arena, settings=_SMALL_RECORDS)


_LEAVE_AT = 40


def _leave_and_heal(arena: Arena, run: ShardRun, faults: Sequence[HttpFault]) -> None:
    """
    Let *faults* begin at some delivery and end when two workers have left.

    Both leave with 75; the second moves no checkpoint, since its first batch is refused.
    """
    begin, end = partial(arena.lab.gateway.fail, *faults), arena.lab.gateway.end
    _leave_twice(run, begin, end)


def _leave_twice(run: ShardRun, begin: Callable[[], None], end: Callable[[], None]) -> None:
    def step(_owner: Owner, index: int) -> None:
        if index == _LEAVE_AT and not run.exits:
            begin()

    run.smallest = run.largest = _LEAVE_AT
    run.before_delivery = step
    for _ in range(2):
        before = run.lease.checkpoint
        with run.owner() as owner:
            assert not owner.run()
    assert run.exits == [EXIT_UNAVAILABLE] * 2, run.exits
    assert run.lease.checkpoint == before
    end()
    run.work()
    assert run.exits[2:] == [0]
    assert_no_traceback(run)


@case("sinks/the delivery stream is gone, without a spill", LEFT)
def _stream_gone(arena: Arena) -> None:
    def gone(handler: Handler, batch: Batch) -> None:
        arena.count.note()
        fail(400, "ResourceNotFoundException")(handler, batch)

    run = arena.shard(_MIX)
    run.configure(_SHORT_PATIENCE)
    firehose = arena.lab.firehose
    _leave_twice(run, partial(firehose.always, gone), partial(firehose.always, accept))
    assert "ResourceNotFoundException" in run.log.read_text()


@case("sinks/Firehose is out for longer than a worker waits", LEFT)
def _long_outage(arena: Arena) -> None:
    run = arena.shard(_MIX)
    run.configure(_SHORT_PATIENCE)
    _leave_and_heal(arena, run, [HttpFault(_PUT_ROWS, Fails.REFUSED, times=_EVER)])


@dataclass(slots=True)
class _RowsAnywhere:
    """What Firehose accepted and what lies in the spill, in the order of being seen."""

    lab: Lab
    prefix: str
    _taken: int = 0
    _objects: set[str] = field(default_factory=set)
    _seen: list[bytes] = field(default_factory=list)

    def __call__(self) -> Sequence[bytes]:
        accepted = self.lab.firehose.accepted
        self._seen += accepted[self._taken :]
        self._taken = len(accepted)
        for name in self.spilled():
            if name not in self._objects:
                self._objects.add(name)
                entry = self.lab.s3.get_object(Bucket=_BUCKET, Key=name)
                self._seen.append(entry["Body"].read())
        return self._seen

    def spilled(self) -> list[str]:
        """The names of the objects in the spill."""
        pages = self.lab.s3.get_paginator("list_objects_v2").paginate(
            Bucket=_BUCKET, Prefix=self.prefix
        )
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


def _spilling_shard(arena: Arena, faults: Sequence[Fault] = ()) -> tuple[ShardRun, _RowsAnywhere]:
    """A shard whose rows go to the spill as soon as Firehose refuses some."""
    prefix = f"{arena.name}/"
    rows = _RowsAnywhere(arena.lab, prefix)
    arena.rows.accepted = rows
    run = arena.shard(_MIX, faults=faults)
    run.configure(
        {
            **_SHORT_PATIENCE,
            # So that an object of the spill holds many, and none of them may be missing.
            **_SMALL_RECORDS,
            "FIREHOSE__SPILL__BUCKET": _BUCKET,
            "FIREHOSE__SPILL__PREFIX": prefix,
            "FIREHOSE__SPILL__AFTER_S": "0.1",
        }
    )
    run.smallest = run.largest = 20
    return run, rows


def _firehose_gone() -> HttpFault:
    return HttpFault(_PUT_ROWS, Fails.REFUSED, times=_EVER)


def _spill_refuses(status: int = 503, times: int = _EVER) -> HttpFault:
    return HttpFault(f"PUT /{_BUCKET}/", Fails.REFUSED, times=times, status=status)


@case(
    "sinks/the delivery stream is gone, with a spill",
    "the rows lie in S3, none is missing, the worker never stops, and it is told",
    quick=True,
)
def _spill(arena: Arena) -> None:
    run, rows = _spilling_shard(arena)
    metrics = ScrapedMetrics(run)
    arena.lab.gateway.fail(_firehose_gone())
    run.work()
    assert run.exits == [0]
    assert rows.spilled()
    assert metrics.read(SPILLED_ROWS) >= len({row["transaction_id"] for row in arena.rows()})
    assert metrics.read(SPILLING) == 1
    assert any("go to S3" in event["event"] for event in read_log(run))


@case(
    "sinks/Firehose goes in mid-stream and comes back",
    "rows go to S3 meanwhile and to Firehose before and after; a new worker asks it first",
)
def _spill_and_back(arena: Arena) -> None:
    run, rows = _spilling_shard(arena)
    everything = run.placed
    third = len(everything) // 3
    run.placed = everything[:third]
    run.work()
    assert not rows.spilled()
    arena.lab.gateway.fail(_firehose_gone())
    run.placed = everything[: 2 * third]
    run.work()
    spilled = len(rows.spilled())
    assert spilled
    arena.lab.gateway.end()
    accepted = len(arena.lab.firehose.accepted)
    run.placed = everything
    run.work()
    assert len(rows.spilled()) == spilled
    assert len(arena.lab.firehose.accepted) > accepted
    assert run.exits == [0, 0, 0]


@case("sinks/Firehose and its spill both refuse for a moment", WAITED)
def _both_for_a_moment(arena: Arena) -> None:
    run, rows = _spilling_shard(arena)
    run.configure({"REDIS__OUTAGE_LIMIT_S": "20"})
    arena.lab.gateway.fail(_firehose_gone(), _spill_refuses(times=4))
    run.work()
    assert run.exits == [0]
    assert rows.spilled()


@case("sinks/Firehose and its spill both refuse for long", LEFT)
def _both_for_long(arena: Arena) -> None:
    run, rows = _spilling_shard(arena)
    _leave_and_heal(arena, run, [_firehose_gone(), _spill_refuses()])
    assert not rows.spilled()
    assert "nor does its spill" in run.log.read_text()


@case("sinks/the spill may not be written to", LEFT)
def _spill_forbidden(arena: Arena) -> None:
    run, _ = _spilling_shard(arena)
    _leave_and_heal(arena, run, [_firehose_gone(), _spill_refuses(403)])


@case("sinks/the spill takes rows and its answer is lost", "they are stored again, and equal")
def _spill_answer_lost(arena: Arena) -> None:
    run, _ = _spilling_shard(arena)
    run.configure({"REDIS__OUTAGE_LIMIT_S": "20"})
    lost = HttpFault(f"PUT /{_BUCKET}/", Fails.ANSWER_LOST, nth=2, times=2)
    arena.lab.gateway.fail(_firehose_gone(), lost)
    run.work()
    assert run.exits == [0]
    assert lost.seen > 2


@case(
    "sinks/the worker is killed while rows go to the spill",
    "what was not acknowledged is sent again by the next one, nothing is missing",
)
def _killed_while_spilling(arena: Arena) -> None:
    faults = [
        Fault(Port.PUBLISH, 2, When.AFTER),
        Fault(Port.ACKNOWLEDGE, 2, When.BEFORE),
        # The first of its worker, which always comes: a second one may not, when much of what
        # is left is acknowledged at once.
        Fault(Port.CHECKPOINT, 1, When.BEFORE),
    ]
    run, rows = _spilling_shard(arena, faults)
    arena.lab.gateway.fail(_firehose_gone())
    run.work()
    assert rows.spilled()
    assert len(run.exits) == len(faults) + 1


def _letters_refuse(arena: Arena, status: int = 503, nth: int = 1, times: int = _EVER) -> HttpFault:
    """Every put of a dead letter of this case is answered with ``status``."""
    line = f"PUT /{SETTINGS.dead_letters.bucket}/{arena.name}/"
    return HttpFault(line, Fails.REFUSED, nth=nth, times=times, status=status)


for _status, _what in {503: "answers 503", 403: "may not be written to", 404: "is gone"}.items():

    def _letters_for_a_moment(status: int, arena: Arena) -> None:
        arena.lab.gateway.fail(_letters_refuse(arena, status, nth=2, times=6))
        run = _work_through(arena, _MANY_LETTERS)
        assert [event for event in read_log(run) if event.get("dependency") == "s3"]

    def _letters_for_long(status: int, arena: Arena) -> None:
        run = arena.shard(_MANY_LETTERS)
        run.configure(_SHORT_PATIENCE)
        _leave_and_heal(arena, run, [_letters_refuse(arena, status)])

    case(
        f"sinks/the dead letters' bucket {_what} for a moment",
        "the worker waits, each letter is stored once",
    )(partial(_letters_for_a_moment, _status))
    case(f"sinks/the dead letters' bucket {_what} for long", LEFT)(
        partial(_letters_for_long, _status)
    )


@case(
    "sinks/the dead letters' bucket takes a letter and its answer is lost",
    "it is stored again under the same name with the same content",
)
def _letter_answer_lost(arena: Arena) -> None:
    line = f"PUT /{SETTINGS.dead_letters.bucket}/{arena.name}/"
    arena.lab.gateway.fail(HttpFault(line, Fails.ANSWER_LOST, nth=2, times=5))
    _work_through(arena, _MANY_LETTERS)


@case(
    "sinks/the dead letters' bucket does not answer",
    "the put is given up after its timeout and repeated; each letter is stored once",
)
def _letters_time_out(arena: Arena) -> None:
    # The adapter waits ten seconds for an answer.
    line = f"PUT /{SETTINGS.dead_letters.bucket}/{arena.name}/"
    arena.lab.gateway.fail(HttpFault(line, Fails.DELAYED, nth=3, seconds=11))
    run = _work_through(arena, _MANY_LETTERS)
    assert "ReadTimeoutError" in run.log.read_text()


@case(
    "sinks/the dead letters' bucket answers in drops",
    "a drip counts as no answer once the timeout is over; each letter is stored once",
)
def _letters_drip(arena: Arena) -> None:
    line = f"PUT /{SETTINGS.dead_letters.bucket}/{arena.name}/"
    arena.lab.gateway.fail(HttpFault(line, Fails.DRIPPED, nth=3))
    run = _work_through(arena, _MANY_LETTERS)
    assert "ReadTimeoutError" in run.log.read_text()


@case(
    "sinks/the spill answers in drops",
    "a drip counts as no answer once the timeout is over; the rows are stored, none is missing",
)
def _spill_drips(arena: Arena) -> None:
    run, rows = _spilling_shard(arena)
    run.configure({"REDIS__OUTAGE_LIMIT_S": "20"})
    arena.lab.gateway.fail(_firehose_gone(), HttpFault(f"PUT /{_BUCKET}/", Fails.DRIPPED, nth=2))
    run.work()
    assert run.exits == [0]
    assert rows.spilled()
    assert "ReadTimeoutError" in run.log.read_text()


@case(
    "sinks/everything that stores refuses now and then",
    "rows and letters are complete, whoever refused",
)
def _all_by_chance(arena: Arena) -> None:
    run, _ = _spilling_shard(arena)
    run.configure({"REDIS__OUTAGE_LIMIT_S": "20"})
    metrics = ScrapedMetrics(run)
    arena.lab.firehose.always(_by_chance(arena, 0.5, fail(500, "InternalFailure")))
    arena.lab.gateway.fail(
        *(
            HttpFault(f"PUT /{_BUCKET}/", Fails.REFUSED, nth=nth, times=2)
            for nth in range(1, 60, 6)
        ),
        *(_letters_refuse(arena, nth=nth, times=2) for nth in range(1, 20, 4)),
    )
    run.work()
    assert run.exits == [0]
    assert metrics.read(DEPENDENCY_ERRORS, dependency="firehose") > 0
