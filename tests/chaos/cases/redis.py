"""Redis through a proxy that cuts, refuses and delays: nothing is lost, nothing counted twice."""

import time
from dataclasses import replace
from functools import partial

import orjson

from consumer.adapters.kinesis import EXIT_UNAVAILABLE
from tests.chaos.arena import Arena
from tests.chaos.faults import Act, Fault, Port
from tests.chaos.proxy import (
    BUSY,
    LOADING,
    MISCONF,
    NOREPLICAS,
    OOM,
    READONLY,
    Disturbance,
    How,
)
from tests.chaos.registry import case
from tests.chaos.servers import await_that, log_lines, stopped, waits, working
from tests.chaos.shard import ShardRun
from tests.chaos.traffic import NEAR, PLAIN, Item, Mix, build_traffic

ONCE = "whatever was applied before the connection was cut is not applied again"
# Many labels, some of them ahead of their transactions, and few chunks.
_MIX = Mix(transactions=120, hot=True, labels=0.5)
_OBSERVE, _DECIDE, _LABEL = b"_card\r\n", b"fraudstream_decide_2\r\n", b"fraudstream_label_2\r\n"
_COUNT_LABEL = b"_terminal_label\r\n"
_CALL = b"FCALL\r\n"
_CUTS = {
    How.CUT_BEFORE: "before the command",
    How.CUT_AFTER: "in the middle of a pipeline",
    How.CUT_REPLIES: "before the replies",
}


def _short(arena: Arena, mix: Mix = _MIX) -> ShardRun:
    """A shard in a few deliveries."""
    run = arena.shard(mix)
    run.smallest, run.largest = 40, 120
    return run


def _cut(where: bytes, how: How, arena: Arena) -> None:
    """Three times, each at some call, and once again right after the first."""
    run = _short(arena)
    nth = [arena.choice.randint(2, 8), arena.choice.randint(9, 16), arena.choice.randint(17, 24)]
    with arena.proxy() as proxy:
        proxy.disturb(*(Disturbance(how, where, each) for each in nth))
        proxy.disturb(Disturbance(how, where, nth[0] + 1))
        run.work(REDIS__URL=proxy.url)
        assert len(proxy.injected) == len(nth) + 1, "not every cut took place"
    # Replies of one pipeline can be cut for several reasons at once.
    together = len(nth) if how is How.CUT_REPLIES else 0
    assert len(nth) + 1 - together <= waits(run) <= len(nth) + 1
    assert run.exits == [0]


for _where, _what in {
    _OBSERVE: "the feature update",
    _DECIDE: "the documents",
    _LABEL: "the labels of documents",
    _COUNT_LABEL: "the labels of entities",
}.items():
    for _how, _when in _CUTS.items():
        case(
            f"redis/cut {_when} at {_what}",
            ONCE,
            quick=_where is _DECIDE and _how is How.CUT_AFTER,
        )(partial(_cut, _where, _how))


def _names_waited_for(run: ShardRun) -> list[str]:
    """Transactions of *run* whose label comes first, in their order."""
    waiting: set[str] = set()
    known: dict[str, bool] = {}
    for placed in run.placed:
        if placed.item.error is not None:
            continue
        name = str(placed.event["transaction_id"])
        if placed.event["type"] == "label":
            waiting |= {name} - known.keys()
        else:
            known.setdefault(name, name in waiting)
    return [name for name, waited in known.items() if waited]


def _cut_take_over(how: How, arena: Arena) -> None:
    run = _short(arena)
    names = _names_waited_for(run)
    assert len(names) > 2, "too few labels come first"
    with arena.proxy() as proxy:
        proxy.disturb(
            *(
                Disturbance(how, b"fraudstream_decide_2\r\n", also=f"{{tx:{name}}}".encode())
                for name in names[:3]
            )
        )
        run.work(REDIS__URL=proxy.url)
        assert len(proxy.injected) == 3, "not every cut took place"
    assert run.exits == [0]


for _how, _when in _CUTS.items():
    case(
        f"redis/cut {_when} at the take-over of a label that waited",
        "the label is on its document and in its entities, once",
    )(partial(_cut_take_over, _how))


@case(
    "redis/refused at the first of two records of one id, and healed before the second",
    "the first decides all the same; the other one, which says something else, is a conflict",
)
def _refuse_first(arena: Arena) -> None:
    """Both in one chunk, and the server takes what comes later in the same pipeline."""
    now_ms = time.time_ns() // 1_000_000
    items = build_traffic(f"{arena.name}0", replace(PLAIN, transactions=90), arena.choice, now_ms)
    names = []
    for index in (70, 45, 12):
        event = orjson.loads(items[index].data)
        names.append(event["transaction_id"])
        items.insert(index + 1, Item(orjson.dumps({**event, "amount": "4999.99"})))
    run = arena.shard(items=items, WORKER__CHUNK_SIZE="100")
    run.smallest = run.largest = 100
    with arena.proxy() as proxy:
        proxy.disturb(
            *(
                Disturbance(How.ERROR, _DECIDE, text=LOADING, also=f"{{tx:{name}}}".encode())
                for name in names
            )
        )
        run.work(REDIS__URL=proxy.url)
        assert len(proxy.injected) == len(names), "not every refusal took place"
    assert sorted(code for _, code in arena.place.find().letters) == ["conflict"] * len(names)
    assert run.exits == [0]


