"""
A service on a real socket that answers, request by request, as it is told.

What a request is and how one is answered belongs to the service; here is what all of them
share: a plan by order or by number, what was asked, and how often each fault was given.
"""

import socket
import struct
import sys
import threading
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

Request = TypeVar("Request")


class Handler(BaseHTTPRequestHandler):
    """One connection, and the words that an answer is made of."""

    protocol_version = "HTTP/1.1"
    # A header and a body in two packets would wait 40 ms for an acknowledgement.
    wbufsize = -1
    server: "_Listener"

    def do_POST(self) -> None:
        size = int(self.headers["Content-Length"])
        body = self.rfile.read(size)
        # A client that was killed leaves half a request, which asks for nothing.
        self.close_connection = self.close_connection or len(body) < size
        if len(body) == size:
            self.server.answer(self, body)

    def reply(
        self,
        body: bytes,
        *,
        status: int = 200,
        content_type: str = "application/json",
        length: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer *body*; another *length* than its own promises what will not come."""
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the stdlib's name
        """Keep quiet."""


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[Handler, bytes], None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.released = threading.Event()
        self.hung_up = threading.Semaphore(0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the script; a script that fails is not."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class ScriptedServer(ABC, Generic[Request]):
    """
    Context manager around a server; a request gets what its number, else the plan, else the
    default says. An answer is ``answer(handler, request)``.
    """

    def __init__(self, default: Callable[[Handler, Request], None]) -> None:
        self._lock = threading.Lock()
        self._default = default
        self._plan: deque[Callable[[Handler, Request], None]] = deque()
        self._numbered: dict[int, Callable[[Handler, Request], None]] = {}
        self._requests: list[Request] = []
        self._given: Counter[str] = Counter()
        self._listener = _Listener(self._answer)
        self._thread = threading.Thread(
            target=self._listener.serve_forever, kwargs={"poll_interval": 0.01}
        )

    @abstractmethod
    def read(self, handler: Handler, body: bytes) -> Request:
        """Make a request of what came."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.server_address[1]}"

    @property
    def requests(self) -> list[Request]:
        """Every request that came, the refused ones too."""
        with self._lock:
            return list(self._requests)

    @property
    def given(self) -> Counter[str]:
        """How often each answer was given, by the name of the function that makes it."""
        with self._lock:
            return self._given.copy()

    def plan(self, *answers: Callable[[Handler, Request], None]) -> None:
        """The next requests get *answers*, in order; later ones the default."""
        with self._lock:
            self._plan.extend(answers)

    def plan_at(self, answers: Mapping[int, Callable[[Handler, Request], None]]) -> None:
        """The n-th request of this server's life, from 1, gets ``answers[n]``."""
        with self._lock:
            self._numbered.update(answers)

    def always(self, answer: Callable[[Handler, Request], None]) -> None:
        """What is not planned gets *answer* from now on."""
        with self._lock:
            self._default = answer

    def forget(self) -> None:
        """Drop the requests so far, for runs of so many that they would fill the memory."""
        with self._lock:
            self._requests.clear()

    def await_hang_up(self) -> None:
        """Wait until a client has left a dripping answer."""
        assert self._listener.hung_up.acquire(timeout=10)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.released.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    def _answer(self, handler: Handler, body: bytes) -> None:
        request = self.read(handler, body)
        with self._lock:
            self._requests.append(request)
            answer = self._numbered.pop(len(self._requests), None)
            if answer is None:
                answer = self._plan.popleft() if self._plan else self._default
            self._given[name_of(answer)] += 1
        answer(handler, request)


def name_of(answer: object) -> str:
    """``refuse`` for the function ``refuse`` and for what ``refuse(1)`` returned."""
    name: str = getattr(answer, "__qualname__", type(answer).__qualname__)
    return name.partition(".<locals>")[0]


def close(handler: Handler, _: object) -> None:
    """End the connection without an answer."""
    handler.close_connection = True


def reset(handler: Handler, _: object) -> None:
    """End the connection with RST instead of an answer."""
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.close_connection = True


def no_http(handler: Handler, _: object) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")
    handler.close_connection = True


def hang(handler: Handler, _: object) -> None:
    """Say nothing until the server is told to let go."""
    handler.server.released.wait()
    handler.close_connection = True


def drip(handler: Handler, _: object) -> None:
    """Send the answer byte by byte, each sooner than any read timeout, without an end."""
    _drip(handler, 200)


def drip_error(handler: Handler, _: object) -> None:
    """Send an error in the same way."""
    _drip(handler, 500)


def _drip(handler: Handler, status: int) -> None:
    handler.send_response(status)
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
