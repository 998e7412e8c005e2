"""An endpoint's promises, on the fake and on SageMaker Runtime over a real socket."""

from collections.abc import Iterator
from typing import Protocol

import pytest

from consumer.adapters.aws import client
from consumer.adapters.sagemaker import SageMakerEndpoint
from consumer.clock import SystemClock
from consumer.errors import Unavailable
from consumer.ports import Endpoint
from consumer.settings import Aws, EndpointSettings
from tests import sagemaker_server as server
from tests.fakes.endpoints import FakeEndpoint
from tests.sagemaker_server import SageMakerServer

SETTINGS = EndpointSettings(name="fraudstream-fraud", max_rows=500, max_bytes=1_048_576)
CLOCK = SystemClock()
AMPLE_S = 10.0


class Behind(Protocol):
    """An endpoint with a way to make its next request fail and to see what arrived."""

    port: Endpoint

    def fail_next(self) -> str: ...

    def received(self) -> list[tuple[list[bytes], str]]: ...


class InMemory:
    def __init__(self) -> None:
        self.fake = FakeEndpoint()
        self.port: Endpoint = self.fake

    def fail_next(self) -> str:
        self.fake.plan("status_424")
        return "status_424"

    def received(self) -> list[tuple[list[bytes], str]]:
        return self.fake.requests


class OnSocket:
    def __init__(self, remote: SageMakerServer) -> None:
        self.remote = remote
        self.port: Endpoint = an_endpoint(remote)

    def fail_next(self) -> str:
        self.remote.plan(server.status(424))
        return "status_424"

    def received(self) -> list[tuple[list[bytes], str]]:
        return [
            (
                [line.encode() for line in request.lines],
                request.headers["X-Amzn-SageMaker-Inference-Id"],
            )
            for request in self.remote.requests
        ]


def an_endpoint(
    remote: SageMakerServer, name: str = "fraud", *, read_timeout_s: float = AMPLE_S
) -> SageMakerEndpoint:
    runtime = client(
        "sagemaker-runtime",
        Aws(sagemaker_runtime_url=remote.url),
        connect_timeout_s=AMPLE_S,
        read_timeout_s=read_timeout_s,
        max_pool_connections=4,
    )
    return SageMakerEndpoint(runtime, SETTINGS, "anomaly" if name == "anomaly" else "fraud", CLOCK)


def invoke(endpoint: Endpoint, *lines: bytes, within_s: float = AMPLE_S) -> list[float]:
    return endpoint.invoke(lines or (b"0.25,1",), CLOCK.monotonic_s() + within_s, "prediction-1")


def cause_of(endpoint: Endpoint, *lines: bytes, within_s: float = AMPLE_S) -> str:
    with pytest.raises(Unavailable) as failure:
        invoke(endpoint, *lines, within_s=within_s)
    assert failure.value.dependency == "endpoint"
    return failure.value.message


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def remote() -> Iterator[SageMakerServer]:
    with SageMakerServer() as running:
        yield running


@pytest.fixture(params=["fake", "sagemaker"])
def behind(request: pytest.FixtureRequest) -> Behind:
    if request.param == "fake":
        return InMemory()
    return OnSocket(request.getfixturevalue("remote"))


def test_each_line_gets_its_own_score_in_order(behind: Behind) -> None:
    assert invoke(behind.port, b"0.5,1", b"0.125,2", b"1,3") == [0.5, 0.125, 1.0]


def test_one_call_is_one_request_with_its_id(behind: Behind) -> None:
    invoke(behind.port, b"0.5,1", b"0.25,2")
    assert behind.received() == [([b"0.5,1", b"0.25,2"], "prediction-1")]


def test_a_failure_carries_its_cause_and_the_next_request_works(behind: Behind) -> None:
    cause = behind.fail_next()
    assert cause_of(behind.port) == cause
    assert invoke(behind.port) == [0.25]


def test_the_limits_of_a_request_are_told(behind: Behind) -> None:
    assert (behind.port.name, behind.port.max_rows, behind.port.max_bytes) == (
        "fraud",
        500,
        1_048_576,
    )


def test_csv_goes_out_and_json_is_asked_for(remote: SageMakerServer) -> None:
    invoke(an_endpoint(remote))
    (request,) = remote.requests
    assert request.path == "/endpoints/fraudstream-fraud/invocations"
    assert (request.headers["Content-Type"], request.headers["Accept"]) == (
        "text/csv",
        "application/json",
    )


