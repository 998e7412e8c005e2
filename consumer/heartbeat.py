"""
What a worker is doing, in a small mapped file that outlives it.

A process ended by a signal says nothing; the file still holds its stage and
position. Two slots are written in turn, each with its length and checksum, so
that a write cut short leaves the one before readable. Times are seconds of
``CLOCK_MONOTONIC``, which is one clock for all processes of a machine.
"""

import mmap
import os
import struct
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec

from consumer.clock import Clock
from consumer.disk import on_disk, reserve
from consumer.errors import FraudstreamError
from consumer.model import Position, ShardId
from consumer.stages import WAITING, Stage

_SLOT_BYTES = 1024
_HEAD = struct.Struct("<QII")  # generation, length, CRC-32 of the body
_SUFFIX = ".state"
_CAUSE_LIMIT = 400
_NOTE_LIMIT = 120

HELD = "held"
"""How the cause of a worker begins that must not be started again before somebody looked."""

ORPHANED = "the parent process is gone"
"""The cause of a worker that left because Java had ended."""


class _Body(msgspec.Struct):
    """One slot's content; positions as text, since sequence numbers exceed 64 bits."""

    pid: int
    started_ticks: int
    shard_id: str = ""
    stage: str = Stage.START
    stage_s: float = 0.0
    position: str = ""
    checkpoint: str = ""
    delivery: tuple[str, str] = ("", "")
    under_way: tuple[str, str] = ("", "")
    progress_s: float = 0.0
    waited_s: float = 0.0
    unsaved_since_s: float | None = None
    millis_behind: int | None = None
    rules: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class WorkerState:
    """
    One worker as last seen.

    ``stage_s`` is when it entered its stage, ``progress_s`` when it last finished a
    chunk, ``waited_s`` when a dependency last failed it, ``unsaved_since_s`` since
    when finished records wait for a checkpoint (None when none wait), ``cause``
    why it decided to leave (empty when it did not). ``delivery`` and ``under_way``
    are the first and the last position of the delivery and of what of it is not
    finished, Firehose included; empty when there is none. ``rules`` names those it
    decides by where they are not the files'. ``alive`` is false for a process
    that is gone without having closed its file.
    """

    path: Path
    pid: int
    alive: bool
    shard_id: ShardId
    stage: str
    position: str
    checkpoint: str
    progress_s: float
    unsaved_since_s: float | None
    millis_behind: int | None
    cause: str
    stage_s: float = 0.0
    waited_s: float = 0.0
    delivery: tuple[str, str] = ("", "")
    under_way: tuple[str, str] = ("", "")
    rules: str = ""

    @property
    def moved_s(self) -> float:
        """
        When it last showed that it is not stuck.

        A worker that waits for a dependency tells of each attempt, and leaves by
        itself when its patience is over.
        """
        return max(self.progress_s, self.waited_s)


