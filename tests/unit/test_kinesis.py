import base64
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import orjson
import pytest
import structlog

from consumer.adapters.kinesis import (
    EXIT_FAILED,
    EXIT_UNAVAILABLE,
    Checkpoint,
    CheckpointRefused,
    Waiting,
    run_worker,
)
from consumer.errors import Held, Unavailable
from consumer.model import Position, Record, ShardId
from consumer.patience import Patience
from tests.fakes.clock import FakeClock

Message = dict[str, object]
INITIALIZE: Message = {
    "action": "initialize",
    "shardId": "shard-1",
    "sequenceNumber": "TRIM_HORIZON",
    "subSequenceNumber": 0,
}
SHUTDOWN: Message = {"action": "shutdownRequested"}
LEASE_LOST: Message = {"action": "leaseLost"}
SHARD_ENDED: Message = {"action": "shardEnded"}
LIMIT_S = 60.0
TRANSIENT = ["ThrottlingException", "KinesisClientLibDependencyException", "RuntimeException"]


@pytest.fixture(autouse=True)
def _no_shard_bound_to_logs() -> Iterator[None]:
    yield
    structlog.contextvars.clear_contextvars()


def deliver(*records: Message) -> Message:
    return {"action": "processRecords", "millisBehindLatest": 40, "records": list(records)}


def record(number: int, data: bytes, sub: int = 0) -> Message:
    return {
        "action": "record",
        "sequenceNumber": str(number),
        "subSequenceNumber": sub,
        "approximateArrivalTimestamp": 1_700_000_000_123,
        "partitionKey": "key",
        "data": base64.b64encode(data).decode(),
    }


def checkpoint_reply(error: str | None = None) -> Message:
    return {"action": "checkpoint", "sequenceNumber": "1", "subSequenceNumber": 0, "error": error}


@dataclass
class NotingProcessor:
    """Notes its calls; checkpoints each delivery, raises what it is told to."""

    raises: Exception | None = None
    calls: list[object] = field(default_factory=list)

    def start(self, shard_id: ShardId, position: Position | None) -> None:
        self.calls.append(("start", shard_id, position))

    def process(
        self, records: Sequence[Record], millis_behind_latest: int | None, checkpoint: Checkpoint
    ) -> None:
        self.calls.append(("process", list(records), millis_behind_latest))
        if self.raises is not None:
            raise self.raises
        if records:
            checkpoint(records[-1].position)

    def lease_lost(self) -> None:
        self.calls.append("lease_lost")

    def shard_ended(self, checkpoint: Checkpoint) -> None:
        self.calls.append("shard_ended")

    def shutdown_requested(self, checkpoint: Checkpoint) -> None:
        self.calls.append("shutdown_requested")
        checkpoint(Position(9, 2))


@dataclass
class Conversation:
    """What came of one run over prepared input."""

    sent: list[Message]
    left_with: int | None
    causes: list[str]
    waits: list[str]
    clock: FakeClock


def converse(
    processor: NotingProcessor,
    messages: Iterable[Message],
    on_failure: Callable[[str], None] | None = None,
    drain_limit_s: float = LIMIT_S,
) -> Conversation:
    protocol_in = io.BytesIO(b"".join(orjson.dumps(message) + b"\n" for message in messages))
    protocol_out = io.BytesIO()
    causes: list[str] = []
    waits: list[str] = []
    clock = FakeClock()

    def wait(error: Unavailable, _waited_s: float) -> None:
        waits.append(str(error))

    def leave(code: int) -> NoReturn:
        raise SystemExit(code)

    code: int | None = None
    try:
        run_worker(
            processor,
            protocol_in,
            protocol_out,
            waiting=Waiting(Patience(clock, clock.sleep, LIMIT_S, wait), drain_limit_s),
            on_failure=on_failure or causes.append,
            leave=leave,
        )
    except SystemExit as exit_:
        code = int(str(exit_.code))
    sent = [orjson.loads(line) for line in protocol_out.getvalue().splitlines() if line]
    return Conversation(sent, code, causes, waits, clock)


def status(action: str) -> Message:
    return {"action": "status", "responseFor": action}


def test_records_arrive_as_bytes_with_their_place_and_time() -> None:
    processor = NotingProcessor()
    number = 49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898
    converse(
        processor, [INITIALIZE, deliver(record(number, b"\x00\xff", sub=3)), checkpoint_reply()]
    )
    position = Position(number, 3)
    expected = Record(ShardId("shard-1"), position, 1_700_000_000_123, b"\x00\xff")
    assert processor.calls == [("start", "shard-1", None), ("process", [expected], 40)]


