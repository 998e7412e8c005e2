"""
SageMaker Runtime and Firehose that answer at once, in a process of their own.

Run as ``python -m tests.benchmarks.stub --fd N`` with a listening socket. Each
answer is a valid one for as many rows or records as the request has; making it
costs microseconds, so that what is measured is the client. One row in a hundred
scores high enough to be declined, as alerts belong to the work.
"""

import argparse
import asyncio
import re
import socket
from functools import cache
from typing import cast

import orjson
import uvloop

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"
_SUSPICIOUS_EVERY = 100
_LIKELY, _UNLIKELY = 0.9543210987, 0.0123456789
_ODD, _PLAIN = 1.2345678901, 0.7345678901


@cache
def predictions(rows: int) -> bytes:
    """What the built-in XGBoost answers for *rows*."""
    return _scores("predictions", _LIKELY, _UNLIKELY, rows)


@cache
def anomaly_scores(rows: int) -> bytes:
    """What the built-in Random Cut Forest answers for *rows*."""
    return _scores("scores", _ODD, _PLAIN, rows)


@cache
def accepted(records: int) -> bytes:
    """What PutRecordBatch answers when it took all *records*."""
    answers = [{"RecordId": f"{number:064d}"} for number in range(records)]
    return _response(
        b"application/x-amz-json-1.1",
        orjson.dumps({"FailedPutCount": 0, "Encrypted": False, "RequestResponses": answers}),
    )


@cache
def accepted_one() -> bytes:
    """What PutRecord answers."""
    body = orjson.dumps({"RecordId": f"{0:064d}", "Encrypted": False})
    return _response(b"application/x-amz-json-1.1", body)


def answer(head: bytes, body: bytes) -> bytes:
    """The whole response to one request, given its head (request line and headers) and body."""
    if head.startswith(b"GET "):
        return _response(b"text/plain", b"")
    if b"/invocations" in head[: head.index(b"\r\n")]:
        rows = body.count(b"\n") + 1
        return anomaly_scores(rows) if b"anomaly" in head else predictions(rows)
    if b"PutRecordBatch" in head:
        return accepted(body.count(b'"Data"'))
    return accepted_one()


def _scores(title: str, high: float, low: float, rows: int) -> bytes:
    scores = [{"score": low if (row + 1) % _SUSPICIOUS_EVERY else high} for row in range(rows)]
    return _response(b"application/json", orjson.dumps({title: scores}))


def _response(content_type: bytes, body: bytes) -> bytes:
    return _OK % (content_type, len(body)) + body


class _Connection(asyncio.Protocol):
    """One connection that is kept open: a request is answered as soon as it is whole."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None
        self._head_end = -1
        self._wanted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports fit without being of that class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while self._is_whole():
            head = bytes(self._received[: self._head_end])
            body = bytes(self._received[self._head_end + len(_HEAD_END) : self._wanted])
            del self._received[: self._wanted]
            self._head_end = -1
            assert self._transport is not None
            self._transport.write(answer(head, body))

    def _is_whole(self) -> bool:
        """Whether a request has arrived; the head of a long one is looked for only once."""
        if self._head_end < 0:
            self._head_end = self._received.find(_HEAD_END)
            if self._head_end < 0:
                return False
            length = _LENGTH.search(self._received, 0, self._head_end)
            body = 0 if length is None else int(length[1])
            self._wanted = self._head_end + len(_HEAD_END) + body
        return len(self._received) >= self._wanted


async def _serve(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Connection, sock=listener)
    await server.serve_forever()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    uvloop.run(_serve(socket.socket(fileno=parser.parse_args().fd)))


if __name__ == "__main__":
    main()
