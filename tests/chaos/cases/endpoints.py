"""
Model endpoints that refuse, hang, drip, lie or are gone, and are well again later.

Each case has three parts of one stream: well, sick, healed. What was decided in the first
and the last has both scores; in the second, every decision stands within its deadline and
names the cause.
"""

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median

from consumer.local.findings import read_documents
from consumer.metrics import BREAKER_STATE, DEGRADED
from tests.chaos.arena import Arena
from tests.chaos.faults import Act, Count, Fault, Port
from tests.chaos.found import Document
from tests.chaos.lab import score, score_by_formula
from tests.chaos.reading import ScrapedMetrics, read_log
from tests.chaos.registry import case
from tests.chaos.shard import Owner, ShardRun
from tests.chaos.traffic import PLAIN, Mix
from tests.sagemaker_server import (
    Answer,
    Handler,
    Request,
    anomaly_scores,
    body,
    drip,
    hang,
    no_http,
    predictions,
    reset,
    status,
)
from tests.scripted_server import close

_ENDPOINTS = ("fraud", "anomaly")
_OPEN = "breaker_open"
_OPEN_S = 0.4
_DELIVERY = 10
# For a machine with far more to do than its cores. What it adds it does not add to every
# decision, so the quickest of those that waited tells how long the deadline let them.
_ALLOWANCE_MS = 6_000
_QUICKEST_ALLOWANCE_MS = 2_000
_MIX = Mix(transactions=120, hot=True, labels=0.1)
_EXPECTED = (
    "decided within the deadline, degraded with the cause and the known score, the breaker "
    "opens and closes, then all is complete again"
)


@dataclass(slots=True)
class _Sickness:
    """Answers *answer* for the *sick* endpoints while it lasts, and is counted."""

    answer: Answer
    count: Count
    sick: tuple[str, ...] = _ENDPOINTS
    lasts: threading.Event = field(default_factory=threading.Event)

    def __call__(self, handler: Handler, request: Request) -> None:
        # Both names begin with that of the package, which holds "fraud".
        name = "anomaly" if "anomaly" in request.path else "fraud"
        if name in self.sick and self.lasts.is_set():
            self.count.note()
            self.answer(handler, request)
        else:
            score_by_formula(handler, request)


@dataclass(slots=True)
class _Phases:
    """Where in the stream the sickness begins and ends; a third each."""

    run: ShardRun
    sickness: _Sickness
    begins: int = field(init=False)
    ends: int = field(init=False)

    def __post_init__(self) -> None:
        third = len(self.run.placed) // (3 * _DELIVERY)
        self.begins, self.ends = third * _DELIVERY, 2 * third * _DELIVERY
        self.run.smallest = self.run.largest = _DELIVERY
        self.run.before_delivery = self._step

    def _step(self, _owner: Owner, index: int) -> None:
        if index == self.begins:
            self.sickness.lasts.set()
        if index == self.ends:
            self.sickness.lasts.clear()
            # From now on the breaker lets requests through that try the endpoint.
            time.sleep(_OPEN_S + 0.2)

    def is_sick(self, document: Document) -> bool:
        """Whether *document* was decided in the second part."""
        number = int(str(document["origin"]["position"]).partition(":")[0])
        return self.begins < number <= self.ends


def _breaker(deadline_ms: int) -> dict[str, str]:
    return {
        "SCORING__DEADLINE_MS": str(deadline_ms),
        "SCORING__CONNECT_TIMEOUT_MS": str(deadline_ms),
        "SCORING__BREAKER__WINDOW": "4",
        "SCORING__BREAKER__MINIMUM": "2",
        "SCORING__BREAKER__OPEN_S": str(_OPEN_S),
        "SCORING__BREAKER__PROBES": "1",
    }


def _took_ms(document: Document) -> int:
    """From the delivery of its record until *document* was stored."""
    return int(document["stored_ms"] - document["origin"]["received_ms"])