def test_a_shard_with_a_checkpoint_starts_after_it() -> None:
    processor = NotingProcessor()
    converse(processor, [{**INITIALIZE, "sequenceNumber": "17", "subSequenceNumber": 4}])
    assert processor.calls == [("start", "shard-1", Position(17, 4))]


def test_a_checkpoint_names_sequence_and_sub_sequence() -> None:
    messages = [INITIALIZE, deliver(record(5, b"a"), record(5, b"b", sub=1)), checkpoint_reply()]
    conversation = converse(NotingProcessor(), messages)
    assert conversation.sent == [
        status("initialize"),
        {"action": "checkpoint", "sequenceNumber": "5", "subSequenceNumber": 1},
        status("processRecords"),
    ]
    assert conversation.left_with is None


def test_an_empty_delivery_reaches_the_processor() -> None:
    processor = NotingProcessor()
    converse(processor, [INITIALIZE, deliver()])
    assert processor.calls[1:] == [("process", [], 40)]


@pytest.mark.parametrize(
    ("error", "code", "cause"),
    [
        (ValueError("bad"), EXIT_FAILED, "ValueError"),
        (Unavailable("redis", "gone"), EXIT_UNAVAILABLE, "redis: gone"),
    ],
)
def test_an_error_leaves_at_once_without_status_or_checkpoint(
    error: Exception, code: int, cause: str
) -> None:
    messages = [INITIALIZE, deliver(record(1, b"a")), SHUTDOWN]
    conversation = converse(NotingProcessor(raises=error), messages)
    assert conversation.sent == [status("initialize")]
    assert (conversation.left_with, conversation.causes) == (code, [cause])


@pytest.mark.parametrize("error", TRANSIENT)
def test_a_checkpoint_that_dynamodb_does_not_take_now_is_waited_for_and_each_refusal_is_told(
    error: str,
) -> None:
    replies = [checkpoint_reply(error)] * 3 + [checkpoint_reply()]
    conversation = converse(NotingProcessor(), [INITIALIZE, deliver(record(1, b"a")), *replies])
    assert conversation.sent[-1] == status("processRecords")
    assert conversation.waits == [f"dynamodb: checkpoint refused: {error}"] * 3
    assert len(conversation.clock.pauses) == 3


def test_a_checkpoint_that_stays_throttled_ends_the_worker_when_its_patience_is_over() -> None:
    replies = [checkpoint_reply("ThrottlingException")] * 1_000
    conversation = converse(NotingProcessor(), [INITIALIZE, deliver(record(1, b"a")), *replies])
    assert conversation.left_with == EXIT_UNAVAILABLE
    assert conversation.causes == ["dynamodb: checkpoint refused: ThrottlingException"]
    assert LIMIT_S <= sum(conversation.clock.pauses) < LIMIT_S + 2


@pytest.mark.parametrize("error", ["InvalidStateException", "IllegalArgumentException"])
def test_a_checkpoint_that_will_never_be_taken_is_not_tried_again(error: str) -> None:
    messages = [INITIALIZE, deliver(record(1, b"a")), checkpoint_reply(error)]
    conversation = converse(NotingProcessor(), messages)
    assert conversation.left_with == EXIT_UNAVAILABLE
    assert conversation.causes == [f"dynamodb: checkpoint refused: {error}"]
    assert conversation.waits == []


def test_a_shutdown_waits_for_its_checkpoint_only_as_long_as_the_grace_allows() -> None:
    replies = [checkpoint_reply("ThrottlingException")] * 1_000
    messages = [INITIALIZE, SHUTDOWN, *replies]
    conversation = converse(NotingProcessor(), messages, drain_limit_s=10.0)
    assert conversation.left_with == EXIT_UNAVAILABLE
    assert 10.0 <= sum(conversation.clock.pauses) < 12.0


def test_the_end_of_a_shard_is_waited_for_likewise() -> None:
    replies = [checkpoint_reply("ThrottlingException"), checkpoint_reply()]
    conversation = converse(NotingProcessor(), [INITIALIZE, SHARD_ENDED, *replies])
    assert conversation.sent[-1] == status("shardEnded")
    assert conversation.waits == ["dynamodb: checkpoint refused: ThrottlingException"]


