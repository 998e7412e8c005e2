"""Who may do what, for how long, and what is told when he may not."""

import asyncio
import hmac
import io
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import orjson
import pytest
from prometheus_client import CollectorRegistry

from consumer import logs
from consumer.api.access import Authenticator, Forbidden, Principal, Scope, Terms, Via
from consumer.api.access_list import AccessList, parse_access
from consumer.api.access_opening import open_access
from consumer.api.access_telemetry import AccessTelemetry
from consumer.api.access_watch import AccessWatch
from consumer.api.sessions import Lifetimes, Sessions
from consumer.api.sigv4 import Flaw, Forged
from consumer.clock import SystemClock
from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.metrics import API_ACCESS_ERRORS, API_ACCESS_READ, AccessMetrics
from consumer.settings import Aws, Settings
from tests.fakes.clock import FakeClock
from tests.signing import (
    ACCESS,
    EXPIRED,
    KEY,
    REGION,
    SECRET,
    SERVICE,
    TEMPORARY,
    TEMPORARY_SECRET,
    TOKEN,
    signed,
)


@dataclass
class Heard:
    """Remembers what a watcher is told."""

    refusals: list[tuple[Flaw, str | None]] = field(default_factory=list)
    read: list[bool] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    outages: list[str] = field(default_factory=list)

    def refused(self, flaw: Flaw, name: str | None) -> None:
        self.refusals.append((flaw, name))

    def list_read(self, access: AccessList, *, changed: bool) -> None:
        self.read.append(changed)

    def list_refused(self, problems: Sequence[Problem]) -> None:
        self.problems += problems

    def list_unreachable(self, error: Unavailable) -> None:
        self.outages.append(str(error))


@dataclass
class Source:
    """A list whose text, or error, a test sets."""

    found: str | Exception = ACCESS
    place: str = "list"

    def read(self) -> bytes:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found.encode()


def authenticator(watch: AccessWatch, heard: Heard) -> Authenticator:
    sessions = Sessions(Lifetimes(60, 600, 60), SystemClock())
    return Authenticator(
        watch.current,
        Terms(REGION, SERVICE),
        sessions=sessions,
        clock=SystemClock(),
        watcher=heard,
    )


def test_a_principal_has_his_scopes_and_no_others() -> None:
    principal = Principal("checkout", frozenset({Scope.PREDICT}), Via.SIGV4)
    principal.require(Scope.PREDICT)
    for scope in (Scope.READ, Scope.LABEL, Scope.ADMIN):
        with pytest.raises(Forbidden, match=f"checkout lacks the scope {scope}"):
            principal.require(scope)


@pytest.mark.parametrize("scope", Scope)
def test_an_administrator_has_every_scope(scope: Scope) -> None:
    Principal("root", frozenset({Scope.ADMIN}), Via.SIGV4).require(scope)


def test_a_key_that_expired_is_told_so_once_it_has_proved_itself() -> None:
    heard = Heard()
    watch = AccessWatch(Source(), 60, heard)
    watch.poll()
    door = authenticator(watch, heard)
    with pytest.raises(Forged, match="expired at 2026-01-31T00:00:00Z") as caught:
        asyncio.run(door.authenticate(signed(key=EXPIRED)))
    assert caught.value.flaw is Flaw.EXPIRED
    with pytest.raises(Forged, match="not known, or it did not sign") as caught:
        asyncio.run(door.authenticate(signed(key=EXPIRED, secret=SECRET[:-1])))
    assert heard.refusals == [(Flaw.EXPIRED, "former"), (Flaw.UNKNOWN_KEY, "former")]


@dataclass
class Comparisons:
    """Counts what the standard library compares in constant time, and computes."""

    compared: list[tuple[str | bytes, str | bytes]] = field(default_factory=list)
    computed: int = 0

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        compare, new = hmac.compare_digest, hmac.new

        def watched(one: str, other: str) -> bool:
            self.compared.append((one, other))
            return compare(one, other)

        def computing(*given: object) -> hmac.HMAC:
            self.computed += 1
            return new(*given)  # type: ignore[call-overload, no-any-return]

        patch.setattr(hmac, "compare_digest", watched)
        patch.setattr(hmac, "new", computing)


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    watch = AccessWatch(Source(), 60, heard)
    watch.poll()
    door = authenticator(watch, heard)
    good = signed(key=TEMPORARY, secret=TEMPORARY_SECRET, token=TOKEN)
    (told,) = [value for name, value in good.headers if name == "authorization"]
    comparisons = Comparisons()
    comparisons.watch(monkeypatch)
    asyncio.run(door.authenticate(good))
    assert {told[-64:], TOKEN.encode()} <= {other for _, other in comparisons.compared}