def _assert_decided_in_time(documents: Iterable[Document], deadline_ms: int) -> None:
    """Each decision within the deadline, and those that waited for a model no longer than that."""
    waited = []
    for document in documents:
        took_ms = _took_ms(document)
        assert took_ms <= deadline_ms + _ALLOWANCE_MS, f"{took_ms} ms for {document['origin']}"
        if any(cause.endswith(":timeout") for cause in document["degraded"]):
            waited.append(took_ms)
    if waited:
        quickest_ms = min(waited)
        # Two clocks may differ by some milliseconds.
        within = deadline_ms - 50 <= quickest_ms <= deadline_ms + _QUICKEST_ALLOWANCE_MS
        assert within, f"the quickest took {quickest_ms} ms, with a deadline of {deadline_ms} ms"


def _assert_degraded(
    documents: Iterable[Document], sick: Iterable[str], causes: Iterable[str]
) -> None:
    """Each lacks the scores of the *sick* ones, says why, and has the others."""
    allowed = {name: {f"{name}:{cause}" for cause in (*causes, _OPEN)} for name in sick}
    seen: set[str] = set()
    for document in documents:
        found = document["degraded"]
        seen.update(found)
        for name, own_causes in allowed.items():
            own = [cause for cause in found if cause.startswith(f"{name}:")]
            assert len(own) == 1, f"the causes of {name} are {own}"
            assert own[0] in own_causes, f"the cause is {own[0]}, expected {own_causes}"
        amount = document["transaction"]["amount"]
        known = dict(zip(_ENDPOINTS, score(amount), strict=True))
        expected = {name: known[name] for name in _ENDPOINTS if name not in allowed}
        assert document["scores"] == expected, f"{document['scores']}, expected {expected}"
        assert len(found) == len(allowed), f"{found} for {sorted(allowed)}"
    for name, own_causes in allowed.items():
        assert f"{name}:{_OPEN}" in seen, f"the breaker of {name} refused nothing: {seen}"
        assert seen & own_causes - {f"{name}:{_OPEN}"}, f"no {name} with its cause: {seen}"


def _assert_breakers(run: ShardRun, metrics: ScrapedMetrics, sick: Iterable[str]) -> None:
    """Those of the *sick* ones opened, no other did, and all are closed at the end."""
    opened = {
        event["endpoint"]
        for event in read_log(run)
        if event["event"] == "breaker changed" and event["state"] == "open"
    }
    assert opened == set(sick), f"breakers opened: {opened}"
    for name in _ENDPOINTS:
        assert metrics.read(BREAKER_STATE, endpoint=name) == 0, f"the breaker of {name}"


def _documents(arena: Arena) -> Mapping[str, Document]:
    return read_documents(arena.lab.redis)


def _sick(
    answer: Answer, causes: tuple[str, ...], sick: tuple[str, ...], deadline_ms: int, arena: Arena
) -> None:
    """Answer *answer* in the second third of a stream."""
    arena.degraded = True
    sickness = _Sickness(answer, arena.count, sick)
    arena.lab.endpoints.always(sickness)
    run = arena.shard(_MIX)
    run.configure(_breaker(deadline_ms))
    metrics = ScrapedMetrics(run)
    phases = _Phases(run, sickness)
    run.work()
    assert run.exits == [0]
    documents = list(_documents(arena).values())
    ill = [document for document in documents if phases.is_sick(document)]
    assert ill
    assert metrics.read(DEGRADED) == len(ill) * len(sick)
    _assert_decided_in_time(documents, deadline_ms)
    _assert_degraded(ill, sick, causes)
    whole = [document for document in documents if not phases.is_sick(document)]
    assert [document for document in whole if document["degraded"]] == []
    _assert_breakers(run, metrics, sick)


def _own_scores(handler: Handler, request: Request, fraud: list[float]) -> None:
    make = anomaly_scores if "anomaly" in request.path else predictions
    handler.reply(make(fraud))


def _one_row_too_few(handler: Handler, request: Request) -> None:
    _own_scores(handler, request, [0.5] * (len(request.lines) - 1))


def _one_row_too_many(handler: Handler, request: Request) -> None:
    _own_scores(handler, request, [0.5] * (len(request.lines) + 1))


def _not_a_number(handler: Handler, request: Request) -> None:
    _own_scores(handler, request, [float("nan")] * len(request.lines))