def test_after_a_lost_lease_nothing_more_is_processed() -> None:
    processor = NotingProcessor()
    messages = [
        INITIALIZE,
        deliver(record(1, b"a")),
        checkpoint_reply("ShutdownException"),
        deliver(record(2, b"b")),
        LEASE_LOST,
    ]
    conversation = converse(processor, messages)
    assert [call if isinstance(call, str) else "other" for call in processor.calls] == [
        "other",
        "other",
        "lease_lost",
    ]
    assert conversation.left_with is None
    assert conversation.sent[-1] == status("leaseLost")


def test_a_processor_may_pass_on_that_the_lease_is_lost() -> None:
    conversation = converse(
        NotingProcessor(raises=CheckpointRefused("x")), [INITIALIZE, deliver(record(1, b"a"))]
    )
    assert conversation.left_with is None


def test_the_end_of_a_shard_is_checkpointed_bare_after_draining() -> None:
    processor = NotingProcessor()
    conversation = converse(processor, [INITIALIZE, SHARD_ENDED, checkpoint_reply()])
    assert processor.calls[-1] == "shard_ended"
    assert conversation.sent[1:] == [
        {"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None},
        status("shardEnded"),
    ]


def test_a_requested_shutdown_drains_and_checkpoints() -> None:
    messages = [INITIALIZE, SHUTDOWN, checkpoint_reply()]
    conversation = converse(NotingProcessor(), messages)
    assert conversation.sent[1:] == [
        {"action": "checkpoint", "sequenceNumber": "9", "subSequenceNumber": 2},
        status("shutdownRequested"),
    ]


def test_a_kcl_that_vanishes_during_a_checkpoint_ends_the_worker() -> None:
    conversation = converse(NotingProcessor(), [INITIALIZE, deliver(record(1, b"a"))])
    assert conversation.left_with == EXIT_UNAVAILABLE
    assert conversation.causes == ["kinesis: the KCL is gone"]


def test_the_end_of_input_is_the_end() -> None:
    assert converse(NotingProcessor(), []).left_with is None


def test_a_failure_that_cannot_even_be_told_leaves_all_the_same() -> None:
    def fail(cause: str) -> None:
        raise IndexError(cause)

    messages = [INITIALIZE, deliver(record(1, b"a")), deliver(record(2, b"b"))]
    processor = NotingProcessor(raises=Unavailable("redis", "gone"))
    conversation = converse(processor, messages, on_failure=fail)
    assert conversation.left_with == EXIT_UNAVAILABLE
    assert conversation.sent == [status("initialize")]


def test_a_flood_is_told_as_such_and_leaves() -> None:
    messages = [INITIALIZE, deliver(record(1, b"a"))]
    conversation = converse(NotingProcessor(raises=Held("60 of 100")), messages)
    assert conversation.left_with == EXIT_FAILED
    assert conversation.causes == ["held: 60 of 100"]


@pytest.mark.parametrize(
    "message",
    [
        *(None, [], 1, {}, {"action": "dance"}, {"action": []}, {"action": "processRecords"}),
        *(record(1, b"a"), checkpoint_reply()),
    ],
)
def test_a_message_outside_the_protocol_ends_the_process_without_its_content(
    message: object, capsys: pytest.CaptureFixture[str]
) -> None:
    processor = NotingProcessor()
    told: dict[str, object] = {"action": "dance", "data": "4111111111111111"}
    for each in (message, told):
        conversation = converse(processor, [INITIALIZE, each])  # type: ignore[list-item]
        assert conversation.left_with == EXIT_FAILED
        assert conversation.causes[0].startswith("a message that is not of the protocol")
    assert "4111111111111111" not in "".join(capsys.readouterr())
    assert processor.calls == [("start", "shard-1", None)] * 2


@pytest.mark.parametrize("place", [7, "9" * 5_000, {"number": 1}])
def test_a_start_that_cannot_be_read_is_not_answered_with_ok(place: object) -> None:
    conversation = converse(NotingProcessor(), [{**INITIALIZE, "sequenceNumber": place}])
    assert (conversation.left_with, conversation.sent) == (EXIT_FAILED, [])


@pytest.mark.parametrize("data", ["@@@@", "YQ", "Y Q==", "YQ==YQ==", "é", None])
def test_a_record_whose_data_is_no_base64_is_not_taken_for_another(data: str | None) -> None:
    processor = NotingProcessor()
    conversation = converse(processor, [INITIALIZE, deliver({**record(5, b"a"), "data": data})])
    assert conversation.left_with == EXIT_FAILED
    assert processor.calls == [("start", "shard-1", None)]
