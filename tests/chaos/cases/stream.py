"""
What a stream may bring: repeats, disorder, wrong clocks, aggregates, garbage, a late start.

The KCL is played; what the real one adds (splits, leases that move) is in ``kcl_stream``.
"""

import gzip
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson

from consumer.__main__ import EX_MISCONFIGURED
from consumer.adapters.kinesis import EXIT_FAILED
from consumer.decode import DecodeRules, decode
from consumer.local.findings import build_oracle
from consumer.local.oracle import LATE, Event
from consumer.local.resources import session
from consumer.metrics import DEAD_LETTERS, FUTURE_EVENTS, LATE_DROPPED, RECORDS
from consumer.model import Position, ShardId, Transaction
from consumer.ports import Observe
from consumer.suspicion import Death, accuse, case_path
from tests.chaos.arena import Arena
from tests.chaos.faults import Act, Fault, Port, When
from tests.chaos.found import PrefixWatch
from tests.chaos.lab import SETTINGS
from tests.chaos.reading import ScrapedMetrics, read_log
from tests.chaos.registry import case
from tests.chaos.shard import ShardRun
from tests.chaos.traffic import (
    PLAIN,
    Item,
    Ledger,
    Mix,
    as_observed,
    build_traffic,
    event_time_ms,
    place,
)

_NEVER_S = "86400"
_HOUR_MS = 3_600_000
# Within the id horizon, so that whatever comes late still counts.
_TODAY = replace(PLAIN, transactions=200, span_s=18 * 3_600)


def _items(arena: Arena, mix: Mix, name: str = "") -> list[Item]:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    return build_traffic(f"{arena.name}{len(arena.shards)}{name}", mix, arena.choice, now_ms)


def _event(item: Item) -> dict[str, object]:
    event: dict[str, object] = orjson.loads(item.data)
    return event


