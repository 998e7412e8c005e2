import pytest

from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.preflight import Findings, RecentProbe, answering, check_endpoints
from tests.fakes.clock import FakeClock
from tests.fakes.endpoints import FakeEndpoint


def fail(error: Exception) -> None:
    raise error


WRONG = Problem("settings", "kcl.stream_name", "nope", "a stream")


def test_nothing_found_is_nothing_raised() -> None:
    findings = Findings()
    with findings.looking("look there"):
        pass
    findings.refuse()


def test_what_is_wrong_and_what_is_silent_is_told_at_once() -> None:
    findings = Findings()
    findings.add([WRONG])
    with findings.looking():
        fail(Misconfigured([Problem("settings", "kcl.java", "none", "a java program")]))
    with findings.looking("a server"):
        fail(Unavailable("redis", "Connection refused."))
    with pytest.raises(Misconfigured) as caught:
        findings.refuse()
    assert [str(problem) for problem in caught.value.problems] == [
        "settings: kcl.stream_name: found nope, expected a stream",
        "settings: kcl.java: found none, expected a java program",
        "redis: (no answer): found Connection refused, expected a server",
    ]


def test_outages_alone_are_no_misconfiguration() -> None:
    findings = Findings()
    with findings.looking("a server"):
        fail(Unavailable("redis", "Connection refused."))
    with findings.looking():
        fail(Unavailable("s3", "timeout"))
    with pytest.raises(
        Unavailable,
        match=r"redis: Connection refused; expected a server\n  s3: timeout; expected an answer",
    ):
        findings.refuse()


@pytest.mark.parametrize(
    ("cause", "expected"),
    [("status_400", "in service"), ("status_403", "sagemaker:InvokeEndpoint")],
)
def test_an_endpoint_that_will_never_answer_is_to_be_corrected(cause: str, expected: str) -> None:
    endpoint = FakeEndpoint("fraud")
    endpoint.plan(cause)
    (problem,) = check_endpoints([("scoring.fraud.name", "nope", endpoint)], 3, FakeClock())
    assert (problem.key, problem.found) == ("scoring.fraud.name", "nope")
    assert expected in problem.expected


def test_a_sick_endpoint_is_no_reason_not_to_start() -> None:
    endpoint = FakeEndpoint("fraud")
    endpoint.plan("status_500")
    assert check_endpoints([("scoring.fraud.name", "sick", endpoint)], 3, FakeClock()) == []


def test_a_probe_is_asked_every_ten_seconds_at_most() -> None:
    clock, answers = FakeClock(), iter(["down", None])
    probe = RecentProbe(lambda: next(answers), clock)
    assert [probe(), probe()] == ["down", "down"]
    clock.sleep(10)
    assert probe() is None


def test_a_call_that_raises_is_what_is_wrong() -> None:
    def down() -> None:
        raise Unavailable("redis", "gone")

    assert answering(down)() == "gone"
    assert answering(lambda: None)() is None
