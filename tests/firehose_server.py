"""PutRecordBatch on a real socket that refuses, batch by batch, what it is told to refuse."""

import base64
import json
import threading
from collections import deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

Answer = Callable[["_Server", list[bytes]], tuple[int, dict[str, object]]]


def accept(server: "_Server", records: list[bytes]) -> tuple[int, dict[str, object]]:
    """Take every record."""
    return refuse()(server, records)


def refuse(*indexes: int, code: str = "ServiceUnavailableException") -> Answer:
    """Answer 200 and take all records but those at *indexes*."""

    def answer(server: "_Server", records: list[bytes]) -> tuple[int, dict[str, object]]:
        answers: list[dict[str, str]] = []
        for index, record in enumerate(records):
            if index in indexes:
                answers.append({"ErrorCode": code, "ErrorMessage": "scripted"})
            else:
                server.accepted.append(record)
                answers.append({"RecordId": str(len(server.accepted))})
        return 200, {"FailedPutCount": len(indexes), "RequestResponses": answers}

    return answer


def fail(status: int, code: str) -> Answer:
    """Refuse the whole call."""
    return lambda _server, _records: (status, {"__type": code, "message": "scripted"})


def lose_answer(server: "_Server", records: list[bytes]) -> tuple[int, dict[str, object]]:
    """Take every record and end the connection without an answer."""
    server.accepted.extend(records)
    return 0, {}


def answer_some(server: "_Server", records: list[bytes]) -> tuple[int, dict[str, object]]:
    """Take the first record and say nothing about the others."""
    server.accepted.append(records[0])
    return 200, {"FailedPutCount": 0, "RequestResponses": [{"RecordId": "1"}]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    server: "_Server"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        records = [base64.b64decode(record["Data"]) for record in body["Records"]]
        with self.server.lock:
            self.server.calls.append((body["DeliveryStreamName"], records))
            plan = self.server.plan
            status, answer = (plan.popleft() if plan else self.server.default)(self.server, records)
        if not status:
            self.close_connection = True
            return
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the stdlib's name
        """Keep quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lock = threading.Lock()
        self.plan: deque[Answer] = deque()
        self.default: Answer = accept
        self.calls: list[tuple[str, list[bytes]]] = []
        self.accepted: list[bytes] = []


class FirehoseServer:
    """Context manager around the server; ``plan`` says what the next calls get."""

    def __init__(self) -> None:
        self._server = _Server()
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def calls(self) -> list[tuple[str, list[bytes]]]:
        """Stream and records of every call, the refused ones too."""
        with self._server.lock:
            return list(self._server.calls)

    @property
    def accepted(self) -> list[bytes]:
        with self._server.lock:
            return list(self._server.accepted)

    def plan(self, *answers: Answer) -> None:
        """The next calls get *answers*, in order; later ones the default."""
        with self._server.lock:
            self._server.plan.extend(answers)

    def always(self, answer: Answer) -> None:
        with self._server.lock:
            self._server.default = answer

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