def _at(item: Item, event_ms: int) -> Item:
    """*item*, happened at *event_ms*."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=event_ms)
    event = {**_event(item), "event_time": moment.isoformat(timespec="milliseconds")}
    return replace(item, data=orjson.dumps(event))


def _note_seen(arena: Arena, number: float) -> None:
    """Count *number* faults that the stream carried, as workers told of them."""
    assert number > 0, "no worker saw what was to be injected"
    for _ in range(round(number)):
        arena.count.note()


@case(
    "stream/a producer sends everything again",
    "a repeat under a new sequence number is decided and counted once, however far behind",
    quick=True,
)
def _resent(arena: Arena) -> None:
    items = _items(arena, _TODAY)
    resent = [item for item in items if arena.choice.random() < 0.7]
    arena.choice.shuffle(resent)
    # Some in the chunk of their first, the others after everything.
    near = [again for item in items[:60] for again in (item, item)]
    run = arena.shard(items=[*near, *items[60:], *resent])
    metrics = ScrapedMetrics(run)
    run.work()
    assert run.exits == [0]
    assert metrics.read(RECORDS, outcome="duplicate") == 60 + len(resent)
    _note_seen(arena, metrics.read(RECORDS, outcome="duplicate"))


def _distinct_seconds(items: Iterable[Item]) -> list[Item]:
    """*items* without those of a second that had one, so that order is by time alone."""
    seen: dict[int, Item] = {}
    for item in items:
        seen.setdefault(event_time_ms(_event(item)) // 1000, item)
    return [seen[second] for second in sorted(seen)]


@case(
    "stream/a producer sends again to another shard, both shards at once",
    "whichever record comes first decides, the other one is a repeat for both shards",
)
def _resent_elsewhere(arena: Arena) -> None:
    items = _distinct_seconds(_items(arena, replace(_TODAY, hot=True)))
    own = _items(arena, _TODAY, "own")
    resent = [item for item in items if arena.choice.random() < 0.6]
    first = arena.shard(items=items)
    # In the same order and about as fast, so that the two meet at the same ids.
    second = arena.shard(items=[each for pair in zip(resent, own, strict=False) for each in pair])
    arena.shards[0][1].share(arena.shards[1][1])
    first.largest = second.largest = 40
    metrics = [ScrapedMetrics(run) for run in (first, second)]
    with first.owner() as one, second.owner() as other:
        one.begin()
        other.begin()
        one.join()
        other.join()
    assert first.exits == second.exits == [0]
    repeats = sum(each.read(RECORDS, outcome="duplicate") for each in metrics)
    assert repeats == min(len(resent), len(own))
    _note_seen(arena, repeats)


def _late_by_entity(arena: Arena, ledger: Ledger) -> dict[str, int]:
    """Entity to the number of decided transactions that came too late to change it."""
    oracle = build_oracle(arena.lab.plan, SETTINGS.features.id_horizon_s, [])
    late: Counter[str] = Counter()
    for placed, told in ledger.story:
        if isinstance(told, Event):
            _, statuses = oracle.observe(told)
            if ledger.due[told.transaction_id].placed is placed:
                late.update(key for key, status in statuses.items() if status == LATE)
    return {entity.name: late[entity.key] for entity in arena.lab.plan.entities}


@case(
    "stream/late and out of order, within the id horizon and beyond",
    "what is within counts where it belongs, what is beyond is decided and counted late_dropped",
    quick=True,
)
def _late(arena: Arena) -> None:
    mix = Mix(transactions=240, late=0.3, expired=0.15, ahead=0, duplicates=0.1)
    run = arena.shard(mix)
    metrics = ScrapedMetrics(run)
    run.work()
    late = _late_by_entity(arena, arena.shards[0][1])
    assert run.exits == [0]
    counted = {entity: metrics.read(LATE_DROPPED, entity=entity) for entity in late}
    assert counted == late
    _note_seen(arena, sum(counted.values()))


@case(
    "stream/late and out of order, and workers that die",
    "what came late is late for the next worker too, and nothing counts twice",
)
def _late_and_killed(arena: Arena) -> None:
    mix = Mix(transactions=200, late=0.3, expired=0.15, duplicates=0.2)
    faults = [Fault(Port.OBSERVE, 2, When.MIDDLE), Fault(Port.DECIDE, 3, When.AFTER)]
    arena.shard(mix, faults=faults).work()


def _shuffled(arena: Arena) -> list[Item]:
    items = _items(arena, replace(_TODAY, labels=0.1, refunds=0.1))
    arena.choice.shuffle(items)
    return items


@case(
    "stream/no order at all within the id horizon",
    "state and decisions are those of the events that came before, wherever their times lie",
)
def _no_order(arena: Arena) -> None:
    run = arena.shard(items=_shuffled(arena), faults=[Fault(Port.OBSERVE, 4, When.AFTER)])
    run.work()


@case(
    "stream/clocks ahead",
    "an event from the future counts at its arrival, is counted, and makes nothing behind it late",
    quick=True,
)
def _ahead(arena: Arena) -> None:
    items = []
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    for item in _items(arena, _TODAY):
        event_ms = event_time_ms(_event(item))
        # It arrives when it happens; every fifth one says that it happens later.
        arriving = replace(item, ago_ms=now_ms - event_ms - 500)
        if arena.choice.random() < 0.2:
            # From minutes to years.
            arriving = _at(arriving, event_ms + round(10 ** arena.choice.uniform(5, 11)))
        items.append(arriving)
    run = arena.shard(items=items)
    metrics = ScrapedMetrics(run)
    run.work()
    assert run.exits == [0]
    # The shard's own moment is later than the one above, so that all arrive a little later.
    future = sum(event_time_ms(each.event) > each.arrival_ms for each in arena.shards[0][0].placed)
    assert metrics.read(FUTURE_EVENTS) == future
    _note_seen(arena, metrics.read(FUTURE_EVENTS))
    assert not any(_late_by_entity(arena, arena.shards[0][1]).values())


def _aggregated(arena: Arena, mix: Mix) -> list[Item]:
    """Traffic in aggregates of the KPL of 2 to 40 user records."""
    joined: list[Item] = []
    left = 0
    for item in _items(arena, mix):
        joined.append(replace(item, joined=left > 0))
        left = arena.choice.randint(1, 39) if left == 0 else left - 1
    return joined


def _inside(run: ShardRun) -> list[Position]:
    """The stored checkpoints that stand inside an aggregate."""
    positions = {placed.position for placed in run.placed}
    return [
        each
        for each in run.lease.stored
        if each is not None
        and Position(each.sequence_number, each.sub_sequence_number + 1) in positions
    ]


@case(
    "stream/kill in the middle of an aggregate of the KPL",
    "the checkpoint carries the sub-sequence, the next worker gets the rest of the aggregate",
)
def _aggregate(arena: Arena) -> None:
    mix = Mix(transactions=200, hot=True, malformed=0.08, conflicts=0.05)
    faults = [
        Fault(Port.DECIDE, 3, When.AFTER),
        Fault(Port.OBSERVE, 2, When.MIDDLE),
        Fault(Port.CHECKPOINT, 2, When.AFTER),
        Fault(Port.PUBLISH, 3, When.BEFORE),
    ]
    run = arena.shard(items=_aggregated(arena, mix), faults=faults, WORKER__CHUNK_SIZE="7")
    run.largest = 30
    run.work()
    assert len(arena.folders[-1].fired()) == len(faults)
    assert len(run.exits) == len(faults) + 1
    assert _inside(run), "no checkpoint fell inside an aggregate"


@case(
    "stream/two owners in the middle of an aggregate",
    "the second one goes on at the sub-sequence; what both worked counts once",
)
def _aggregate_of_two(arena: Arena) -> None:
    fault = Fault(Port.DECIDE, 4, When.MIDDLE, Act.STOP)
    run = arena.shard(
        items=_aggregated(arena, Mix(transactions=200)), faults=[fault], WORKER__CHUNK_SIZE="9"
    )
    run.largest = 12
    with run.owner() as former:
        former.begin()
        former.await_stopped()
        with run.owner() as owner:
            former.resume()
            assert owner.run()
            former.join()
    assert run.exits == [0, 0]
    assert _inside(run), "no checkpoint fell inside an aggregate"


_Corpus = Callable[[Mapping[str, object]], Iterator[tuple[bytes, str]]]
"""An event to records that are none, with the code of each one's letter."""


