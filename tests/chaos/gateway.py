"""
The address of AWS for workers: Firehose goes to the scripted server, the rest to moto.

Every request passes here whole, so a plan can fail the n-th one of a service before it
is passed on or after it was, as S3 does now and then.
"""

import http.client
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date"})
_TIMEOUT_S = 60.0
_DROP_S = 0.05


class Fails(StrEnum):
    """
    Answered ``status`` unasked; applied, no answer; applied, answered ``seconds`` later.

    Or applied and answered in drops, faster than any timeout between two bytes and without an
    end: the content of the answer, or its head already.
    """

    REFUSED = "refused"
    ANSWER_LOST = "answer_lost"
    DELAYED = "delayed"
    DRIPPED = "dripped"
    HEAD_DRIPPED = "head_dripped"


@dataclass(slots=True)
class HttpFault:
    """
    *how* the *nth* request and *times* - 1 more fare that contain *matching*.

    Matched is the line ``PUT /bucket/key Firehose_20150804.PutRecordBatch``: method, path
    and the target header, where there is one. *containing* must be in the body. What is
    refused says *error*.
    """

    matching: str
    how: Fails
    nth: int = 1
    times: int = 1
    status: int = 503
    seconds: float = 0.0
    containing: bytes = b""
    error: str = "ServiceUnavailable"
    seen: int = 0

    def takes(self, line: str, body: bytes = b"") -> bool:
        """Count *line* with *body* if it matches; whether it is to fail."""
        if self.matching not in line or self.containing not in body:
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times


class Gateway:
    """A context manager; ``fail`` and ``heal`` may be called any time."""

    def __init__(self, aws_url: str, firehose_url: str) -> None:
        self._lock = threading.Lock()
        self._plan: list[HttpFault] = []
        self._injected: list[float] = []
        targets = (urlsplit(aws_url).netloc, urlsplit(firehose_url).netloc)
        self._server = _Server(self._take, *targets)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def injected(self) -> list[float]:
        """When (``time.monotonic()``) each failure took place."""
        with self._lock:
            return list(self._injected)

    def fail(self, *plan: HttpFault) -> None:
        """Add to the plan; the first fault that takes a request decides on it."""
        with self._lock:
            self._plan += plan

    def end(self) -> None:
        """Fail nothing any more."""
        with self._lock:
            self._plan.clear()

    def heal(self) -> None:
        """Forget the plan and the count."""
        with self._lock:
            self._plan.clear()
            self._injected.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, line: str, body: bytes) -> HttpFault | None:
        with self._lock:
            for fault in self._plan:
                if fault.takes(line, body):
                    self._injected.append(time.monotonic())
                    return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, take: Any, aws: str, firehose: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.take = take
        self.aws = aws
        self.firehose = firehose
        self.released = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A worker that is killed hangs up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._upstream: dict[str, http.client.HTTPConnection] = {}

    def finish(self) -> None:
        for connection in self._upstream.values():
            connection.close()
        with suppress(OSError):
            super().finish()

    def handle_expect_100(self) -> bool:
        answered = super().handle_expect_100()
        # Else the client, which waits for it with its body, waits a second.
        self.wfile.flush()
        return answered

    def _pass(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if len(body) < size:
            # The client was killed in the middle; half a request asks for nothing.
            self.close_connection = True
            return
        target = self.headers.get("X-Amz-Target", "")
        fault = self.server.take(f"{self.command} {self.path} {target}", body)
        if fault is not None and fault.how is Fails.REFUSED:
            self._answer(fault.status, {"x-amzn-ErrorType": fault.error}, b"")
            return
        upstream = self.server.firehose if target.startswith("Firehose_") else self.server.aws
        answer, content = self._ask(upstream, body)
        if fault is not None and fault.how is Fails.DELAYED:
            # What was asked for is done; only its answer is late.
            time.sleep(fault.seconds)
        if fault is not None and fault.how in (Fails.DRIPPED, Fails.HEAD_DRIPPED):
            self._drip(fault.how)
            return
        if fault is not None and fault.how is Fails.ANSWER_LOST:
            self.close_connection = True
            return
        headers = {
            name: value for name, value in answer.getheaders() if name.lower() not in _HOP_BY_HOP
        }
        self._answer(answer.status, headers, content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass  # noqa: N815 - the stdlib's names

    def _ask(self, upstream: str, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._upstream.get(upstream)
        if connection is None:
            connection = http.client.HTTPConnection(upstream, timeout=_TIMEOUT_S)
            self._upstream[upstream] = connection
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        connection.request(self.command, self.path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()

    def _drip(self, how: Fails) -> None:
        """Until the client hangs up."""
        self.close_connection = True
        self.send_response(200)
        if how is Fails.DRIPPED:
            self.send_header("Content-Length", "1000000")
            self.end_headers()
        else:
            self.flush_headers()
            self.wfile.write(b"X-Slow: ")
        with suppress(OSError):
            while not self.server.released.wait(_DROP_S):
                self.wfile.write(b" ")
                self.wfile.flush()

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the stdlib's name
        """Keep quiet."""
