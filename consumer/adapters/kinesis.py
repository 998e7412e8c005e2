"""
The worker's end of the KCL's multilang protocol, on ``amazon_kclpy``.

The KCL's Java process starts one of us a shard and talks JSON lines over
standard input and output. Two properties of kclpy shape this module: it answers
"status OK" whatever a record processor raises, and a later bare checkpoint then
passes the failed records. So an exception ends the process without checkpoint
before kclpy sees it, and checkpoints name their position, except at the end of
a shard.
"""

import base64
import io
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, NoReturn, Protocol

import orjson
import structlog
from amazon_kclpy import kcl
from amazon_kclpy.checkpoint_error import CheckpointError
from amazon_kclpy.dispatch import MalformedAction, message_decode
from amazon_kclpy.v3.processor import RecordProcessorBase

from consumer.errors import FraudstreamError, Held, Unavailable
from consumer.heartbeat import HELD
from consumer.logs import get_logger
from consumer.model import Position, Record, ShardId
from consumer.patience import Patience

# sysexits.h: a software error, and a temporary failure that a restart may cure.
EXIT_FAILED = 70
EXIT_UNAVAILABLE = 75

Checkpoint = Callable[[Position], None]
Leave = Callable[[int], NoReturn]

# Java's exceptions, by simple name. These pass by themselves; the last is what the KCL makes
# of a server that it cannot reach, and of a call that took too long.
_TRANSIENT = ("ThrottlingException", "KinesisClientLibDependencyException", "RuntimeException")
_LEASE_LOST = "ShutdownException"


class CheckpointRefused(FraudstreamError):
    """The lease is no longer ours: another worker goes on from the last checkpoint."""


class NotUnderstood(FraudstreamError):
    """A message of the KCL that is JSON and none of its protocol; its content is not told."""

    def __init__(self, why: str) -> None:
        super().__init__(f"a message that is not of the protocol ({why})")


@dataclass(frozen=True, slots=True)
class Waiting:
    """
    How a checkpoint that DynamoDB does not take now is waited for: with ``patience``.

    From a request to shut down on for ``drain_limit_s`` at most, which has to end before the
    KCL's grace does.
    """

    patience: Patience
    drain_limit_s: float


class Processor(Protocol):
    """What a shard's worker does at each call of the KCL."""

    def start(self, shard_id: ShardId, position: Position | None) -> None:
        """Take up the shard after *position*; None where no checkpoint exists."""
        ...

    def process(
        self, records: Sequence[Record], millis_behind_latest: int | None, checkpoint: Checkpoint
    ) -> None:
        """Work through one delivery, which may be empty."""
        ...

    def lease_lost(self) -> None:
        """Drop what was started; no checkpoint is possible any more."""
        ...

    def shard_ended(self, checkpoint: Checkpoint) -> None:
        """Drain; the end of the shard is checkpointed afterwards."""
        ...

    def shutdown_requested(self, checkpoint: Checkpoint) -> None:
        """Drain and checkpoint."""
        ...


def run_worker(
    processor: Processor,
    protocol_in: BinaryIO,
    protocol_out: BinaryIO,
    *,
    waiting: Waiting,
    on_failure: Callable[[str], None] = lambda _cause: None,
    leave: Leave = os._exit,
) -> int:
    """
    Serve the KCL until it closes *protocol_in*; return the exit code, 0.

    A checkpoint that DynamoDB does not take now is waited for as *waiting* says.

    Whatever *processor* raises is logged, told to *on_failure* in one line, and
    ends the process at once through *leave*: no checkpoint, and no ``finally``
    or ``atexit`` hook in which a library could still send something.
    """
    glue = _Glue(processor, waiting, on_failure, leave)
    log = get_logger(__name__)
    output = io.TextIOWrapper(protocol_out, encoding="utf-8")
    process: Any = kcl.KCLProcess(glue, protocol_in, output, sys.stderr)
    process.io_handler.load_action = lambda line: _decode(line, is_reply=glue.awaits_reply)
    try:
        process.run()
    except (orjson.JSONDecodeError, BrokenPipeError) as error:
        # Java ended in the middle of a message; there is nobody left to answer.
        log.warning("the KCL is gone", error=type(error).__name__)
    except NotUnderstood as error:
        on_failure(str(error))
        log.error("leaving without a checkpoint", error=str(error))  # noqa: TRY400 - said in full
        leave(EXIT_FAILED)
    finally:
        # Closing would write what is left to a pipe that may be broken.
        with suppress(OSError):
            output.detach()
    return 0


def _decode(line: bytes, *, is_reply: bool = False) -> Any:
    """
    One message of the KCL. Records stay plain dicts: kclpy would build an
    object of each through a hook of the slower ``json``.

    *is_reply* says that it is to answer a checkpoint; such an answer has no place
    anywhere else. Raises JSONDecodeError and NotUnderstood.
    """
    message = orjson.loads(line)
    try:
        action = message["action"]
        decoded = message_decode(message)
    except (MalformedAction, LookupError, TypeError, ValueError) as error:
        # "from None": the error of kclpy quotes the message, and with it records.
        raise NotUnderstood(type(error).__name__) from None
    if action == "record" or (action == "checkpoint" and not is_reply):
        # kclpy would fail at it and, for a record, answer with OK.
        raise NotUnderstood(action)
    return decoded


