"""The HTTP server of ``/metrics``, ``/healthz`` and ``/readyz``."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

import orjson

from consumer.errors import Misconfigured, Problem
from consumer.logs import get_logger

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path answers."""

    status: HTTPStatus
    content_type: str
    body: bytes


def health_answer(problems: list[str], details: Mapping[str, object]) -> Answer:
    """200 when there are no *problems*, else 503; the body names them, with *details*."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    body = {"ok": not problems, "problems": problems, **details}
    return Answer(status, "application/json", orjson.dumps(body))


class StatusServer:
    """Answers GET on the given paths, in threads of its own, until it is closed."""

    def __init__(self, host: str, port: int, paths: Mapping[str, Callable[[], Answer]]) -> None:
        """Listen on *host*:*port*, 0 for a free one. Raises Misconfigured when that fails."""
        try:
            self._server = _Server((host, port), _handler(paths))
        except OSError as error:
            found = f"{host}:{port} ({error.strerror})"
            expected = "an address of this machine with a free port, or port 0"
            raise Misconfigured(
                [Problem("settings", "supervisor.port", found, expected)]
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="status", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A probe that hangs must not keep the daemon from stopping.
    block_on_close = False


def _handler(paths: Mapping[str, Callable[[], Answer]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0  # of a client that connects and says nothing

        def do_GET(self) -> None:
            """Answer one request."""
            make = paths.get(self.path.partition("?")[0])
            try:
                answer = _NOT_FOUND if make is None else make()
            except Exception:  # noqa: BLE001 - a probe is code from elsewhere
                get_logger(__name__).exception("a status request failed", path=self.path)
                answer = _FAILED
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing: probes come every few seconds."""

    return Handler


_NOT_FOUND = Answer(HTTPStatus.NOT_FOUND, "text/plain", b"try /metrics, /healthz or /readyz\n")
_FAILED = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"failed; see the log\n")
