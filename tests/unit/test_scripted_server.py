"""What tests script their services with: the right answer to the right request, all counted."""

from contextlib import closing
from http.client import HTTPConnection
from urllib.parse import urlsplit

from tests.sagemaker_server import SageMakerServer, body, echo, status


def ask(server: SageMakerServer) -> bytes:
    address = urlsplit(server.url)
    connection = HTTPConnection(address.hostname or "", address.port)
    with closing(connection):
        connection.request("POST", "/", b"0.5,1")
        return connection.getresponse().read()


def test_a_number_wins_over_the_plan_and_the_plan_over_the_default() -> None:
    with SageMakerServer() as server:
        server.plan(body(b"first"), body(b"next"))
        server.plan_at({2: body(b"second"), 4: body(b"fourth")})
        server.always(body(b"default"))
        answers = [ask(server) for _ in range(5)]
    assert answers == [b"first", b"second", b"next", b"fourth", b"default"]


def test_what_was_given_is_counted_by_name() -> None:
    with SageMakerServer() as server:
        server.plan_at({2: status(503)})
        for _ in range(3):
            ask(server)
        assert server.given == {echo.__name__: 2, "status": 1}
        assert [request.first_values for request in server.requests] == [[0.5]] * 3