class Heartbeat:
    """
    The writer, one a worker process. A call costs a few microseconds and no system call.

    Any thread may call: that which looks for rules tells of those it refused.
    """

    def __init__(self, run_dir: Path, clock: Clock) -> None:
        """
        Create ``<run_dir>/workers/<pid>.state``; coming into being counts as progress.

        Raises Unavailable where the disk is full or cannot be written to.
        """
        self._clock = clock
        self._path = run_dir / "workers" / f"{os.getpid()}{_SUFFIX}"
        now_s = clock.monotonic_s()
        self._body = _Body(
            os.getpid(), _started_ticks(os.getpid()), stage_s=now_s, progress_s=now_s
        )
        self._encoder = msgspec.json.Encoder()
        self._lock = threading.Lock()
        self._generation = 0
        with on_disk(self._path), _create(self._path) as file:
            reserve(file, 2 * _SLOT_BYTES)
            self._map = mmap.mmap(file.fileno(), 2 * _SLOT_BYTES)
        self._write()

    def shard(self, shard_id: ShardId) -> None:
        """Say which shard this process works."""
        self._body.shard_id = shard_id
        self._write()

    def stage(self, name: str) -> None:
        """Say what is being done now: a ``Stage``, or ``waiting:redis``, ``waiting:s3`` …"""
        body = self._body
        body.stage = name
        body.stage_s = self._clock.monotonic_s()
        if name.startswith(WAITING):
            body.waited_s = body.stage_s
        self._write()

    def delivered(self, first: Position, last: Position) -> None:
        """Say from where to where the delivery goes that is worked next."""
        self._body.delivery = (str(first), str(last))
        self._write()

    def under_way(self, first: Position, last: Position) -> None:
        """
        Say which records are begun and not finished; written before the first is touched.

        What came before *first* is finished, which is progress.
        """
        body = self._body
        body.under_way = (str(first), str(last))
        body.progress_s = self._clock.monotonic_s()
        self._write()

    def nothing_under_way(self) -> None:
        """Say that every record that was begun is finished."""
        self._body.under_way = ("", "")
        self._write()

    def rules(self, note: str) -> None:
        """Say by which rules it decides where these are not those of the files; else empty."""
        self._body.rules = note[:_NOTE_LIMIT]
        self._write()

    def progress(self, position: Position | None, millis_behind: int | None) -> None:
        """Say that a delivery is worked; *position* is its last, None when it was empty."""
        body = self._body
        body.progress_s = self._clock.monotonic_s()
        body.millis_behind = millis_behind
        if position is not None:
            body.position = str(position)
            if body.unsaved_since_s is None and body.position != body.checkpoint:
                body.unsaved_since_s = body.progress_s
        self._write()

    def checkpointed(self, position: Position) -> None:
        """Say that the KCL stored a checkpoint at *position*; what is younger waits from now on."""
        body = self._body
        body.checkpoint = str(position)
        behind = body.position not in ("", body.checkpoint)
        body.unsaved_since_s = self._clock.monotonic_s() if behind else None
        self._write()

    def leaving(self, cause: str) -> None:
        """Say why the process is about to end without a checkpoint."""
        self._body.cause = cause[:_CAUSE_LIMIT]
        self._write()

    def close(self) -> None:
        """Remove the file: this worker left in good order and is nobody's concern."""
        self._map.close()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close after an ordinary end; after an error the file stays as evidence."""
        if kind is None:
            self.close()
        else:
            self.leaving(str(error) if isinstance(error, FraudstreamError) else kind.__name__)

    def _write(self) -> None:
        with self._lock:
            self._write_slot()

    def _write_slot(self) -> None:
        body = self._encoder.encode(self._body)
        while len(body) > _SLOT_BYTES - _HEAD.size:
            # Quotes and letters beyond ASCII take several bytes each. A write past the
            # slot would destroy the other one, or fail when a failure is to be told.
            self._body.cause = self._body.cause[: len(self._body.cause) // 2]
            body = self._encoder.encode(self._body)
        self._generation += 1
        start = self._generation % 2 * _SLOT_BYTES
        slot = _HEAD.pack(self._generation, len(body), zlib.crc32(body)) + body
        self._map[start : start + len(slot)] = slot


def _create(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w+b")


def read_heartbeats(run_dir: Path) -> list[WorkerState]:
    """The state of every worker that has not closed its file, in the order of their shards."""
    states = [
        state
        for path in (run_dir / "workers").glob(f"*{_SUFFIX}")
        if (state := _read(path)) is not None
    ]
    return sorted(states, key=lambda state: (state.shard_id, state.pid))


def _read(path: Path) -> WorkerState | None:
    """The newest whole slot of *path*; None when it vanished or was never written."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    newest = max(
        (slot for start in (0, _SLOT_BYTES) if (slot := _slot(content[start:])) is not None),
        key=lambda slot: slot[0],
        default=None,
    )
    if newest is None:
        return None
    body = msgspec.json.decode(newest[1], type=_Body)
    return WorkerState(
        path=path,
        pid=body.pid,
        alive=_started_ticks(body.pid) == body.started_ticks,
        shard_id=ShardId(body.shard_id),
        stage=body.stage,
        position=body.position,
        checkpoint=body.checkpoint,
        progress_s=body.progress_s,
        unsaved_since_s=body.unsaved_since_s,
        millis_behind=body.millis_behind,
        cause=body.cause,
        stage_s=body.stage_s,
        waited_s=body.waited_s,
        delivery=body.delivery,
        under_way=body.under_way,
        rules=body.rules,
    )


def _slot(content: bytes) -> tuple[int, bytes] | None:
    if len(content) < _HEAD.size:
        return None
    generation, length, checksum = _HEAD.unpack_from(content)
    body = content[_HEAD.size : _HEAD.size + length]
    if not generation or zlib.crc32(body) != checksum:
        return None
    return generation, body


def _started_ticks(pid: int) -> int:
    """
    When *pid* started, in clock ticks after boot; -1 when it is gone or a zombie.

    With the start time a reused process id is not taken for the worker.
    Fields as in proc(5): the name in parentheses may contain anything.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return -1
    fields = stat.rpartition(")")[2].split()
    state, started = fields[0], fields[19]
    return -1 if state in "ZX" else int(started)
