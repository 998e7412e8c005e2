"""Records into a stream that refuses, on a real socket, what it is told to refuse."""

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from consumer.adapters.aws import client
from consumer.adapters.stream import ATTEMPTS, BATCH_LIMIT_BYTES, Keyed, KinesisStream
from consumer.errors import Unavailable
from consumer.settings import Aws
from tests.fakes.clock import FakeClock
from tests.scripted_server import Handler, ScriptedServer, close

Records = list[Keyed]
Answer = Callable[[Handler, Records], None]
THROTTLED = "ProvisionedThroughputExceededException"


def refuse(*places: int) -> Answer:
    """Answer 200 and take all records but those at *places*."""

    def answer(handler: Handler, records: Records) -> None:
        answers: list[dict[str, Any]] = [
            {"ErrorCode": THROTTLED, "ErrorMessage": "scripted"}
            if place in places
            else {"SequenceNumber": str(place), "ShardId": "shardId-000000000000"}
            for place in range(len(records))
        ]
        reply(handler, 200, {"FailedRecordCount": len(places), "Records": answers})

    return answer


def accept(handler: Handler, records: Records) -> None:
    refuse()(handler, records)


def refuse_all(handler: Handler, records: Records) -> None:
    refuse(*range(len(records)))(handler, records)


def deny(handler: Handler, _: Records) -> None:
    reply(handler, 400, {"__type": "AccessDeniedException", "message": "scripted"})


def reply(handler: Handler, status: int, answer: dict[str, Any]) -> None:
    content = json.dumps(answer).encode()
    handler.reply(content, status=status, content_type="application/x-amz-json-1.1")


class KinesisServer(ScriptedServer[Records]):
    def __init__(self) -> None:
        super().__init__(accept)

    def read(self, handler: Handler, body: bytes) -> Records:
        records = json.loads(body)["Records"]
        return [(each["PartitionKey"], base64.b64decode(each["Data"])) for each in records]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[KinesisServer]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with KinesisServer() as running:
        yield running


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stream(server: KinesisServer, clock: FakeClock) -> KinesisStream:
    kinesis = client(
        "kinesis",
        Aws(endpoint_url=server.url),
        connect_timeout_s=5,
        read_timeout_s=5,
        max_pool_connections=1,
    )
    return KinesisStream(kinesis, "transactions", sleep=clock.sleep)


def entries(count: int) -> Records:
    return [(f"card_{number}", b"event %d" % number) for number in range(count)]


def test_records_arrive_with_their_keys_in_order(
    server: KinesisServer, stream: KinesisStream
) -> None:
    assert stream.put(entries(3)) == [None] * 3
    assert server.requests == [entries(3)]


def test_only_what_was_refused_is_sent_again(
    server: KinesisServer, stream: KinesisStream, clock: FakeClock
) -> None:
    server.plan(refuse(0, 2), refuse(1))
    assert stream.put(entries(4)) == [None] * 4
    first, second, third = server.requests
    assert second == [first[0], first[2]]
    assert third == [first[2]]
    assert len(clock.pauses) == 2


def test_what_is_refused_to_the_end_is_told_with_its_code(
    server: KinesisServer, stream: KinesisStream, clock: FakeClock
) -> None:
    server.plan(refuse(1))
    server.always(refuse_all)
    assert stream.put(entries(3)) == [None, THROTTLED, None]
    assert len(server.requests) == ATTEMPTS
    for pause_s, longest_s in zip(clock.pauses, (0.1, 0.2, 0.4, 0.8), strict=False):
        assert 0 <= pause_s <= longest_s


@pytest.mark.parametrize("answer", [deny, close])
def test_a_call_that_fails_whole_is_not_repeated(
    server: KinesisServer, stream: KinesisStream, answer: Answer
) -> None:
    server.plan(answer)
    with pytest.raises(Unavailable, match="kinesis: put_records"):
        stream.put(entries(1))
    assert len(server.requests) == 1


def test_calls_keep_both_limits_of_the_service(
    server: KinesisServer, stream: KinesisStream
) -> None:
    assert stream.put(entries(1_001)) == [None] * 1_001
    assert [len(records) for records in server.requests] == [500, 500, 1]

    third = b"x" * (BATCH_LIMIT_BYTES // 3)
    assert stream.put([("card_1", third)] * 4) == [None] * 4
    assert [len(records) for records in server.requests[3:]] == [2, 2]