class _Glue(RecordProcessorBase):  # type: ignore[misc]
    """kclpy's record processor around ours; no exception passes it."""

    def __init__(
        self,
        processor: Processor,
        waiting: Waiting,
        on_failure: Callable[[str], None],
        leave: Leave,
    ) -> None:
        self._processor = processor
        self._waiting = waiting
        self._on_failure = on_failure
        self._leave = leave
        self._shard_id = ShardId("")
        self._refused = False
        self.awaits_reply = False

    def initialize(self, message: Any) -> None:
        """Take up the shard."""
        self._shard_id = ShardId(message.shard_id)
        structlog.contextvars.bind_contextvars(shard=message.shard_id)

        def start() -> None:
            position = _position(message.sequence_number, message.sub_sequence_number)
            self._processor.start(self._shard_id, position)

        self._guarded(start)

    def process_records(self, message: Any) -> None:
        """Hand over one delivery; nothing any more once a checkpoint was refused."""
        self._guarded(
            lambda: self._processor.process(
                [_record(self._shard_id, record) for record in message.records],
                message.millis_behind_latest,
                self._checkpoint_of(message.checkpointer),
            )
        )

    def lease_lost(self, _message: Any) -> None:
        """Pass on that the shard is another's."""
        self._refused = False
        self._guarded(self._processor.lease_lost)

    def shard_ended(self, message: Any) -> None:
        """Drain, then release the child shards, which only a bare checkpoint does."""

        def end() -> None:
            self._processor.shard_ended(self._checkpoint_of(message.checkpointer))
            self._send(message.checkpointer.checkpoint)

        self._guarded(end)

    def shutdown_requested(self, message: Any) -> None:
        """Drain and checkpoint while the lease is still ours."""
        until_s = self._waiting.patience.now_s() + self._waiting.drain_limit_s
        checkpoint = self._checkpoint_of(message.checkpointer, until_s)
        self._guarded(lambda: self._processor.shutdown_requested(checkpoint))

    def _guarded(self, call: Callable[[], None]) -> None:
        log = get_logger(__name__)
        if self._refused:
            return
        try:
            call()
        except CheckpointRefused as error:
            # Not a failure: Java says ``lease_lost`` next. Until then nothing
            # may be processed, since its place in the stream is unknown.
            self._refused = True
            log.warning("the lease is lost", error=str(error))
        except Held as error:
            # Said in full; a traceback would only hide it.
            self._fail(
                EXIT_FAILED, f"{HELD}: {error}", partial(log.error, "held", reason=str(error))
            )
        except Unavailable as error:
            told = partial(log.error, "leaving without a checkpoint", error=str(error))
            self._fail(EXIT_UNAVAILABLE, str(error), told)
        except Exception as error:  # noqa: BLE001 - one of the two places where it stands
            told = partial(log.exception, "leaving without a checkpoint")
            self._fail(EXIT_FAILED, type(error).__name__, told)

    def _fail(self, code: int, cause: str, tell: Callable[[], object]) -> NoReturn:
        """
        Leave with *code*, also when telling the cause fails.

        An exception that got past here would be answered with OK by kclpy, and
        a later checkpoint would pass the records that failed.
        """
        try:
            self._on_failure(cause)
            tell()
            sys.stderr.flush()
        finally:
            self._leave(code)

    def _checkpoint_of(self, checkpointer: Any, until_s: float = math.inf) -> Checkpoint:
        """A checkpoint function that is good for the present call only, and until *until_s*."""

        def checkpoint(position: Position) -> None:
            number, sub_number = str(position.sequence_number), position.sub_sequence_number
            self._send(lambda: checkpointer.checkpoint(number, sub_number), until_s)

        return checkpoint

    def _send(self, checkpoint: Callable[[], None], until_s: float = math.inf) -> None:
        """
        Checkpoint, waiting in place while DynamoDB is throttled or out.

        Each attempt is an answer to Java, so its timeout for us starts anew. Raises
        CheckpointRefused when the lease is another's, and Unavailable for all other
        refusals and at the end of patience: leaving is then right, whatever they mean.
        """
        refusal = self._waiting.patience.call(lambda: self._attempt(checkpoint), until_s)
        if refusal is not None:
            raise refusal

    def _attempt(self, checkpoint: Callable[[], None]) -> Unavailable | None:
        """
        Checkpoint once; return why it will never be stored, if so.

        Raises Unavailable where another attempt may help, and CheckpointRefused.
        """
        try:
            self.awaits_reply = True
            checkpoint()
        except CheckpointError as error:
            if error.value == _LEASE_LOST:
                raise CheckpointRefused(str(error.value)) from error
            refusal = Unavailable("dynamodb", f"checkpoint refused: {error.value}")
            if error.value in _TRANSIENT:
                raise refusal from error
            return refusal
        except (orjson.JSONDecodeError, BrokenPipeError):
            return Unavailable("kinesis", "the KCL is gone")
        except NotUnderstood as error:
            return Unavailable("kinesis", str(error))
        finally:
            self.awaits_reply = False
        return None


def _position(sequence_number: str | None, sub_sequence_number: int | None) -> Position | None:
    """A checkpoint of the KCL; None for TRIM_HORIZON, LATEST and other words."""
    if sequence_number is None or not sequence_number.isdecimal():
        return None
    return Position(int(sequence_number), int(sub_sequence_number or 0))


def _record(shard_id: ShardId, fields: dict[str, Any]) -> Record:
    return Record(
        shard_id=shard_id,
        position=Position(int(fields["sequenceNumber"]), int(fields["subSequenceNumber"] or 0)),
        arrival_ms=int(fields["approximateArrivalTimestamp"]),
        # Validated: what is no base64 would be left out, and the rest taken for the record.
        data=base64.b64decode(fields["data"], validate=True),
    )
