import http.client
import socket
from http import HTTPStatus

import orjson
import pytest

from consumer.errors import Misconfigured
from consumer.status_server import Answer, StatusServer, health_answer


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _fail() -> Answer:
    raise RuntimeError("told to")


def test_paths_answer_and_a_failing_one_does_not_end_the_server() -> None:
    paths = {
        "/healthz": lambda: health_answer([], {"workers": []}),
        "/readyz": lambda: health_answer(["redis: no answer"], {}),
        "/metrics": _fail,
    }
    with StatusServer("127.0.0.1", 0, paths) as server:
        assert _get(server.port, "/metrics")[0] == HTTPStatus.INTERNAL_SERVER_ERROR
        status, body = _get(server.port, "/healthz?verbose")
        assert (status, orjson.loads(body)) == (200, {"ok": True, "problems": [], "workers": []})
        status, body = _get(server.port, "/readyz")
        assert (status, orjson.loads(body)["problems"]) == (503, ["redis: no answer"])
        assert _get(server.port, "/")[0] == HTTPStatus.NOT_FOUND


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Misconfigured) as caught:
            StatusServer("127.0.0.1", port, {})
    assert str(caught.value) == (
        f"settings: supervisor.port: found 127.0.0.1:{port} (Address already in use), "
        "expected an address of this machine with a free port, or port 0"
    )


def test_an_address_of_another_machine_is_refused_too() -> None:
    with pytest.raises(Misconfigured, match=r"supervisor\.port"):
        StatusServer("192.0.2.1", 0, {})
