"""
A connection of a client, with bounds on what it may cost before anybody knows whose it is.

uvicorn's protocol waits for the head of a request for ever, keeps headers of any size and any
number of connections, and answers what is no HTTP in plain text and with a line in the log each.
Here a head has a time and a size, connections a number, and every refusal is a problem document.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from consumer.api import problems
from consumer.api.problems import Kind, Problem, retry_after

MOST_HEAD_BYTES: Final = 65_536
_RETRY_AFTER_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """
    What the head of a request may take, and how many connections there may be.

    ``head_s`` is from the first byte of a request to the end of its headers.
    """

    connections: int
    head_s: float
    head_bytes: int = MOST_HEAD_BYTES


class BoundedConnection(HttpToolsProtocol):
    """One connection of HTTP/1.1 within *bounds*; *refused* hears of the status of each refusal."""

    bounds: ClassVar[Bounds]
    refused: ClassVar[Callable[[int], None]]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse one connection too many, and wait a while for the first request of others."""
        super().connection_made(transport)
        self._head: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._large = False
        if len(self.connections) > self.bounds.connections:
            detail = f"{self.bounds.connections} connections are open"
            self._refuse(retry_after(Kind.UNAVAILABLE, detail, _RETRY_AFTER_S))
            return
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived, as far as it is HTTP."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # HTTP/1.1 is all there is, and an offer of another protocol may be passed over.
            pass
        except httptools.HttpParserError:
            self._end_head()
            self._refuse(self._large_head() if self._large else Problem(Kind.NOT_HTTP))
            return
        # The parser keeps a line without an end, too.
        if self._head is not None:
            self._head_bytes += len(data)
            if self._head_bytes > self.bounds.head_bytes:
                self._end_head()
                self._refuse(self._large_head())

    def on_message_begin(self) -> None:
        """Wait for the end of the headers; only a request ends the wait for one."""
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._end_head()
        self._head = self.loop.call_later(self.bounds.head_s, self._head_is_late)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; what comes behind the body (a trailer) is none that was looked at."""
        if self._head is not None:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Hand the request on, unless its head is too large."""
        self._end_head()
        self._unset_keepalive_if_required()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.bounds.head_bytes:
            self._large = True
            message = "the head is too large"
            raise ValueError(message)
        super().on_headers_complete()

    def _end_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
        self._head_bytes = 0

    def _head_is_late(self) -> None:
        self._head = None
        detail = f"the headers did not arrive in {self.bounds.head_s:g} s"
        self._refuse(Problem(Kind.SLOW_REQUEST, detail))

    def _large_head(self) -> Problem:
        detail = f"expected a path and headers of at most {self.bounds.head_bytes} bytes"
        return Problem(Kind.LARGE_HEAD, detail)

    def _refuse(self, problem: Problem) -> None:
        """Answer with *problem*, where no other answer is due before it, and close."""
        status = problem.kind.status
        type(self).refused(status.value)
        # None before the first request, whatever uvicorn declares.
        cycle: RequestResponseCycle | None = self.cycle
        # A body that breaks off is the fault of the request that waits for it; what follows a
        # whole request is not, and its answer must not be taken for that one's.
        broken = cycle is not None and cycle.more_body and not cycle.response_started
        if cycle is None or cycle.response_complete or broken:
            body = problem.body()
            headers = {
                "content-type": problems.MEDIA_TYPE,
                "content-length": str(len(body)),
                "connection": "close",
                **problem.headers,
            }
            lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.close()


def bounded(bounds: Bounds, refused: Callable[[int], None]) -> type[asyncio.Protocol]:
    """The protocol for uvicorn, of connections within *bounds*."""
    members: dict[str, Any] = {"bounds": bounds, "refused": staticmethod(refused)}
    return type("Connection", (BoundedConnection,), members)