def test_a_key_that_nobody_has_takes_the_steps_of_one_that_somebody_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps = []
    for key in (KEY, "AKIDNOBODY"):
        heard = Heard()
        watch = AccessWatch(Source(), 60, heard)
        watch.poll()
        door, request = authenticator(watch, heard), signed(key=key, secret="a guess")
        comparisons = Comparisons()
        with monkeypatch.context() as patch:
            comparisons.watch(patch)
            with pytest.raises(Forged, match="not known, or it did not sign"):
                asyncio.run(door.authenticate(request))
        steps.append((len(comparisons.compared), comparisons.computed))
    assert steps[0] == steps[1]


def test_keys_rotate_without_a_restart() -> None:
    source, heard = Source(), Heard()
    watch = AccessWatch(source, 60, heard)
    watch.poll()
    door = authenticator(watch, heard)
    second = f"keys:\n  - access_key_id: AKIDSECOND\n    secret_access_key: {SECRET[::-1]}\n"
    second += "    name: checkout\n    scopes: [predict]\n"
    with pytest.raises(Forged):
        asyncio.run(door.authenticate(signed(key="AKIDSECOND", secret=SECRET[::-1])))

    source.found = second + ACCESS.removeprefix("keys:\n")
    watch.poll()
    both = [signed(), signed(key="AKIDSECOND", secret=SECRET[::-1])]
    assert [asyncio.run(door.authenticate(each)).name for each in both] == ["checkout"] * 2

    source.found = second
    watch.poll()
    assert asyncio.run(door.authenticate(both[1])).scopes == {Scope.PREDICT}
    with pytest.raises(Forged):
        asyncio.run(door.authenticate(both[0]))
    assert heard.read == [True, True, True]


@pytest.mark.parametrize(
    "fault",
    [
        "keys: 1",
        "",
        Unavailable("secretsmanager", "GetSecretValue: InternalServiceError"),
        Misconfigured([Problem("list", "the file", "mode 0644", "0640")]),
    ],
)
def test_a_list_that_cannot_be_had_leaves_the_last_good_one(fault: str | Exception) -> None:
    source, heard = Source(), Heard()
    watch = AccessWatch(source, 60, heard)
    watch.poll()
    source.found = fault
    watch.poll()
    assert watch.current() == parse_access(ACCESS.encode(), "list")
    assert len(heard.problems) + len(heard.outages) == 1
    source.found = ACCESS
    watch.poll()
    assert heard.read == [True, False]


def test_a_service_does_not_start_with_a_list_that_is_wrong() -> None:
    registry, settings = CollectorRegistry(), Settings(aws=Aws(region=REGION))
    with ExitStack() as stack, pytest.raises(Misconfigured, match="keys: found a number"):
        open_access(settings, Source("keys: 1"), AccessMetrics(registry), SystemClock(), stack)


def test_without_a_list_only_sessions_are_let_in() -> None:
    registry, settings = CollectorRegistry(), Settings(aws=Aws(region=REGION))
    with ExitStack() as stack:
        access = open_access(settings, None, AccessMetrics(registry), SystemClock(), stack)
        with pytest.raises(Forged, match="not known, or it did not sign"):
            asyncio.run(access.authenticator.authenticate(signed()))


def test_a_line_stands_for_many_refusals_and_tells_no_secret() -> None:
    stream, clock, registry = io.StringIO(), FakeClock(), CollectorRegistry()
    logs.configure("info", "json", stream)
    telemetry = AccessTelemetry(AccessMetrics(registry), clock)
    for _ in range(500):
        telemetry.refused(Flaw.UNKNOWN_KEY, None)
    telemetry.refused(Flaw.TOO_OLD, "checkout")
    clock.sleep(11)
    telemetry.refused(Flaw.UNKNOWN_KEY, None)
    lines = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    told = [(line["flaw"], line["name"], line["count"]) for line in lines]
    unknown = "unknown_key_or_signature"
    assert told == [
        (unknown, None, 1),
        ("outside_time_window", "checkout", 1),
        (unknown, None, 500),
    ]


def test_what_becomes_of_the_list_is_counted_and_told() -> None:
    stream, registry = io.StringIO(), CollectorRegistry()
    logs.configure("info", "json", stream)
    source = Source()
    watch = AccessWatch(source, 60, AccessTelemetry(AccessMetrics(registry), FakeClock()))
    watch.poll()
    assert registry.get_sample_value(API_ACCESS_READ) == 1_790_000_000
    for fault, cause in (("keys: 1", "refused"), (Unavailable("s", "x"), "unavailable")):
        source.found = fault
        watch.poll()
        assert registry.get_sample_value(API_ACCESS_ERRORS, {"cause": cause}) == 1
    assert SECRET not in stream.getvalue()
    first = orjson.loads(stream.getvalue().splitlines()[0])
    assert (first["keys"], first["names"]) == (
        4,
        ["checkout", "former", "nightly", "operations"],
    )
