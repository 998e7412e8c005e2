"""
The loop of a replay: read, wait until it is due, work, and now and then save where it stands.

A saved state says "everything before this ordinal is done, nothing after it is": results are on
disk, a scratch Redis is put aside. An interruption ends at such a point; a killed process goes
back to the one before.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import msgspec

from consumer.clock import Clock
from consumer.replay.chunks import Chunk, ChunkReader, Phase
from consumer.replay.pace import Pacer
from consumer.replay.progress import Display
from consumer.replay.state import State, StatePlace, encode_state
from consumer.replay.target import Result, Target
from consumer.replay.undecodable import Undecodable

# Saving takes at most this share of the time, however large a scratch Redis is.
_SAVING_SHARE = 0.05
_LONGEST_WAIT_S = 0.2


class Snapshots(Protocol):
    """A scratch Redis that can be put aside."""

    def put_aside(self) -> str:
        """Write its content to a snapshot and return its name. Raises Unavailable."""
        ...

    def forget_others(self) -> None:
        """Remove the snapshots before the newest."""
        ...


class Stopping(Protocol):
    """Tells that the replay is to end; a wait ends with it."""

    def wait(self, seconds: float) -> bool:
        """Wait so long; whether it is to end."""
        ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What a replay runs with. ``save_every_s`` is the pause between saved states."""

    reader: ChunkReader
    target: Target
    pacer: Pacer
    undecodable: Undecodable
    place: StatePlace
    snapshots: Snapshots | None
    display: Display
    stopping: Stopping
    clock: Clock
    save_every_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a replay ended: ``result`` is None where it was interrupted."""

    state: State
    result: Result | None = None


class Replay:
    """One run, from *state* to the end of what was selected or to an interruption."""

    def __init__(self, parts: Parts, state: State) -> None:
        self._parts = parts
        self._state = state
        self._ordinal = state.ordinal
        self._taken = state.taken
        self._begun_s = self._saved_s = parts.clock.monotonic_s()
        self._saving_s = 0.0
        parts.target.counts = Counter(state.counts)
        parts.undecodable.count = state.counts.get("rejected", 0)

    def run(self) -> Outcome:
        """
        Replay until the end, or until it is told to stop.

        Raises Unavailable, having saved nothing since the last time: a resume does it again.
        Raises Misconfigured for what cannot be replayed.
        """
        with self._parts.display as display:
            for chunk in self._parts.reader:
                if self._work(chunk):
                    return Outcome(self._save())
                display.show(self._ordinal)
                self._save_when_due()
            state = self._save()
        result = self._parts.target.finish()
        counts = Counter(state.counts)
        counts.update(result.counts)
        done = msgspec.structs.replace(
            state, counts=dict(counts), seconds=self._seconds(), finished=True
        )
        self._parts.place.write(encode_state(done))
        return Outcome(done, result)

    def _work(self, chunk: Chunk) -> bool:
        """Work *chunk* as it comes due; whether to stop before its end."""
        for part in self._due(chunk):
            if part is None:
                return True
            self._parts.target.work(part)
            self._ordinal = part.after
            if part.phase is Phase.FULL:
                self._taken += part.transactions
            # Before the limit is looked at, so that what tripped it can be looked at.
            self._parts.undecodable.add(part.rejects, self._ordinal)
        return self._parts.stopping.wait(0)

    def _due(self, chunk: Chunk) -> Iterator[Chunk | None]:
        """Parts of *chunk* as they come due; None when the replay is to stop instead."""
        pacer = self._parts.pacer
        rest = chunk
        while rest.events and chunk.phase is Phase.FULL:
            due = pacer.due(rest.times_ms)
            if due >= len(rest.events):
                break
            if due:
                pacer.went(due)
                part, rest = rest.split(due)
                yield part
                continue
            self._save_when_due()
            wait_s = min(pacer.wait_s(rest.times_ms), _LONGEST_WAIT_S)
            if self._parts.stopping.wait(wait_s):
                yield None
                return
        pacer.went(len(rest.events))
        yield rest

    def _save_when_due(self) -> None:
        pause_s = max(self._parts.save_every_s, self._saving_s / _SAVING_SHARE)
        if self._parts.clock.monotonic_s() - self._saved_s >= pause_s:
            self._save()

    def _save(self) -> State:
        begun_s = self._parts.clock.monotonic_s()
        parts = self._parts
        target = parts.target.save()
        snapshot = None if parts.snapshots is None else parts.snapshots.put_aside()
        counts = dict(parts.target.counts)
        counts["rejected"] = parts.undecodable.count
        state = msgspec.structs.replace(
            self._state,
            ordinal=self._ordinal,
            taken=self._taken,
            seconds=self._seconds(),
            counts=counts,
            target=target,
            snapshot=snapshot,
            rejects_bytes=parts.undecodable.size_bytes,
        )
        parts.place.write(encode_state(state))
        if parts.snapshots is not None:
            parts.snapshots.forget_others()
        self._saved_s = parts.clock.monotonic_s()
        self._saving_s = self._saved_s - begun_s
        return state

    def _seconds(self) -> float:
        """Seconds that it took so far, those before interruptions included."""
        return self._state.seconds + self._parts.clock.monotonic_s() - self._begun_s
