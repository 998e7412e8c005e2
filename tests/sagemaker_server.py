"""A model endpoint on a real socket that answers, request by request, as it is told."""

import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True)
class Request:
    """What one request carried."""

    path: str
    headers: dict[str, str]
    lines: list[str]

    @property
    def first_values(self) -> list[float]:
        """The first column, by which an echoing answer shows whose row it scored."""
        return [float(line.split(",")[0]) for line in self.lines]


Answer = Callable[["Handler", Request], None]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    # A header and a body in two packets would wait 40 ms for an acknowledgement.
    wbufsize = -1
    server: "_Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        request = Request(self.path, dict(self.headers.items()), body.split("\n"))
        with self.server.lock:
            self.server.requests.append(request)
            answer = self.server.plan.popleft() if self.server.plan else self.server.default
        answer(self, request)

    def reply(
        self,
        body: bytes,
        *,
        status: int = 200,
        content_type: str = "application/json",
        length: int | None = None,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if status >= 400:
            self.send_header("x-amzn-ErrorType", "ModelError")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the stdlib's name
        """Keep quiet."""


def predictions(scores: list[float]) -> bytes:
    return json.dumps({"predictions": [{"score": score} for score in scores]}).encode()


def anomaly_scores(scores: list[float]) -> bytes:
    return json.dumps({"scores": [{"score": score} for score in scores]}).encode()


def echo(handler: Handler, request: Request) -> None:
    """Answer each row's first column, as XGBoost would; keep it within [0, 1]."""
    handler.reply(predictions(request.first_values))


def body(content: bytes, content_type: str = "application/json") -> Answer:
    return lambda handler, _: handler.reply(content, content_type=content_type)


def status(code: int, content: bytes = b'{"Message": "scripted"}') -> Answer:
    return lambda handler, _: handler.reply(content, status=code)


def cut_off(handler: Handler, request: Request) -> None:
    """End the connection in the middle of a CSV answer, so that the last number is short."""
    content = b"\n".join(str(value).encode() for value in request.first_values)
    handler.reply(content[:-1], content_type="text/csv", length=len(content))
    handler.close_connection = True


def chunked(handler: Handler, request: Request) -> None:
    """Answer in chunks instead of naming a length."""
    _send_chunk(handler, predictions(request.first_values))
    handler.wfile.write(b"0\r\n\r\n")
    handler.wfile.flush()


def chunked_cut_off(handler: Handler, request: Request) -> None:
    """End the connection between two chunks of a CSV answer."""
    content = b"\n".join(str(value).encode() for value in request.first_values)
    _send_chunk(handler, content[:-1])
    handler.close_connection = True


def _send_chunk(handler: Handler, content: bytes) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/csv")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
    handler.wfile.flush()


def reset(handler: Handler, _: Request) -> None:
    """End the connection with RST instead of an answer."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True


def no_http(handler: Handler, _: Request) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    handler.close_connection = True


def hang(handler: Handler, _: Request) -> None:
    """Say nothing until the server is told to let go."""
    handler.server.released.wait()
    handler.close_connection = True


def drip(handler: Handler, request: Request) -> None:
    """Send the answer byte by byte, each sooner than any read timeout, without an end."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    handler.close_connection = True
    try:
        while not handler.server.released.wait(0.01):
            handler.wfile.write(b" ")
            handler.wfile.flush()
    except OSError:
        handler.server.hung_up.release()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = threading.Lock()
        self.plan: deque[Answer] = deque()
        self.default: Answer = echo
        self.requests: list[Request] = []
        self.released = threading.Event()
        self.hung_up = threading.Semaphore(0)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the script."""


class SageMakerServer:
    """Context manager around the server; ``plan`` says what the next requests get."""

    def __init__(self) -> None:
        self._server = _Server()
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> list[Request]:
        with self._server.lock:
            return list(self._server.requests)

    def plan(self, *answers: Answer) -> None:
        """The next requests get *answers*, in order; later ones the default."""
        with self._server.lock:
            self._server.plan.extend(answers)

    def always(self, answer: Answer) -> None:
        with self._server.lock:
            self._server.default = answer

    def await_hang_up(self) -> None:
        """Wait until a client has left a dripping answer."""
        assert self._server.hung_up.acquire(timeout=10)

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
