"""A real HTTP server that tells who asked, behind the authentication of the service."""

import hashlib
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import orjson
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.types import Receive, Send
from starlette.types import Scope as Connection

from consumer.api.access import Scope
from consumer.api.access_opening import Access, open_access
from consumer.api.access_watch import AccessSource
from consumer.api.authentication import Authentication, Limits
from consumer.api.canonical_request import Request
from consumer.api.session_endpoint import PATH, TOKENS_PATH, SessionEndpoint, TokenEndpoint
from consumer.clock import SystemClock
from consumer.metrics import AccessMetrics
from consumer.settings import Api, ApiAuth, Aws, Settings
from tests.signing import ACCESS, REGION

MAX_BODY_BYTES = 100_000
WAIT_S = 30.0


class Text:
    """A list of access in memory, which a test may change."""

    def __init__(self, text: str = ACCESS) -> None:
        self.place = "list"
        self.text = text

    def read(self) -> bytes:
        return self.text.encode()


@dataclass(frozen=True)
class Answer:
    """What came back over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, object]:
        found = orjson.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class AccessServer:
    """A server on *port*; ``access`` is what it lets in by."""

    port: int
    access: Access
    registry: CollectorRegistry

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def send(self, request: Request) -> Answer:
        """Send *request* byte for byte."""
        target = request.path + (f"?{request.query}" if request.query else "")
        lines = [f"{request.method} {target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in request.headers]
        lines += [f"content-length: {len(request.body)}", "connection: close", "", ""]
        with socket.create_connection(("127.0.0.1", self.port), WAIT_S) as line:
            line.sendall("\r\n".join(lines).encode("utf-8", "surrogateescape") + request.body)
            answer = http.client.HTTPResponse(line, method=request.method)
            answer.begin()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read())


async def tell(scope: Connection, receive: Receive, send: Send) -> None:
    """Answer who asked, and what he sent; labels and administration need their scopes."""
    body = b""
    if scope["path"].startswith("/open"):
        found: dict[str, object] = {"open": True}
    else:
        principal = scope["state"]["principal"]
        if scope["path"].startswith("/v1/labels"):
            principal.require(Scope.LABEL)
        if scope["path"].startswith("/v1/admin"):
            principal.require(Scope.ADMIN)
        message = await receive()
        body = message["body"]
        assert not message["more_body"]
        found = {
            "name": principal.name,
            "scopes": sorted(principal.scopes),
            "via": principal.via,
            "body": hashlib.sha256(body).hexdigest(),
        }
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(found)})


@contextmanager
def serve(
    source: AccessSource | None = None, auth: ApiAuth | None = None, timeout_s: float = WAIT_S
) -> Iterator[AccessServer]:
    """Run the server until the end of the block."""
    registry = CollectorRegistry()
    settings = Settings(aws=Aws(region=REGION), api=Api(auth=auth or ApiAuth()))
    with ExitStack() as stack:
        access = open_access(
            settings, source or Text(), AccessMetrics(registry), SystemClock(), stack
        )
        tokens = TokenEndpoint(access.sessions)

        async def inner(scope: Connection, receive: Receive, send: Send) -> None:
            await (tokens if scope["path"] == TOKENS_PATH else tell)(scope, receive, send)

        guarded = Authentication(
            inner,
            access.authenticator,
            Limits(MAX_BODY_BYTES, timeout_s),
            is_open=lambda path: path.startswith("/open"),
            watcher=access.telemetry,
        )
        endpoint = SessionEndpoint(access.sessions, access.telemetry)

        async def application(scope: Connection, receive: Receive, send: Send) -> None:
            await (endpoint if scope["path"] == PATH else guarded)(scope, receive, send)

        sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        config = uvicorn.Config(
            application, http="httptools", ws="none", lifespan="off", log_level="error"
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
        thread.start()
        ends_s = time.monotonic() + WAIT_S
        while not server.started and time.monotonic() < ends_s:
            time.sleep(0.01)
        try:
            yield AccessServer(sock.getsockname()[1], access, registry)
        finally:
            server.should_exit = True
            thread.join(WAIT_S)