def _raw(event: Mapping[str, object], **values: bytes) -> bytes:
    """*event* as JSON with the fields of *values* as they are."""
    whole = {**event, **{name: f"raw {name}" for name in values}}
    data = orjson.dumps(whole)
    for name, value in values.items():
        data = data.replace(orjson.dumps(f"raw {name}"), value)
    return data


def _bytes_of_no_event(event: Mapping[str, object]) -> Iterator[tuple[bytes, str]]:
    """What is not an event at all, with the code of its letter."""
    data = orjson.dumps(event)
    yield b"", "not_json"
    yield b" \r\n\t", "not_json"
    yield b"\x00" * 1_000, "not_json"
    yield b"null", "wrong_type"
    yield b"[" + data + b"]", "wrong_type"
    yield data + data, "not_json"
    yield b"\xef\xbb\xbf" + data, "not_json"
    yield data.decode().encode("utf-16"), "not_utf8"
    yield data.replace(b'"EUR"', b'"EUR\xff\xfe"'), "not_utf8"
    yield _raw(event, channel=b'"\\ud800"'), "not_json"
    yield data[:-1] + b',"card_id":"another"}', "duplicate_key"


def _oversized(event: Mapping[str, object]) -> Iterator[tuple[bytes, str]]:
    """What is larger than it may be, packed or not."""
    yield _raw(event, channel=b'"' + b"p" * 2**20 + b'"'), "too_large"
    yield b"\xff" * (10 * 2**20), "too_large"
    yield gzip.compress(b" " * 2**28, 9), "too_large"
    yield gzip.compress(orjson.dumps(event) + b" " * 2**17), "too_large"
    yield b"".join([gzip.compress(b"")] * 1_000), "bad_gzip"
    yield gzip.compress(orjson.dumps(event))[:-4], "bad_gzip"
    yield gzip.compress(orjson.dumps(event)) + b"more", "bad_gzip"
    yield gzip.compress(gzip.compress(orjson.dumps(event))), "not_utf8"


