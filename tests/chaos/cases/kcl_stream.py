"""The stream under the real KCL: splits and merges, leases that move, aggregates, throttling."""

import base64
import gzip
import hashlib
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from consumer.autopsy import WORKER_LEFT
from consumer.heartbeat import read_heartbeats
from consumer.model import Position
from consumer.stages import WAITING
from consumer.supervisor import EXIT_CUT_SHORT
from tests.chaos.faults import Fault, Port, When
from tests.chaos.gateway import Fails, HttpFault
from tests.chaos.kcl import HASH_KEYS, SHARDS, ChaosDaemon, KclArena, kcl_case
from tests.chaos.resharding import ReshardingArena, resharding_case
from tests.chaos.traffic import Item, Mix, Placed, build_traffic
from tests.e2e.kcl_daemon import eventually

_MIX = Mix(transactions=60, hot=True, labels=0.2, ahead=0)
_SHARDS = 4
_CARD_NUMBER = b"4929420573595709"


def _throttled(times: int, containing: bytes = b"checkpointSubSequenceNumber") -> HttpFault:
    """DynamoDB refuses the next *times* writes of checkpoints, as a table without capacity does."""
    return HttpFault(
        "DynamoDB_20120810.UpdateItem",
        Fails.REFUSED,
        times=times,
        status=400,
        error="ProvisionedThroughputExceededException",
        containing=containing,
    )


def _split_all(arena: ReshardingArena) -> None:
    for shard in arena.open_shards():
        arena.split(shard)


def _merge_middle(arena: ReshardingArena) -> None:
    _, left, right, *_ = arena.open_shards()
    arena.merge(left, right)


@resharding_case(
    "kcl/split and merge under load, the ends of shards throttled",
    "children wait for all their parents, the order of each card is kept, nothing is lost",
)
def _reshard(arena: ReshardingArena) -> None:
    arena.open_stream(2)
    daemon = arena.daemon()
    daemon.await_workers()
    arena.lab.gateway.fail(_throttled(5, b"SHARD_END"))
    with arena.sending(arena.lanes(4, _MIX), pause_s=0.04):
        arena.await_decided(40)
        _split_all(arena)
        arena.await_decided(120)
        _merge_middle(arena)
    arena.await_worked()
    assert len(arena.open_shards()) == 3
    assert len({placed.shard_id for _, placed in arena.sent}) >= 6


@resharding_case(
    "kcl/a backlog across splits and merges, workers killed",
    "parents are read to their ends first, and deaths on the way change nothing",
)
def _backlog(arena: ReshardingArena) -> None:
    arena.open_stream(2)
    daemon = arena.daemon()
    # The server tells a KCL without leases of no shard that has ended, so it gets them first.
    daemon.await_workers()
    assert daemon.stop() == 0
    lanes = arena.lanes(4, _MIX)
    thirds = [
        [replace(lane, items=_third(lane.items, part)) for lane in lanes] for part in range(3)
    ]
    arena.send(thirds[0])
    _split_all(arena)
    arena.send(thirds[1])
    _merge_middle(arena)
    arena.faults.plan(
        "case", [Fault(Port.DECIDE, 2, When.MIDDLE), Fault(Port.DRAIN, 1, When.AFTER)]
    )
    daemon.start()
    with arena.sending(thirds[2], pause_s=0.05):
        arena.await_decided(60)
    arena.await_worked()
    assert len(arena.faults.fired()) == 2


@resharding_case(
    "kcl/enhanced fan-out, a worker killed",
    "what is pushed is decided once, as what is polled",
)
def _fan_out(arena: ReshardingArena) -> None:
    """Without a split: the server pushes no end of a shard."""
    arena.open_stream(2)
    arena.daemon(KCL__RETRIEVAL_MODE="FANOUT").await_workers()
    arena.faults.plan(
        "case", [Fault(Port.DECIDE, 2, When.MIDDLE), Fault(Port.CHECKPOINT, 1, When.BEFORE)]
    )
    arena.send(arena.lanes(2, _MIX))
    arena.await_worked()
    assert len(arena.faults.fired()) == 2


def _third(items: Sequence[Item], part: int) -> Sequence[Item]:
    size = len(items) // 3 + 1
    return items[part * size : (part + 1) * size]


