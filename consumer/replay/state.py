"""
Where a replay stands, as one small JSON text that is replaced whole.

What it names (parts of results, a snapshot of Redis) is complete when the text is written,
and nothing else counts: a process that is killed at any point resumes from the newest text,
and what it had done after it is thrown away or, on a live system, done again without effect.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from consumer.errors import Misconfigured, Problem

_VERSION = 2


class StatePlace(Protocol):
    """Where the text is kept: a file, or an object in S3."""

    @property
    def name(self) -> str:
        """The path or the ``s3://`` address."""
        ...

    def read(self) -> bytes | None:
        """Return the text, None where there is none. Raises Unavailable."""
        ...

    def write(self, data: bytes) -> None:
        """Replace the text whole. Raises Unavailable."""
        ...


class State(msgspec.Struct, frozen=True, kw_only=True):
    """
    Everything that a resume needs.

    ``identity`` is what has to be the same: the history, the target and what it decides by.
    ``ordinal`` is the event to go on with, ``taken`` the transactions that were selected.
    ``begun_ms`` is when the replay first began, which is the arrival of events from the
    future. ``target`` is what the target wants to know again; ``snapshot`` names that of a
    scratch Redis.
    """

    version: int = _VERSION
    identity: dict[str, str]
    ordinal: int = 0
    taken: int = 0
    begun_ms: int
    seconds: float = 0.0
    counts: dict[str, int] = msgspec.field(default_factory=dict)
    target: dict[str, object] = msgspec.field(default_factory=dict)
    snapshot: str | None = None
    rejects_bytes: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class FileState:
    """The text in the file *path*, whose folder is made."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def read(self) -> bytes | None:
        """Return the text; see the port."""
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, data: bytes) -> None:
        """Replace the text whole, on disk before the former one goes."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.partial")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)


def encode_state(state: State) -> bytes:
    """*state* as JSON."""
    return msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n"


def decode_state(data: bytes, name: str) -> State:
    """Read what ``encode_state`` wrote; *name* is its place. Raises Misconfigured."""
    expected = "the state of a replay of this version; begin anew with --restart"
    try:
        state = msgspec.json.decode(data, type=State)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Misconfigured([Problem(name, "the file", str(error), expected)]) from error
    if state.version != _VERSION:
        raise Misconfigured([Problem(name, "version", str(state.version), expected)])
    return state


def check_identity(state: State, identity: dict[str, str], name: str) -> None:
    """Raise Misconfigured, with everything that is another than it was, where that is so."""
    problems = [
        Problem(name, key, now or "nothing", f"{then or 'nothing'}, as when the replay began")
        for key in dict.fromkeys((*state.identity, *identity))
        if (then := state.identity.get(key, "")) != (now := identity.get(key, ""))
    ]
    if problems:
        raise Misconfigured(problems)