def _deep_and_huge(event: Mapping[str, object]) -> Iterator[tuple[bytes, str]]:
    """What nests too deep and what no number holds."""
    yield b"[" * 60_000, "too_deep"
    yield b'{"a":' * 12_000, "too_deep"
    yield _raw(event, device_id=b"[" * 30 + b"]" * 30), "too_deep"
    yield gzip.compress(b"[" * 60_000), "too_deep"
    for value in (b"9" * 20, b"9" * 400, b"1e999", b"-1"):
        yield _raw(event, amount=value), "out_of_range"
    for value in (b"9" * 4_000, b"1e999", b"91"):
        yield _raw(event, latitude=value), "out_of_range"
    yield _raw(event, amount=b"NaN"), "not_json"
    yield _raw(event, latitude=b"Infinity"), "not_json"
    yield _raw(event, event_time=b"9" * 400), "out_of_range"
    yield _raw(event, event_time=b'"9999999-01-01T00:00:00Z"'), "bad_time"


def _hostile(arena: Arena, kinds: Sequence[_Corpus]) -> None:
    """Traffic with the worst of *kinds* among it, worked by workers that die in between."""
    items = _items(arena, Mix(transactions=120, malformed=0))
    event = {
        name: value
        for name, value in _event(_items(arena, replace(PLAIN, transactions=1), "bad")[0]).items()
        if name not in ("latitude", "longitude")
    }
    bad = [Item(data, code) for kind in kinds for data, code in kind(event)]
    for item in bad:
        items.insert(arena.choice.randint(0, len(items)), item)
    run = arena.shard(items=items, faults=[Fault(Port.PUT, 2, When.MIDDLE)])
    # Java hands over 10 MiB at most, and what it reads at once.
    run.largest = 40
    metrics = ScrapedMetrics(run)
    run.work()
    assert run.exits[-1] == 0
    # At least: what the worker that died had counted comes again.
    assert metrics.read(DEAD_LETTERS) >= len(bad)
    _note_seen(arena, metrics.read(DEAD_LETTERS))
    text = run.log.read_text()
    assert "Traceback" not in text
    assert len(text) < 200_000, "a log that repeats what it was sent"


for _kinds, _what in {
    (_bytes_of_no_event,): "empty records, broken UTF-8, broken JSON",
    (_oversized,): "records of 1 and 10 MiB, gzip bombs",
    (_deep_and_huge,): "deep nesting and huge numbers",
}.items():
    case(
        f"stream/{_what}",
        "each becomes one dead letter that names what is wrong, and all else is decided once",
        quick=_kinds == (_bytes_of_no_event,),
    )(partial(_hostile, kinds=_kinds))


_FLOOD: dict[str, Any] = {
    "DEAD_LETTERS__LIMIT_WINDOW": "100",
    "DEAD_LETTERS__LIMIT_SHARE": "0.3",
    # As large as it may become, so that the limit is met inside of a delivery.
    "WORKER__CHUNK_SIZE": "10",
}


def _flooded(arena: Arena, bad: Sequence[Item]) -> ShardRun:
    """A shard of good records, then *bad* ones, then good ones, that holds a worker."""
    good = _items(arena, _TODAY)
    run = arena.shard(items=[*good[:_GOOD], *bad, *good[_GOOD:]], **_FLOOD)
    run.largest = 25
    return run


_GOOD = 80
# Of 100 records 30 may be bad; among those on either side of the limit stand good ones.
_LET_PASS = 34


