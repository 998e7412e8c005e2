"""A model endpoint on a real socket that answers, request by request, as it is told."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.scripted_server import Handler, ScriptedServer, drip, hang, no_http, reset

__all__ = ["Handler", "drip", "hang", "no_http", "reset"]


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


Answer = Callable[[Handler, Request], None]


def predictions(scores: list[float]) -> bytes:
    return json.dumps({"predictions": [{"score": score} for score in scores]}).encode()


def anomaly_scores(scores: list[float]) -> bytes:
    return json.dumps({"scores": [{"score": score} for score in scores]}).encode()


def explanations(rows: Sequence[Sequence[float]], names: Sequence[str]) -> bytes:
    """What an endpoint with a ClarifyExplainerConfig answers: contributions by row and column."""
    shap = [
        [
            {
                "feature_header": name,
                "feature_type": "numerical",
                "attributions": [{"attribution": [value]}],
            }
            for name, value in zip(names, row, strict=True)
        ]
        for row in rows
    ]
    data = "\n".join("0.95" for _ in rows)
    predictions = {"content_type": "text/csv; charset=utf-8", "data": data}
    answer = {"version": "1.0", "predictions": predictions, "explanations": {"kernel_shap": shap}}
    return json.dumps(answer).encode()


def echo(handler: Handler, request: Request) -> None:
    """Answer each row's first column, as XGBoost would; keep it within [0, 1]."""
    handler.reply(predictions(request.first_values))


def body(content: bytes, content_type: str = "application/json") -> Answer:
    return lambda handler, _: handler.reply(content, content_type=content_type)


def status(code: int, content: bytes = b'{"Message": "scripted"}') -> Answer:
    error = {"x-amzn-ErrorType": "ModelError"} if code >= 400 else {}
    return lambda handler, _: handler.reply(content, status=code, headers=error)


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


class SageMakerServer(ScriptedServer[Request]):
    """The server; ``plan`` says what the next requests get."""

    def __init__(self) -> None:
        super().__init__(echo)

    def read(self, handler: Handler, body: bytes) -> Request:
        return Request(handler.path, dict(handler.headers.items()), body.decode().split("\n"))
