"""
A WSGI application behind an ASGI server, one request at a time.

hypercorn has a WSGI mode of its own, which this replaces for two reasons. It
answers 500 where an application yields no chunk of body, as moto does for S3's
DeleteObject and HeadObject. And it sends from the application's thread, which
then waits for the client to read: with one thread, a client that stops reading
in the middle of an answer would stop the whole server.
"""

import asyncio
import io
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hypercorn.typing import (
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPResponseBodyEvent,
    HTTPResponseStartEvent,
    HTTPScope,
    Scope,
)

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Gateway:
    """The ASGI application. The server above takes connections concurrently all the same."""

    def __init__(self, application: Wsgi) -> None:
        self._application = application
        self._thread = ThreadPoolExecutor(1, "gateway")

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one request; other scopes, such as lifespan, are declined by returning."""
        if scope["type"] != "http":
            return
        body = await _read(receive)
        if body is None:
            return
        loop = asyncio.get_running_loop()
        start, answer = await loop.run_in_executor(self._thread, self._call, scope, body)
        await send(start)
        await send(answer)

    def _call(
        self, scope: HTTPScope, body: bytes
    ) -> tuple[HTTPResponseStartEvent, HTTPResponseBodyEvent]:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
            started.append((status, headers))

        chunks = self._application(_environ(scope, body), start_response)
        try:
            answer = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        status, headers = started[-1]
        return (
            {
                "type": "http.response.start",
                "status": int(status.split(" ", 1)[0]),
                "headers": [
                    (name.lower().encode("latin-1"), value.encode("latin-1"))
                    for name, value in headers
                ],
            },
            {"type": "http.response.body", "body": answer, "more_body": False},
        )


async def _read(receive: ASGIReceiveCallable) -> bytes | None:
    """Return the request's body; None where the client left before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


def _environ(scope: HTTPScope, body: bytes) -> Environ:
    """Return what PEP 3333 asks for, which carries text as the latin-1 reading of its bytes."""
    host, port = scope["server"] or ("localhost", 80)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        # moto tells S3 keys with an encoded slash from folders by it.
        "RAW_URI": scope["raw_path"].decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("ascii"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        key = name.upper().replace("-", "_")
        if name not in ("content-type", "content-length"):
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ
