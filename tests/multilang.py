"""
A driver that speaks the KCL's multilang protocol to a worker process.

One JSON object a line over the process's stdin and stdout, as the Java daemon
does it; see "The Multi-Language Protocol" in the KCL's documentation. Empty
lines on stdout are padding that kclpy writes.
"""

import base64
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import orjson

from consumer.model import Position


@dataclass(slots=True)
class Delivered:
    """One record as the driver sends it."""

    data: bytes
    position: Position
    arrival_ms: int
    partition_key: str = "key"

    def encode(self) -> dict[str, object]:
        return {
            "action": "record",
            "data": base64.b64encode(self.data).decode(),
            "partitionKey": self.partition_key,
            "sequenceNumber": str(self.position.sequence_number),
            "subSequenceNumber": self.position.sub_sequence_number,
            "approximateArrivalTimestamp": self.arrival_ms,
        }


@dataclass(slots=True)
class MultilangDriver:
    """Plays the Java daemon to one worker process; notes every checkpoint it is asked for."""

    process: "subprocess.Popen[bytes]"
    checkpoints: list[Position | None] = field(default_factory=list)
    checkpoint_errors: list[str] = field(default_factory=list)

    @classmethod
    def start(
        cls, command: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> "MultilangDriver":
        """Start *command*; its standard error goes to *log*."""
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=dict(environment),
            )
        return cls(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def initialize(
        self, shard_id: str, sequence_number: str = "TRIM_HORIZON", sub_sequence_number: int = 0
    ) -> None:
        """Hand the worker its shard."""
        self.ask(
            {
                "action": "initialize",
                "shardId": shard_id,
                "sequenceNumber": sequence_number,
                "subSequenceNumber": sub_sequence_number,
            }
        )

    def deliver(self, records: Iterable[Delivered], millis_behind: int = 0) -> None:
        """Send one delivery and wait until the worker is done with it."""
        self.ask(
            {
                "action": "processRecords",
                "millisBehindLatest": millis_behind,
                "records": [record.encode() for record in records],
            }
        )

    def request_shutdown(self) -> None:
        """Ask the worker to drain and checkpoint, as on SIGTERM of the daemon."""
        self.ask({"action": "shutdownRequested"})

    def end_shard(self) -> None:
        """Tell the worker that its shard was split or merged and is read to the end."""
        self.ask({"action": "shardEnded"})

    def lose_lease(self) -> None:
        """Tell the worker that another one owns its shard."""
        self.ask({"action": "leaseLost"})

    def ask(self, message: Mapping[str, object]) -> None:
        """
        Send *message* and serve checkpoints until its status comes.

        Raises EOFError when the worker leaves instead.
        """
        self._send(message)
        while True:
            answer = self._receive()
            if answer["action"] == "status":
                assert answer["responseFor"] == message["action"], answer
                return
            self._checkpoint(answer)

    def stop(self) -> int:
        """Close the worker's input, which it takes as the end, and return its exit code."""
        _stream(self.process.stdin).close()
        code = self.process.wait(timeout=30)
        _stream(self.process.stdout).close()
        return code

    def _checkpoint(self, answer: Mapping[str, object]) -> None:
        assert answer["action"] == "checkpoint", answer
        number, sub = answer["sequenceNumber"], answer["subSequenceNumber"]
        error = self.checkpoint_errors.pop(0) if self.checkpoint_errors else None
        if error is None:
            self.checkpoints.append(_position(number, sub))
        self._send(
            {
                "action": "checkpoint",
                "sequenceNumber": number,
                "subSequenceNumber": sub,
                "error": error,
            }
        )

    def _send(self, message: Mapping[str, object]) -> None:
        stream = _stream(self.process.stdin)
        try:
            stream.write(orjson.dumps(message) + b"\n")
            stream.flush()
        except BrokenPipeError as error:
            raise EOFError(f"the worker left with {self.process.wait()}") from error

    def _receive(self) -> dict[str, object]:
        for line in _stream(self.process.stdout):
            if line.strip():
                answer: dict[str, object] = orjson.loads(line)
                return answer
        raise EOFError(f"the worker left with {self.process.wait()}")


def _position(number: object, sub: object) -> Position | None:
    """What a checkpoint names; None for a bare one."""
    return None if number is None else Position(int(str(number)), int(str(sub or 0)))


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