@resharding_case(
    "kcl/leases move between two daemons that start and stop in turns",
    "each goes on where the other one was; nothing is lost, decided or counted twice",
)
def _turns(arena: ReshardingArena) -> None:
    arena.open_stream(_SHARDS)
    first = arena.daemon()
    eventually(lambda: len(first.workers()) == _SHARDS, "the first daemon has all shards", 150)
    with arena.sending(arena.lanes(_SHARDS, _MIX), pause_s=0.1):
        arena.await_decided(30)
        second = arena.daemon()
        eventually(lambda: _owned(arena, second) >= 1, "the second daemon owns a lease", 120)
        assert first.stop() == 0
        arena.count.note()
        eventually(lambda: _owned(arena, second) == _SHARDS, "the second daemon owns all", 150)
        first.start()
        arena.count.note()
    arena.await_worked()


def _owned(arena: ReshardingArena, daemon: ChaosDaemon) -> int:
    """The number of leases that *daemon* holds; the checkpoints are looked at on the way."""
    arena.look()
    worker = daemon.environment["FRAUDSTREAM_KCL__WORKER_ID"]
    return sum(owner == worker for owner, _ in daemon.leases().values())


def _varint(number: int) -> bytes:
    """*number* as protocol buffers write it."""
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def _field(number: int, content: bytes | int) -> bytes:
    """A field of a protocol buffer: bytes with their length, or a number."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _aggregate(items: Iterable[Item], hash_key: str) -> bytes:
    """
    *items* as user records of one record of the KPL.

    See "KPL aggregated record format" in awslabs/amazon-kinesis-producer: magic, a
    protocol buffer of tables of keys and of records that name them, its MD5.
    """
    body = _field(1, b"key") + _field(2, hash_key.encode())
    for item in items:
        body += _field(3, _field(1, 0) + _field(2, 0) + _field(3, item.data))
    return _wrap(body)


def _wrap(body: bytes) -> bytes:
    return b"\xf3\x89\x9a\xc2" + body + hashlib.md5(body, usedforsecurity=False).digest()


def _put(
    arena: KclArena, shard: int, records: Sequence[tuple[bytes, Sequence[Item]]]
) -> list[Placed]:
    """Put each record; return its items as the KCL hands them over."""
    session = arena.session
    placed = []
    for data, items in records:
        answer = session.kinesis.put_record(
            StreamName=session.daemon.stream,
            Data=data,
            PartitionKey="key",
            ExplicitHashKey=HASH_KEYS[shard],
        )
        assert answer["ShardId"] == SHARDS[shard]
        number = int(answer["SequenceNumber"])
        placed += [
            Placed(item, Position(number, sub), time.time_ns() // 1_000_000, SHARDS[shard])
            for sub, item in enumerate(items)
        ]
    arena.sent += len(placed)
    session.add(placed)
    return placed


def _runs(items: Sequence[Item], choice: random.Random) -> Iterator[Sequence[Item]]:
    """*items* in runs of 2 to 40."""
    start = 0
    while start < len(items):
        size = choice.randint(2, 40)
        yield items[start : start + size]
        start += size


def _traffic(arena: KclArena, shard: int, mix: Mix = _MIX) -> list[Item]:
    number = len(arena.session.ledgers)
    name = f"{arena.session.name}a{number}s{shard}"
    return build_traffic(name, mix, arena.choice, time.time_ns() // 1_000_000)


@kcl_case(
    "kcl/aggregates of the KPL, workers killed inside of them",
    "each user record is decided and counted once, from the sub-sequence that was reached",
)
def _aggregates(arena: KclArena) -> None:
    arena.plan(Fault(Port.DECIDE, 2, When.MIDDLE), Fault(Port.CHECKPOINT, 2, When.AFTER))
    for shard in range(len(SHARDS)):
        items = _traffic(arena, shard, Mix(transactions=150, malformed=0.05, ahead=0))
        records = [(_aggregate(run, HASH_KEYS[shard]), run) for run in _runs(items, arena.choice)]
        _put(arena, shard, records)
    arena.await_worked()
    assert len(arena.injected()) == 2


def _corrupted(arena: KclArena) -> list[bytes]:
    """Aggregates that hold a card number and cannot be read."""
    secret = b'{"card":"' + _CARD_NUMBER + b'"}'
    whole = _aggregate([Item(secret)] * 3, HASH_KEYS[0])
    position = arena.choice.randrange(4, len(whole) - 16)
    flipped = bytes([whole[position] ^ 0xFF])
    return [
        # A right checksum over what is no protocol buffer, and a record that is cut.
        _wrap(b"\xff" * 8 + secret),
        _wrap(whole[4:-16][:-9]),
        _wrap(_field(3, _field(1, 7) + _field(3, secret))),
        # A wrong checksum.
        whole[:position] + flipped + whole[position + 1 :],
        whole[:-20],
        b"\xf3\x89\x9a\xc2",
        whole[:4] + whole[-16:],
    ]


@kcl_case(
    "kcl/corrupt aggregates of the KPL",
    "each is one dead letter, the shard goes on, and no log shows what they hold",
)
def _corrupt_aggregates(arena: KclArena) -> None:
    records: list[tuple[bytes, list[Item]]] = [(item.data, [item]) for item in _traffic(arena, 0)]
    corrupted = _corrupted(arena)
    for data in corrupted:
        place = arena.choice.randint(0, len(records))
        records.insert(place, (data, [Item(data, "not_utf8")]))
    put = _put(arena, 0, records)
    arena.await_worked()
    # Each of them is looked for by the checker; what was stored counts here.
    named = {placed.letter_id for placed in put if placed.item.data in corrupted}
    for _ in named & arena.session.place.letter_ids():
        arena.count.note()
    _assert_kept_out(arena)


def _assert_kept_out(arena: KclArena) -> None:
    """No log of the daemon and no letter shows the card number, plain or in base64."""
    shown = [_CARD_NUMBER]
    for lead in range(3):
        text = base64.b64encode(b"x" * lead + _CARD_NUMBER)
        # Without the ends, which depend on what stands beside it.
        shown.append(text[4:-4])
    places = {"the log": arena.daemon.log.read_bytes()}
    for key in arena.session.place.letter_keys():
        body = arena.session.place.s3.get_object(Bucket=arena.session.place.bucket, Key=key)[
            "Body"
        ].read()
        places[key] = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
    for place, text in places.items():
        for secret in shown:
            assert secret not in text, f"{place} shows {secret.decode()}"


def _waits_for_dynamodb(arena: KclArena) -> bool:
    """Whether a worker says in its heartbeat that it waits for DynamoDB, as ``/readyz`` shows."""
    states = read_heartbeats(arena.session.folder / "run")
    return any(state.stage == f"{WAITING}dynamodb" for state in states)


@kcl_case(
    "kcl/checkpoints that DynamoDB throttles",
    "the workers wait in place and say so; each checkpoint is stored, and nobody is restarted",
)
def _throttled_checkpoints(arena: KclArena) -> None:
    workers, logged = set(arena.daemon.workers()), len(arena.daemon.events())
    # The SDK tries two or three times before a worker hears of it.
    arena.session.lab.gateway.fail(_throttled(8))
    arena.send(_MIX)
    eventually(lambda: _waits_for_dynamodb(arena), "a worker that waits for DynamoDB")
    arena.await_worked()
    assert len(arena.injected()) == 8
    told = arena.daemon.events()[logged:]
    assert any(event.get("dependency") == "dynamodb" for event in told)
    assert not [event for event in told if event["event"] == "restarting the KCL"]
    assert set(arena.daemon.workers()) == workers
    _, metrics = arena.daemon.get("/metrics")
    assert b'fraudstream_dependency_errors_total{cause="unavailable",dependency="dynamodb"}' in (
        metrics
    )


@kcl_case(
    "kcl/checkpoints that DynamoDB throttles for longer than a worker waits",
    "the worker leaves by itself, before any watchdog; what it had done comes again and is known",
)
def _throttled_for_long(arena: KclArena) -> None:
    logged = len(arena.daemon.events())
    arena.session.lab.gateway.fail(_throttled(1_000))
    arena.send(_MIX)

    def endings() -> list[dict[str, object]]:
        told = arena.daemon.events()[logged:]
        return [event for event in told if event["event"] == "restarting the KCL"]

    eventually(endings, "a worker that leaves", 120.0)
    arena.session.lab.gateway.end()
    arena.await_worked()
    (ending,) = endings()
    assert ending["cause"] == WORKER_LEFT, ending
    assert str(ending["how"]).startswith("dynamodb: checkpoint refused"), ending


@kcl_case(
    "kcl/checkpoints that DynamoDB throttles at shutdown",
    "each worker gives up in time, by itself, and says why; what it had done comes again",
)
def _throttled_shutdown(arena: KclArena) -> None:
    arena.slow_endpoints(0.15)
    arena.send(_MIX)
    arena.await_decided(20)
    logged = len(arena.daemon.events())
    arena.session.lab.gateway.fail(_throttled(1_000))
    assert arena.daemon.stop(90) == EXIT_CUT_SHORT
    assert arena.injected()
    told = arena.daemon.events()[logged:]
    reasons = [str(each["reason"]) for each in told if each["event"] == "cut off while draining"]
    assert reasons
    assert all(reason.startswith("dynamodb: checkpoint refused") for reason in reasons), reasons
    assert not [event for event in told if str(event["event"]).startswith("stopped before")]
    arena.session.lab.gateway.end()
    arena.daemon.start()
