"""PutRecordBatch on a real socket that refuses, batch by batch, what it is told to refuse."""

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.scripted_server import Handler, ScriptedServer, close


@dataclass(frozen=True, slots=True)
class Batch:
    """One call: its stream and records; ``take`` keeps some and returns how many are kept."""

    stream: str
    records: list[bytes]
    take: Callable[[Sequence[bytes]], int]


Answer = Callable[[Handler, Batch], None]


def accept(handler: Handler, batch: Batch) -> None:
    """Take every record."""
    refuse()(handler, batch)


def refuse(*indexes: int, code: str = "ServiceUnavailableException") -> Answer:
    """Answer 200 and take all records but those at *indexes*."""

    def answer(handler: Handler, batch: Batch) -> None:
        answers: list[dict[str, str]] = []
        for index, record in enumerate(batch.records):
            if index in indexes:
                answers.append({"ErrorCode": code, "ErrorMessage": "scripted"})
            else:
                answers.append({"RecordId": str(batch.take([record]))})
        _reply(handler, 200, {"FailedPutCount": len(indexes), "RequestResponses": answers})

    return answer


def fail(status: int, code: str) -> Answer:
    """Refuse the whole call."""
    return lambda handler, _: _reply(handler, status, {"__type": code, "message": "scripted"})


def lose_answer(handler: Handler, batch: Batch) -> None:
    """Take every record and end the connection without an answer."""
    batch.take(batch.records)
    close(handler, batch)


def answer_some(handler: Handler, batch: Batch) -> None:
    """Take the first record and say nothing about the others."""
    batch.take(batch.records[:1])
    _reply(handler, 200, {"FailedPutCount": 0, "RequestResponses": [{"RecordId": "1"}]})


def _reply(handler: Handler, status: int, answer: dict[str, object]) -> None:
    content = json.dumps(answer).encode()
    handler.reply(content, status=status, content_type="application/x-amz-json-1.1")


class FirehoseServer(ScriptedServer[Batch]):
    """The server; ``plan`` says what the next calls get."""

    def __init__(self) -> None:
        super().__init__(accept)
        self._accepted: list[bytes] = []

    @property
    def calls(self) -> list[tuple[str, list[bytes]]]:
        """Stream and records of every call, the refused ones too."""
        return [(batch.stream, batch.records) for batch in self.requests]

    @property
    def accepted(self) -> list[bytes]:
        with self._lock:
            return list(self._accepted)

    def forget(self) -> None:
        """Drop the rows too."""
        super().forget()
        with self._lock:
            self._accepted.clear()

    def read(self, handler: Handler, body: bytes) -> Batch:
        content = json.loads(body)
        records = [base64.b64decode(record["Data"]) for record in content["Records"]]
        return Batch(content["DeliveryStreamName"], records, self._take)

    def _take(self, records: Sequence[bytes]) -> int:
        with self._lock:
            self._accepted.extend(records)
            return len(self._accepted)