def _assert_held(arena: Arena, run: ShardRun) -> None:
    """
    Two starts are held and say why, and together let no more pass than one may.

    A start counts anew. Where only bad ones follow its checkpoint nothing may be checkpointed
    at all: else one start after another would drain the stream.
    """
    metrics = ScrapedMetrics(run)
    for _ in range(2):
        before = run.lease.checkpoint
        with run.owner() as owner:
            assert not owner.run(), "it was not held"
        assert run.exits[-1] == EXIT_FAILED
        after = run.lease.checkpoint
        if before is not None and before.sequence_number >= _GOOD:
            assert after == before, f"a start went on from {before} to {after}"
        assert after is None or after.sequence_number <= _GOOD + _LET_PASS
    reasons = [event["reason"] for event in read_log(run) if event["event"] == "held"]
    assert len(reasons) == 2
    assert all("dead_letters.limit_share = 0.3" in reason for reason in reasons), reasons
    _note_seen(arena, metrics.read(DEAD_LETTERS))


@case(
    "stream/a flood of bad records",
    "held with the reason, nothing checkpointed past it; with the limit raised it goes on there",
)
def _flood(arena: Arena) -> None:
    bad = [Item(b'{"type": "transaction"}', "missing_field") for _ in range(90)]
    run = _flooded(arena, bad)
    everything = run.placed
    run.placed = everything[:_GOOD]
    run.work()
    assert run.lease.checkpoint == everything[_GOOD - 1].position
    run.placed = everything
    _assert_held(arena, run)
    run.work(DEAD_LETTERS__LIMIT_SHARE="1")
    assert run.exits[-1] == 0


@case(
    "stream/a flood that the settings were the cause of",
    "held; once the settings know the new field all that was not let pass yet is decided",
)
def _flood_by_settings(arena: Arena) -> None:
    unknown = [
        replace(
            item,
            data=orjson.dumps({**_event(item), "loyalty": "gold"}),
            error="unknown_field",
        )
        for item in _items(arena, replace(_TODAY, transactions=90), "new")
    ]
    run = _flooded(arena, unknown)
    _assert_held(arena, run)
    told = dict(arena.place.find().letters)
    assert set(told.values()) == {"unknown_field"}
    passed = run.lease.checkpoint or Position(0)
    run.placed = [
        each if each.position <= passed else replace(each, item=replace(each.item, error=None))
        for each in run.placed
    ]
    ledger = _replace_ledger(arena, run)
    # What was not checkpointed has its letter too; a redrive of that finds the decision.
    ledger.letters.update(told)
    assert any(each.letter_id in told and each.item.error is None for each in run.placed)
    run.work(EVENTS__EXTRA_FIELDS='["loyalty"]')
    assert run.exits[-1] == 0


def _replace_ledger(arena: Arena, run: ShardRun) -> Ledger:
    """Read what *run* holds anew."""
    ledger = Ledger.of(run.placed)
    arena.shards[-1] = (run, ledger)
    assert isinstance(run.watch, PrefixWatch)
    run.watch.ledger = ledger
    return ledger


@case(
    "stream/bad records below the limit, again and again",
    "never held: each is one dead letter, and the shard goes on",
)
def _no_flood(arena: Arena) -> None:
    good = _items(arena, _TODAY)
    items = [
        each
        for number, item in enumerate(good)
        for each in ([item, Item(b"{", "not_json")] if number % 4 == 0 else [item])
    ]
    run = arena.shard(items=items, **_FLOOD)
    metrics = ScrapedMetrics(run)
    run.work()
    assert run.exits == [0]
    assert metrics.read(DEAD_LETTERS) == len(items) - len(good)
    _note_seen(arena, metrics.read(DEAD_LETTERS))


@case(
    "stream/a checkpoint that the stream no longer holds",
    "the worker takes up where the stream begins, and goes on from there as ever",
)
def _trimmed(arena: Arena) -> None:
    run = arena.shard(Mix(transactions=160), faults=[Fault(Port.DECIDE, 3, When.AFTER)])
    # Kinesis begins at its oldest record then; sequence numbers are not reused.
    run.placed = [
        replace(each, position=Position(each.position.sequence_number + 10**6))
        for each in run.placed
    ]
    _replace_ledger(arena, run)
    run.lease.checkpoint = Position(17, 3)
    # What was suspected up to the checkpoint does not come again, what follows it does.
    for first, last in (("9:0", "17:3"), ("17:4", f"{10**6 + 5}:0")):
        _suspect(arena, run, first, last)
    run.work()
    ranges = _worked_alone(run)
    assert ranges[0] == [f"17:4-{10**6 + 5}:0"], ranges
    assert _worked_alone_at_last(arena, run) == [], "it is suspected for ever"
    _note_seen(arena, len(ranges))