def _out_of_range(handler: Handler, request: Request) -> None:
    _own_scores(handler, request, [0.2] * (len(request.lines) - 1) + [-0.01])


def _truncated(handler: Handler, request: Request) -> None:
    """End the connection in the middle of the JSON that was promised."""
    content = predictions([0.5] * len(request.lines))
    handler.reply(content[: len(content) // 2], length=len(content))
    handler.close_connection = True


def _truncated_whole(handler: Handler, request: Request) -> None:
    """Half the JSON, and a length that agrees with it."""
    content = predictions([0.5] * len(request.lines))
    handler.reply(content[: len(content) // 2])


_GARBAGE = body(b"\x00\xff<html>It works!</html>")
_AT_ONCE_MS = 5_000
# Room for a well answer on a busy machine; what is waited out costs this twice.
_WAITED_MS = 2_500

for _name, _answer, _causes, _deadline_ms in (
    ("400", status(400), ("status_400",), _AT_ONCE_MS),
    ("424, a model that fails", status(424), ("status_424",), _AT_ONCE_MS),
    ("429, a model that loads", status(429), ("status_429",), _AT_ONCE_MS),
    ("500", status(500), ("status_500",), _AT_ONCE_MS),
    ("503", status(503), ("status_503",), _AT_ONCE_MS),
    ("530", status(530), ("status_530",), _AT_ONCE_MS),
    ("a wrong row count, one too few", _one_row_too_few, ("wrong_row_count",), _AT_ONCE_MS),
    ("a wrong row count, one too many", _one_row_too_many, ("wrong_row_count",), _AT_ONCE_MS),
    ("NaN", _not_a_number, ("not_a_number",), _AT_ONCE_MS),
    ("a score out of range", _out_of_range, ("out_of_range",), _AT_ONCE_MS),
    ("garbage", _GARBAGE, ("unreadable",), _AT_ONCE_MS),
    ("a truncated answer", _truncated, ("connection",), _AT_ONCE_MS),
    ("half an answer of its own length", _truncated_whole, ("unreadable",), _AT_ONCE_MS),
    ("connections reset", reset, ("connection",), _AT_ONCE_MS),
    ("connections closed unanswered", close, ("connection",), _AT_ONCE_MS),
    ("something else than HTTP", no_http, ("connection",), _AT_ONCE_MS),
    ("a hang", hang, ("timeout",), _WAITED_MS),
    ("a slow drip", drip, ("timeout",), _WAITED_MS),
):
    case(f"endpoints/{_name}, both", _EXPECTED, quick=_name == "500")(
        partial(_sick, _answer, _causes, _ENDPOINTS, _deadline_ms)
    )


def _late(handler: Handler, request: Request) -> None:
    """Answer well, but when nobody waits any more."""
    handler.server.released.wait(_WAITED_MS / 1000 + 0.5)
    score_by_formula(handler, request)


for _ill in _ENDPOINTS:
    case(
        f"endpoints/the {_ill} endpoint slow and the other one well",
        "what the well one says is used; the slow one is named and left alone for a while",
    )(partial(_sick, _late, ("timeout",), (_ill,), _WAITED_MS))


_STALL_S = 9.0


@case(
    "endpoints/calls that end long after the deadline, whatever they are told",
    "decided at the deadline with what the other one says; the slow one is left alone for a while",
)
def _deaf(arena: Arena) -> None:
    """The worker's own wait ends, where the client's does not."""
    arena.degraded = True
    # The first call is that of the start; one a delivery follows.
    stall = Fault(Port.FRAUD, 4, act=Act.STALL, times=2, seconds=_STALL_S)
    run = arena.shard(_MIX, faults=[stall])
    run.configure(_breaker(_WAITED_MS))
    run.smallest = run.largest = _DELIVERY
    run.before_delivery = lambda _owner, _index: time.sleep(0.1)
    run.work()
    assert run.exits == [0]
    documents = list(_documents(arena).values())
    ill = [document for document in documents if document["degraded"]]
    causes = {cause for document in ill for cause in document["degraded"]}
    assert causes == {"fraud:timeout", f"fraud:{_OPEN}"}, causes
    _assert_decided_in_time(documents, _WAITED_MS)
    assert all("anomaly" in document["scores"] for document in ill)
    newest = max(documents, key=lambda document: document["stored_ms"])
    assert not newest["degraded"], "it is not asked again"


_MINUTE_S = 60.0
_BEFORE = _AFTER = 30
_MEANWHILE = 40
# Some of the deliveries meanwhile find it open, some try.
_LONG_OPEN_S = 4.0
# Of the median of tens of deliveries, so that what else the machine does evens out.
_SLOWED = 3.0


@dataclass(slots=True)
class _Minute:
    """Well for some deliveries, a minute without endpoints, then well again; each is timed."""

    sickness: _Sickness
    took_s: list[float] = field(default_factory=list)
    _began_s: float | None = None
    _number: int = 0

    def step(self, _owner: Owner, _index: int) -> None:
        if self._began_s is not None:
            self.took_s.append(time.monotonic() - self._began_s)
        if self._number == _BEFORE:
            self.sickness.lasts.set()
        if _BEFORE <= self._number < _BEFORE + _MEANWHILE:
            time.sleep(_MINUTE_S / _MEANWHILE)
        if self._number == _BEFORE + _MEANWHILE:
            self.sickness.lasts.clear()
            time.sleep(_LONG_OPEN_S + 0.2)
        self._number += 1
        self._began_s = time.monotonic()

    def medians_s(self) -> tuple[float, float, float]:
        """Of a delivery before, meanwhile and after."""
        end = _BEFORE + _MEANWHILE
        parts = (self.took_s[:_BEFORE], self.took_s[_BEFORE:end], self.took_s[end:])
        before_s, meanwhile_s, after_s = map(median, parts)
        return before_s, meanwhile_s, after_s


def _down(handler: Handler, request: Request) -> None:
    """In turns what a balancer without targets answers, and what a closed port does."""
    answer = status(503) if "anomaly" in request.path else close
    answer(handler, request)


@case(
    "endpoints/both down for a minute",
    "all is decided meanwhile, and before, in and after that minute as fast; then complete again",
)
def _down_for_a_minute(arena: Arena) -> None:
    arena.degraded = True
    sickness = _Sickness(_down, arena.count)
    arena.lab.endpoints.always(sickness)
    # Many entities: what the oracle makes of one grows with the square of its events.
    size = 8 * (_BEFORE + _MEANWHILE + _AFTER)
    run = arena.shard(replace(PLAIN, transactions=size, cards=90, merchants=60, terminals=60))
    run.configure({**_breaker(_AT_ONCE_MS), "SCORING__BREAKER__OPEN_S": str(_LONG_OPEN_S)})
    run.smallest = run.largest = 8
    metrics = ScrapedMetrics(run)
    minute = _Minute(sickness)
    run.before_delivery = minute.step
    run.work()
    assert run.exits == [0]
    documents = list(_documents(arena).values())
    begin, end = 8 * _BEFORE, 8 * (_BEFORE + _MEANWHILE)
    places = {int(each["origin"]["position"].partition(":")[0]): each for each in documents}
    ill = [each for number, each in places.items() if begin < number <= end]
    _assert_degraded(ill, _ENDPOINTS, ("status_503", "connection"))
    assert {number for number, each in places.items() if each["degraded"]} == set(
        range(begin + 1, end + 1)
    )
    assert max(each["stored_ms"] for each in ill) - min(each["stored_ms"] for each in ill) > 55_000
    _assert_decided_in_time(documents, _AT_ONCE_MS)
    _assert_breakers(run, metrics, _ENDPOINTS)
    before_s, meanwhile_s, after_s = minute.medians_s()
    for what, took_s in {"meanwhile": meanwhile_s, "after": after_s}.items():
        assert took_s <= _SLOWED * before_s, f"{took_s:.3f} s {what}, {before_s:.3f} s before"


@case(
    "endpoints/both down when the worker starts",
    "it starts all the same, decides degraded, and is complete once they are well",
)
def _down_at_start(arena: Arena) -> None:
    arena.degraded = True
    sickness = _Sickness(status(503), arena.count)
    sickness.lasts.set()
    arena.lab.endpoints.always(sickness)
    run = arena.shard(_MIX)
    run.configure(_breaker(_AT_ONCE_MS))
    metrics = ScrapedMetrics(run)
    phases = _Phases(run, sickness)
    phases.begins = 0
    run.work()
    assert run.exits == [0]
    documents = list(_documents(arena).values())
    _assert_degraded(filter(phases.is_sick, documents), _ENDPOINTS, ("status_503",))
    assert not [each for each in documents if each["degraded"] and not phases.is_sick(each)]
    _assert_breakers(run, metrics, _ENDPOINTS)


@case(
    "endpoints/answers that fail by chance",
    "what has an answer is complete, what has none is degraded, and nothing stalls",
)
def _by_chance(arena: Arena) -> None:
    arena.degraded = True
    answers = (status(500), reset, _GARBAGE, _one_row_too_few, _not_a_number, status(429))
    causes = {"status_500", "connection", "unreadable", "wrong_row_count", "not_a_number"}
    causes |= {"status_429", _OPEN}

    def answer(handler: Handler, request: Request) -> None:
        if arena.choice.random() < 0.3:
            arena.count.note()
            arena.choice.choice(answers)(handler, request)
        else:
            score_by_formula(handler, request)

    arena.lab.endpoints.always(answer)
    run = arena.shard(_MIX)
    run.configure(_breaker(_AT_ONCE_MS))
    run.smallest = run.largest = _DELIVERY
    run.before_delivery = lambda _owner, _index: time.sleep(0.05)
    run.work()
    assert run.exits == [0]
    documents = _documents(arena).values()
    _assert_decided_in_time(documents, _AT_ONCE_MS)
    for document in documents:
        degraded = [cause.partition(":") for cause in document["degraded"]]
        assert {cause for _, _, cause in degraded} <= causes, degraded
        missing = {name for name, _, _ in degraded}
        assert document["scores"].keys() == set(_ENDPOINTS) - missing, document["scores"]


@case(
    "endpoints/sick again as soon as it is tried",
    "a probe that fails opens the breaker once more, and the next good one closes it",
)
def _relapse(arena: Arena) -> None:
    arena.degraded = True
    sickness = _Sickness(status(500), arena.count)
    arena.lab.endpoints.always(sickness)
    run = arena.shard(_MIX)
    run.configure(_breaker(_AT_ONCE_MS))
    metrics = ScrapedMetrics(run)
    phases = _Phases(run, sickness)
    begin_or_end = run.before_delivery

    def step(owner: Owner, index: int) -> None:
        if phases.begins < index < phases.ends:
            # Each of these deliveries finds the breaker ready to try again.
            time.sleep(_OPEN_S + 0.05)
        begin_or_end(owner, index)

    run.before_delivery = step
    run.work()
    opened = [
        event for event in read_log(run) if event.get("state") == "open" and "endpoint" in event
    ]
    assert len(opened) > len(_ENDPOINTS), f"opened {len(opened)} times"
    whole = [each for each in _documents(arena).values() if not phases.is_sick(each)]
    assert not [document for document in whole if document["degraded"]]
    for name in _ENDPOINTS:
        assert metrics.read(BREAKER_STATE, endpoint=name) == 0


@case(
    "endpoints/the worker is killed while both are down",
    "what was decided without scores stays so; what comes after is complete",
)
def _killed_meanwhile(arena: Arena) -> None:
    arena.degraded = True
    sickness = _Sickness(status(500), arena.count)
    arena.lab.endpoints.always(sickness)
    run = arena.shard(_MIX)
    run.configure(_breaker(_AT_ONCE_MS))
    phases = _Phases(run, sickness)
    middle = (phases.begins + phases.ends) // (2 * _DELIVERY) * _DELIVERY
    begin_or_end = run.before_delivery

    def step(owner: Owner, index: int) -> None:
        if index == middle and not run.exits:
            owner.kill()
            owner.driver.process.wait()
        begin_or_end(owner, index)

    run.before_delivery = step
    run.work()
    assert len(run.exits) == 2
    whole = [each for each in _documents(arena).values() if not phases.is_sick(each)]
    assert not [document for document in whole if document["degraded"]]