def _refuse(text: str, arena: Arena) -> None:
    """From the middle of a pipeline on, for several attempts."""
    run = _short(arena, NEAR)
    with arena.proxy() as proxy:
        for where, times in ((_OBSERVE, 50), (_DECIDE, 30), (_LABEL, 2), (_COUNT_LABEL, 2)):
            nth = arena.choice.randint(3, 17)
            proxy.disturb(Disturbance(How.ERROR, where, nth, times, text=text))
        run.work(REDIS__URL=proxy.url)
        assert len(proxy.injected) == 84, "not every refusal took place"
    assert waits(run, text.split()[1]) >= 5, "the waits do not say why"
    assert run.exits == [0]


for _text in (LOADING, READONLY, OOM, BUSY, MISCONF, NOREPLICAS):
    case(
        f"redis/{_text.split()[0]} answered for a while",
        "the worker waits in place and goes on where it was",
    )(partial(_refuse, _text))


@case("redis/every reply is slow", "slow replies are waited for: no retry, nothing degraded")
def _slow(arena: Arena) -> None:
    run = _short(arena)
    with arena.proxy() as proxy:
        # Each burst is held back once, however many of its calls are named.
        proxy.disturb(Disturbance(How.DELAY, _CALL, nth=3, times=1_000_000, seconds=0.02))
        run.work(REDIS__URL=proxy.url)
    assert waits(run) == 0
    assert run.exits == [0]


@case("redis/a reply that never comes", "the worker asks again on a new connection")
def _silent(arena: Arena) -> None:
    run = _short(arena)
    with arena.proxy() as proxy:
        places = (_OBSERVE, _DECIDE, _LABEL, _COUNT_LABEL)
        proxy.disturb(*(Disturbance(How.DELAY, where, 7, seconds=30) for where in places))
        run.work(REDIS__URL=proxy.url, REDIS__TIMEOUT_S="0.6")
        assert len(proxy.injected) == len(places)
    assert waits(run, "imeout") == len(places)
    assert run.exits == [0]


@case("redis/down when a worker starts", "it waits, and starts when Redis is there")
def _down_at_start(arena: Arena) -> None:
    with arena.proxy() as proxy:
        run = arena.shard(REDIS__URL=proxy.url)
        proxy.refuse()
        with working(run):
            await_that(lambda: waits(run) >= 3, "the worker waits")
            proxy.heal()
    assert run.exits == [0]


@case(
    "redis/down for longer than the limit",
    "workers leave with 75 and without a checkpoint, and what they had begun is done later, once",
)
def _down_too_long(arena: Arena) -> None:
    faults = [Fault(Port.OBSERVE, 3, act=Act.STOP), Fault(Port.DECIDE, 2, act=Act.STOP)]
    with arena.proxy() as proxy:
        run = arena.shard(
            _MIX,
            faults=faults,
            REDIS__URL=proxy.url,
            REDIS__OUTAGE_LIMIT_S="0.8",
            REDIS__TIMEOUT_S="0.6",
        )
        run.largest = 60
        for nth in range(1, len(faults) + 1):
            with run.owner() as owner:
                owner.begin()
                with stopped(arena, nth):
                    proxy.refuse()
                owner.join()
                assert owner.died
            proxy.heal()
        # And one that finds nobody at its start.
        proxy.refuse()
        with run.owner() as owner:
            assert not owner.run()
        proxy.heal()
        run.work()
    assert run.exits == [EXIT_UNAVAILABLE] * 3 + [0]
    assert len(log_lines(run, "leaving without a checkpoint")) == 3


@case(
    "redis/one layer retries",
    "a command whose reply was lost comes again once for each wait that the worker logged",
    quick=True,
)
def _one_layer(arena: Arena) -> None:
    # No record is a repetition of another one, so that no call is either.
    run = _short(arena, Mix(transactions=120, duplicates=0, conflicts=0, labels=0))
    starting = (Disturbance(How.CUT_AFTER, b"LOAD\r\n"), Disturbance(How.CUT_AFTER, b"CREATE\r\n"))
    calls = [
        Disturbance(How.CUT_AFTER, _OBSERVE, 9),
        Disturbance(How.CUT_REPLIES, b"_merchant\r\n", 50),
        Disturbance(How.CUT_AFTER, _DECIDE, 30),
        Disturbance(How.CUT_REPLIES, _DECIDE, 70),
    ]
    with arena.proxy() as proxy:
        proxy.disturb(*starting, *calls)
        run.work(REDIS__URL=proxy.url)
        assert len(proxy.taken) == len(starting) + len(calls)
        assert waits(run) == len(proxy.taken), "somebody asked again and did not say so"
        arrived = [proxy.arrivals[command] for command in proxy.taken if _CALL in command]
    assert arrived == [2] * len(calls), f"calls whose reply was lost came {arrived} times"
    assert run.exits == [0]
