"""A client makes one attempt a call, whatever the service answers."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from consumer.adapters.aws import client
from consumer.settings import Aws
from tests.firehose_server import Batch, FirehoseServer, accept
from tests.scripted_server import Handler, drip, drip_error

# What the scripted Firehose reads, whoever sends it.
ONE_RECORD = b'{"DeliveryStreamName": "rows", "Records": []}'


class Refusing(ThreadingHTTPServer):
    """Counts requests and answers each with ``status``, or not at all when it is 0."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 503
        self.requests: list[str] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Refusing

    def _answer(self) -> None:
        self.server.requests.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.status == 0:
            self.server.released.wait(30)
            return
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the names http.server looks up

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Keep the output of the tests clean."""


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # What a machine's own settings say about retries must not reach the daemon either.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")
    server = Refusing()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refused_call_is_not_repeated(refusing: Refusing, status: int) -> None:
    refusing.status = status
    s3 = client(
        "s3",
        Aws(endpoint_url=refusing.url),
        connect_timeout_s=5,
        read_timeout_s=5,
        max_pool_connections=1,
    )

    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="letters", Key="a", Body=b"a")

    assert refusing.requests == ["/letters/a"]
    assert caught.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    s3.close()


def test_a_call_without_an_answer_ends_at_the_read_timeout_and_is_not_repeated(
    refusing: Refusing,
) -> None:
    refusing.status = 0
    firehose = client(
        "firehose",
        Aws(endpoint_url=refusing.url),
        connect_timeout_s=5,
        read_timeout_s=0.05,
        max_pool_connections=1,
    )

    with pytest.raises(ReadTimeoutError):
        firehose.list_delivery_streams()

    assert len(refusing.requests) == 1
    firehose.close()


@pytest.fixture
def firehose_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FirehoseServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FirehoseServer() as server:
        yield server


@pytest.mark.parametrize("drips", [drip, drip_error])
def test_an_answer_that_drips_ends_at_the_read_timeout(
    firehose_server: FirehoseServer, drips: Callable[[Handler, object], None]
) -> None:
    firehose_server.always(drips)
    firehose = client(
        "firehose",
        Aws(endpoint_url=firehose_server.url),
        connect_timeout_s=5,
        read_timeout_s=0.3,
        max_pool_connections=1,
    )
    with pytest.raises(ReadTimeoutError):
        firehose.put_record_batch(DeliveryStreamName="rows", Records=[{"Data": b"row"}])
    firehose_server.await_hang_up()
    firehose.close()


def test_an_error_of_a_model_that_drips_ends_at_the_read_timeout_too(
    firehose_server: FirehoseServer,
) -> None:
    firehose_server.always(drip_error)
    runtime = client(
        "sagemaker-runtime",
        Aws(endpoint_url=firehose_server.url),
        connect_timeout_s=5,
        read_timeout_s=0.3,
        max_pool_connections=1,
    )
    with pytest.raises(ReadTimeoutError):
        runtime.invoke_endpoint(EndpointName="fraud", Body=ONE_RECORD)
    runtime.close()


def test_a_connection_that_was_read_to_the_end_is_used_again(
    firehose_server: FirehoseServer,
) -> None:
    ports: set[int] = set()

    def note(handler: Handler, batch: Batch) -> None:
        ports.add(handler.client_address[1])
        accept(handler, batch)

    firehose_server.always(note)
    firehose = client(
        "firehose",
        Aws(endpoint_url=firehose_server.url),
        connect_timeout_s=5,
        read_timeout_s=5,
        max_pool_connections=1,
    )
    for _ in range(3):
        answer = firehose.put_record_batch(
            DeliveryStreamName="rows", Records=[{"Data": b"row"}] * 500
        )
        assert len(answer["RequestResponses"]) == 500
    assert len(ports) == 1
    firehose.close()


def test_sagemaker_runtime_has_an_address_of_its_own_where_one_is_set(refusing: Refusing) -> None:
    aws = Aws(endpoint_url="http://127.0.0.1:9", sagemaker_runtime_url=refusing.url)
    runtime = client(
        "sagemaker-runtime", aws, connect_timeout_s=5, read_timeout_s=5, max_pool_connections=1
    )
    kinesis = client("kinesis", aws, connect_timeout_s=5, read_timeout_s=5, max_pool_connections=1)

    with pytest.raises(ClientError):
        runtime.invoke_endpoint(EndpointName="fraud", Body=b"1")
    with pytest.raises(EndpointConnectionError):
        kinesis.list_streams()

    assert refusing.requests == ["/endpoints/fraud/invocations"]
    runtime.close()
    kinesis.close()


def test_clients_share_what_was_read_of_their_service_and_nothing_of_their_credentials(
    monkeypatch: pytest.MonkeyPatch, refusing: Refusing
) -> None:
    aws = Aws(endpoint_url=refusing.url)
    one = client("s3", aws, connect_timeout_s=5, read_timeout_s=5, max_pool_connections=1)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "other")
    other = client("s3", aws, connect_timeout_s=5, read_timeout_s=5, max_pool_connections=1)

    assert one.meta.service_model.metadata is other.meta.service_model.metadata
    signed = [
        each.generate_presigned_url("get_object", {"Bucket": "b", "Key": "k"})
        for each in (one, other)
    ]
    assert [("other" in url, "test" in url) for url in signed] == [(False, True), (True, False)]
    one.close()
    other.close()
