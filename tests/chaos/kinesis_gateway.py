"""
In front of an emulated Kinesis: requests pass whole, or are refused by plan, and counted.

The KCL speaks HTTP/2 to it with prior knowledge and boto3 HTTP/1.1, so the server is
hypercorn, which takes both on one port; behind it each request is one of HTTP/1.1.
"""

import asyncio
import http.client
import threading
import time
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from consumer.local.ports import HOST, listen, port_of
from tests.chaos.gateway import HttpFault

_TIMEOUT_S = 60.0
_UNLIMITED = 2**31
# What belongs to one connection and not to the request.
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})
_Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


class KinesisGateway:
    """A context manager in front of *url*; ``fail`` may be called any time."""

    def __init__(self, url: str) -> None:
        self._upstream = urlsplit(url).netloc
        self._lock = threading.Lock()
        self._plan: list[HttpFault] = []
        self._injected: list[float] = []
        self._passed: list[tuple[float, str]] = []
        self._listener = listen(0, "kinesis gateway")
        self._port = port_of(self._listener)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="kinesis-gateway")

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._port}"

    @property
    def injected(self) -> list[float]:
        """When (``time.monotonic()``) each refusal took place."""
        with self._lock:
            return list(self._injected)

    def passed(self, target: str, since_s: float = 0.0) -> int:
        """How many requests of *target* (``GetRecords``) were passed on after *since_s*."""
        with self._lock:
            return sum(
                each.endswith(f".{target}") and at_s > since_s for at_s, each in self._passed
            )

    def fail(self, *plan: HttpFault) -> None:
        """Add refusals to the plan; they match ``POST / Kinesis_20131202.GetRecords``."""
        with self._lock:
            self._plan += plan

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        config = Config()
        config.bind = [f"fd://{self._listener.detach()}"]
        config.errorlog = None
        config.keep_alive_timeout = 3_600.0
        config.keep_alive_max_requests = _UNLIMITED
        config.graceful_timeout = 0.5
        config.shutdown_timeout = 1.0
        serving = serve(self._serve, config, shutdown_trigger=self._stop.wait, mode="asgi")
        self._loop.run_until_complete(serving)

    async def _serve(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        if scope["type"] != "http":
            return
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        request = (scope["method"], scope["path"], headers, bytes(body))
        status, answered, content = await asyncio.to_thread(self._answer, *request)
        await send({"type": "http.response.start", "status": status, "headers": answered})
        await send({"type": "http.response.body", "body": content, "more_body": False})

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> _Answer:
        target = headers.get("x-amz-target", "")
        fault = self._take(f"{method} {path} {target}", target, body)
        if fault is not None:
            return fault.status, [(b"x-amzn-errortype", fault.error.encode())], b""
        kept = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
        connection = http.client.HTTPConnection(self._upstream, timeout=_TIMEOUT_S)
        try:
            connection.request(method, path, body=body, headers=kept)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        answered = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in answer.getheaders()
            if name.lower() not in _HOP_BY_HOP
        ]
        return answer.status, answered, content

    def _take(self, line: str, target: str, body: bytes) -> HttpFault | None:
        """The refusal that takes the request; without one it is counted as passed on."""
        now_s = time.monotonic()
        with self._lock:
            for fault in self._plan:
                if fault.takes(line, body):
                    self._injected.append(now_s)
                    return fault
            self._passed.append((now_s, target))
        return None