@case(
    "stream/a first position that is a word or far behind the stream",
    "whatever the KCL calls it, the worker begins there, and forgets no suspicion by it",
)
def _first_positions(arena: Arena) -> None:
    for word in ("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "SHARD_END", "0"):
        run = arena.shard(replace(_TODAY, transactions=20))
        run.first_position = word
        _suspect(arena, run, "1:0", "4:0")
        run.work()
        assert run.exits == [0]
        assert _worked_alone(run) == [["1:0-4:0"]]
        assert _worked_alone_at_last(arena, run) == []
        _note_seen(arena, len(_worked_alone(run)))


def _suspect(arena: Arena, run: ShardRun, first: str, last: str) -> None:
    """Leave a death behind, as the supervisor does, with the records up to *last* under way."""
    death = Death("SIGKILL", "decode", 0.1, run.placed[0].arrival_ms, (first, last))
    accuse(arena.folder / "run", SETTINGS.kcl.application_name, ShardId(run.shard_id), death)


def _worked_alone(run: ShardRun) -> list[list[str]]:
    """The ranges that each worker said it works record by record."""
    told = [event for event in read_log(run) if "one by one" in event["event"]]
    return [event["ranges"] for event in told]


def _worked_alone_at_last(arena: Arena, run: ShardRun) -> list[list[str]]:
    """The ranges that are still suspected."""
    application = SETTINGS.kcl.application_name
    path = case_path(arena.folder / "run", application, ShardId(run.shard_id))
    found: list[list[str]] = orjson.loads(path.read_bytes())["ranges"] if path.exists() else []
    return found


def _history(arena: Arena, items: Sequence[Item]) -> list[tuple[Item, Transaction]]:
    rules = DecodeRules.of(SETTINGS.events)
    decoded = [(item, decode(item.data, rules)) for item in items]
    return [(item, event) for item, event in decoded if isinstance(event, Transaction)]


@case(
    "stream/a late start: history to T0 from files, the stream from before T0",
    "what both hold is counted once and decided by the stream; no hole, no overlap",
)
def _go_live(arena: Arena) -> None:
    """As ``consumer.local.learning`` fills the store, in chunks, before the first worker."""
    mix = Mix(transactions=320, labels=0, malformed=0, conflicts=0, late=0.1, expired=0, ahead=0)
    items = _items(arena, mix)
    begin, end = len(items) // 2, len(items) * 5 // 8
    history = _history(arena, items[:end])
    for start in range(0, len(history), 50):
        arena.store.observe(
            [
                Observe(transaction, int(transaction.event_time.timestamp()))
                for _, transaction in history[start : start + 50]
            ]
        )
    faults = [Fault(Port.OBSERVE, 2, When.AFTER), Fault(Port.DECIDE, 4, When.MIDDLE)]
    run = arena.shard(items=items[begin:], faults=faults)
    told = place([item for item, _ in history], "history", run.placed[0].arrival_ms)
    # The oracle counts history first, in its order; nothing of it alone has a document.
    arena.shards[0][1].story[:0] = [(each, as_observed(each)) for each in told]
    run.work()
    documents = arena.place.find().documents.values()
    _note_seen(arena, sum("repeated" in document["applied"] for document in documents))


@case(
    "stream/two owners in parallel, with deliveries and chunks of other sizes",
    "both work everything at once; each transaction is decided and counted once",
)
def _two_owners(arena: Arena) -> None:
    run = arena.shard(Mix(transactions=300, hot=True, labels=0.2, malformed=0.06))
    # The first never asks for a checkpoint before its end, and so never learns of the second.
    never = {"WORKER__CHECKPOINT_INTERVAL_S": _NEVER_S}
    metrics = ScrapedMetrics(run)
    with (
        run.owner(WORKER__CHUNK_SIZE="3", **never) as first,
        run.owner(WORKER__CHUNK_SIZE="64") as second,
    ):
        first.sizes, second.sizes = (1, 9), (100, 200)
        first.begin()
        second.begin()
        first.join()
        second.join()
    assert run.exits == [0, 0]
    # Once each: by whichever owner was second at it.
    _note_seen(arena, metrics.read(RECORDS, outcome="redelivered"))


@case(
    "stream/two owners in parallel, the larger deliveries die",
    "whoever is left finishes; nothing is lost between the two",
)
def _two_owners_and_a_death(arena: Arena) -> None:
    faults = [Fault(Port.DECIDE, 3, When.MIDDLE), Fault(Port.OBSERVE, 2, When.AFTER)]
    run = arena.shard(Mix(transactions=240, hot=True, labels=0.2), faults=faults)
    with run.owner(WORKER__CHUNK_SIZE="40") as first, run.owner(WORKER__CHUNK_SIZE="5") as second:
        first.sizes, second.sizes = (60, 90), (1, 6)
        first.begin()
        second.begin()
        first.join()
        second.join()
    run.work()


_LIFETIME_H = 25


@case(
    "stream/a backlog older than documents live",
    "what is too old is one dead letter `stale` and never decided, the rest is decided once",
)
def _stale(arena: Arena) -> None:
    """As after an outage of two days, with a stream that keeps records longer."""
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    mix = Mix(transactions=240, span_s=50 * 3_600, ahead=0, expired=0, labels=0.1)
    items = []
    arrived_ms = 0
    for item in _items(arena, mix):
        if item.error is None and _event(item)["type"] == "transaction":
            arrived_ms = max(arrived_ms, event_time_ms(_event(item)) + 2_000)
        ago_ms = now_ms - arrived_ms if arrived_ms else 50 * _HOUR_MS
        # A minute around the edge would depend on when it is worked.
        if abs(ago_ms - _LIFETIME_H * _HOUR_MS) > 120_000:
            stale = ago_ms > _LIFETIME_H * _HOUR_MS
            items.append(replace(item, ago_ms=ago_ms, error="stale" if stale else item.error))
    faults = [Fault(Port.PUT, 2, When.AFTER), Fault(Port.DECIDE, 2, When.AFTER)]
    run = arena.shard(
        items=items,
        faults=faults,
        REDIS__DOCUMENT_TTL_S=str(_LIFETIME_H * 3_600),
        DEAD_LETTERS__LIMIT_SHARE="1",
    )
    metrics = ScrapedMetrics(run)
    run.work()
    _note_seen(arena, metrics.read(DEAD_LETTERS, error="stale"))


@case(
    "stream/settings in which the stream keeps records longer than documents live",
    "refused before anything is worked, with both figures",
)
def _retention(arena: Arena) -> None:
    """The whole daemon, as an operator starts it."""
    run = arena.shard(
        _TODAY,
        REDIS__DOCUMENT_TTL_S="100000",
        KCL__STREAM_NAME=arena.name,
        SUPERVISOR__PORT="0",
        LOGS__FORMAT="json",
    )
    with closing(session(arena.lab.stack.aws_url).client("kinesis")) as kinesis:
        kinesis.create_stream(StreamName=arena.name, ShardCount=1)
        kinesis.increase_stream_retention_period(StreamName=arena.name, RetentionPeriodHours=48)
        with run.log.open("wb") as log:
            daemon = subprocess.run(
                [sys.executable, "-m", "consumer", "run"],
                env=dict(run.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                timeout=120,
                check=False,
            )
        kinesis.delete_stream(StreamName=arena.name)
    said = run.log.read_text()
    assert daemon.returncode == EX_MISCONFIGURED, f"it left with {daemon.returncode}: {said}"
    for word in ("redis.document_ttl_s", "100000 s", "172800 s", arena.name):
        assert word in said, said
    assert "Traceback" not in said
    assert not arena.place.find().documents
    _note_seen(arena, said.count("redis.document_ttl_s"))
    arena.shards.clear()