def test_a_score_is_asked_for_without_an_explanation(remote: SageMakerServer) -> None:
    # An explainer asks the model some hundred times more: a decision must not pay for it.
    invoke(an_endpoint(remote))
    (request,) = remote.requests
    assert not [name for name in request.headers if "explanation" in name.lower()]


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b'{"predictions": [{"score": 0.5}, {"score": 1}]}', "application/json"),
        (b'{"scores": [{"score": 0.5}, {"score": 1.0}]}', "application/json"),
        (b"0.5\n1.0\n", "text/csv; charset=utf-8"),
        (b"0.5,1.0", "text/csv"),
    ],
)
def test_every_form_of_the_built_in_containers_is_understood(
    content: bytes, content_type: str, remote: SageMakerServer
) -> None:
    remote.plan(server.body(content, content_type))
    assert invoke(an_endpoint(remote), b"1", b"2") == [0.5, 1.0]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (server.predictions([0.5]), "wrong_row_count"),
        (server.predictions([0.5, 0.5, 0.5]), "wrong_row_count"),
        (b'{"predictions": []}', "wrong_row_count"),
        (b"{}", "wrong_row_count"),
        (b"0.5,0.5,0.5", "wrong_row_count"),
        (b'{"predictions": [{"score": NaN}, {"score": 0.5}]}', "not_a_number"),
        (b'{"predictions": [{"score": -Infinity}, {"score": 0.5}]}', "not_a_number"),
        (b"nan\n0.5", "not_a_number"),
        (b"0.5,inf", "not_a_number"),
        (server.predictions([0.5, 1.01]), "out_of_range"),
        (server.predictions([-0.01, 0.5]), "out_of_range"),
        (b'{"predictions": [{"score": "0.5"}, {"score": null}]}', "unreadable"),
        (b'{"predictions": [{"score": 0.5}, ', "unreadable"),
        (b"<html>busy</html>", "unreadable"),
        (b"\xff\xfe", "unreadable"),
        (b"", "unreadable"),
        (b"0" * 100_000, "unreadable"),
    ],
)
def test_an_answer_that_is_not_a_score_a_row_is_no_answer(
    content: bytes, cause: str, remote: SageMakerServer
) -> None:
    remote.plan(server.body(content))
    assert cause_of(an_endpoint(remote), b"1", b"2") == cause


def test_an_anomaly_score_may_exceed_one_but_not_fall_below_zero(remote: SageMakerServer) -> None:
    endpoint = an_endpoint(remote, "anomaly")
    remote.plan(
        server.body(server.anomaly_scores([3.5])), server.body(server.anomaly_scores([-0.1]))
    )
    assert invoke(endpoint) == [3.5]
    assert cause_of(endpoint) == "out_of_range"


@pytest.mark.parametrize("code", [400, 413, 424, 429, 500, 503, 530])
def test_an_answer_of_any_kind_is_not_asked_for_again(code: int, remote: SageMakerServer) -> None:
    remote.always(server.status(code))
    assert cause_of(an_endpoint(remote)) == f"status_{code}"
    assert len(remote.requests) == 1


def test_a_lost_connection_is_tried_once_more(remote: SageMakerServer) -> None:
    remote.plan(server.reset)
    assert invoke(an_endpoint(remote)) == [0.25]
    assert len(remote.requests) == 2


@pytest.mark.parametrize("fault", [server.reset, server.no_http])
def test_connections_that_stay_lost_cost_two_requests(
    fault: server.Answer, remote: SageMakerServer
) -> None:
    remote.always(fault)
    assert cause_of(an_endpoint(remote)) == "connection"
    assert len(remote.requests) == 2


def test_an_error_page_that_is_no_json_has_its_status_all_the_same(remote: SageMakerServer) -> None:
    remote.always(server.status(500, b"<html>"))
    assert cause_of(an_endpoint(remote)) == "status_500"


def test_an_answer_in_chunks_is_read_whole(remote: SageMakerServer) -> None:
    remote.plan(server.chunked)
    assert invoke(an_endpoint(remote), b"0.5", b"0.25") == [0.5, 0.25]


@pytest.mark.parametrize("fault", [server.cut_off, server.chunked_cut_off])
def test_an_answer_cut_short_is_not_taken_for_a_smaller_number(
    fault: server.Answer, remote: SageMakerServer
) -> None:
    remote.always(fault)
    assert cause_of(an_endpoint(remote), b"0.25") == "connection"


def test_a_server_that_says_nothing_is_a_timeout(remote: SageMakerServer) -> None:
    remote.always(server.hang)
    assert cause_of(an_endpoint(remote, read_timeout_s=0.05)) == "timeout"
    assert len(remote.requests) == 1


def test_an_answer_that_drips_ends_at_the_deadline(remote: SageMakerServer) -> None:
    remote.always(server.drip)
    assert cause_of(an_endpoint(remote), within_s=0.1) == "timeout"
    remote.await_hang_up()


def test_past_its_deadline_a_request_is_not_sent(remote: SageMakerServer) -> None:
    assert cause_of(an_endpoint(remote), within_s=0.0) == "timeout"
    assert remote.requests == []


def test_a_server_that_is_gone_is_a_lost_connection() -> None:
    with SageMakerServer() as remote:
        endpoint = an_endpoint(remote)
    assert cause_of(endpoint) == "connection"


def test_missing_credentials_are_named(
    remote: SageMakerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert cause_of(an_endpoint(remote)) == "no_credentials"
