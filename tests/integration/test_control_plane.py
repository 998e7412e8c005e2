"""Calls of training and deployment over a real socket: what is repeated, and what is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumer.adapters import aws
from consumer.adapters.control_plane import ATTEMPTS, ControlPlane
from consumer.deployment.answers import Endpoint, Tags
from consumer.deployment.calls import Call, Refused, Service
from consumer.errors import Unavailable
from consumer.settings import Aws
from tests.fakes.clock import FakeClock
from tests.scripted_server import Handler, ScriptedServer, close, reset

TAGS = Call("sagemaker", "list_tags", {"ResourceArn": "arn:aws:sagemaker:::model/m"})


class Server(ScriptedServer[dict[str, Any]]):
    def read(self, handler: Handler, body: bytes) -> dict[str, Any]:
        return {"target": handler.headers.get("X-Amz-Target"), **msgspec.json.decode(body)}


def answer(body: dict[str, Any], status: int = 200) -> Any:
    return lambda handler, _: handler.reply(msgspec.json.encode(body), status=status)


def refuse(code: str, message: str, status: int = 400) -> Any:
    return answer({"__type": code, "message": message}, status)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(answer({"Tags": [{"Key": "a", "Value": "1"}]})) as server:
        yield server


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def control(
    server: Server, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ControlPlane]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")

    def make(service: Service) -> Any:
        return aws.client(
            service,
            Aws(endpoint_url=server.url),
            connect_timeout_s=2,
            read_timeout_s=5,
            max_pool_connections=1,
        )

    plane = ControlPlane(make, clock.sleep)
    yield plane
    plane.close()


@pytest.mark.parametrize(
    "trouble",
    [
        refuse("ThrottlingException", "Rate exceeded"),
        refuse("InternalFailure", "sorry", 500),
        close,
        reset,
    ],
)
def test_what_may_pass_is_repeated_with_growing_pauses(
    trouble: Any, server: Server, control: ControlPlane, clock: FakeClock
) -> None:
    server.plan(trouble, trouble, trouble)
    assert control.ask(TAGS, Tags).tags[0].key == "a"
    assert len(server.requests) == 4
    assert len(clock.pauses) == 3
    assert all(pause <= top for pause, top in zip(clock.pauses, (0.5, 1.0, 2.0), strict=True))


def test_what_does_not_pass_ends_as_unavailable(server: Server, control: ControlPlane) -> None:
    server.always(refuse("ThrottlingException", "Rate exceeded"))
    with pytest.raises(Unavailable, match="list_tags: ThrottlingException: Rate exceeded, 6 times"):
        control.ask(TAGS, Tags)
    assert len(server.requests) == ATTEMPTS


def test_a_refusal_is_told_at_once_with_the_words_of_aws(
    server: Server, control: ControlPlane
) -> None:
    server.plan(refuse("AccessDeniedException", "no sagemaker:ListTags"))
    with pytest.raises(Refused, match="AccessDeniedException: no sagemaker:ListTags") as refusal:
        control.ask(TAGS, Tags)
    assert (refusal.value.code, refusal.value.absent) == ("AccessDeniedException", False)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "message",
    [
        'Could not find endpoint "arn:aws:sagemaker:us-east-1:123456789012:endpoint/none".',
        "Requested resource not found.",
    ],
)
def test_what_is_not_there_is_known_by_the_sentence(
    message: str, server: Server, control: ControlPlane
) -> None:
    server.plan(refuse("ValidationException", message))
    with pytest.raises(Refused) as refusal:
        control.ask(Call("sagemaker", "describe_endpoint", {"EndpointName": "none"}), Endpoint)
    assert refusal.value.absent


def test_a_request_of_wrong_form_is_not_sent(server: Server, control: ControlPlane) -> None:
    with pytest.raises(Refused, match="Missing required parameter"):
        control.tell(Call("sagemaker", "create_model"))
    assert not server.requests


def test_pages_are_asked_for_until_the_last(server: Server, control: ControlPlane) -> None:
    page = {"Tags": [{"Key": "a", "Value": "1"}], "NextToken": "more"}
    server.plan(answer(page), answer({"Tags": [{"Key": "b", "Value": "2"}]}))
    found = [tag.key for each in control.ask_all(TAGS, Tags) for tag in each.tags]
    assert found == ["a", "b"]
    assert [each.get("NextToken") for each in server.requests] == [None, "more"]


def test_an_answer_of_another_service_is_no_answer(server: Server, control: ControlPlane) -> None:
    with pytest.raises(Unavailable, match="describe_endpoint: an answer that has"):
        control.ask(Call("sagemaker", "describe_endpoint", {"EndpointName": "e"}), Endpoint)


def test_without_credentials_it_is_said_so(
    server: Server, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    client = aws.client(
        "sagemaker",
        Aws(endpoint_url=server.url),
        connect_timeout_s=2,
        read_timeout_s=5,
        max_pool_connections=1,
    )
    plane = ControlPlane(lambda _: client, clock.sleep)
    with pytest.raises(Unavailable, match="Unable to locate credentials"):
        plane.ask(TAGS, Tags)
    plane.close()
