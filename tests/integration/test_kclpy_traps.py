"""Properties of amazon_kclpy that the worker's glue is built around."""

import io

import orjson
import pytest
from amazon_kclpy import kcl
from amazon_kclpy.v3.processor import RecordProcessorBase


class _Failing(RecordProcessorBase):  # type: ignore[misc]
    def initialize(self, message: object) -> None:
        raise ValueError("told to")

    def process_records(self, message: object) -> None:
        raise SystemExit(3)

    def lease_lost(self, message: object) -> None: ...

    def shard_ended(self, message: object) -> None: ...

    def shutdown_requested(self, message: object) -> None: ...


INITIALIZE = {
    "action": "initialize",
    "shardId": "shard-1",
    "sequenceNumber": "TRIM_HORIZON",
    "subSequenceNumber": 0,
}


def _run(*messages: dict[str, object]) -> str:
    lines = "".join(orjson.dumps(message).decode() + "\n" for message in messages)
    output = io.StringIO()
    kcl.KCLProcess(_Failing(), io.StringIO(lines), output, io.StringIO()).run()
    return output.getvalue()


def test_kclpy_answers_ok_to_a_processor_that_raised() -> None:
    assert '"responseFor": "initialize"' in _run(INITIALIZE)


def test_only_system_exit_escapes_kclpy() -> None:
    deliver = {"action": "processRecords", "millisBehindLatest": 0, "records": []}
    with pytest.raises(SystemExit) as exited:
        _run(deliver)
    assert exited.value.code == 3


def test_the_message_reader_can_be_replaced() -> None:
    process = kcl.KCLProcess(_Failing(), io.StringIO(), io.StringIO(), io.StringIO())
    assert process.io_handler is process.checkpointer.io_handler
    assert callable(process.io_handler.load_action)
