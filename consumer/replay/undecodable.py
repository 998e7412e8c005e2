"""Events that the engine would not take, a line each, and how many of them are too many."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from consumer.errors import Misconfigured, Problem
from consumer.replay.chunks import Reject

_FEW = 100


class Undecodable:
    """
    NDJSON in *path*, made with the first line; a context manager.

    *size_bytes* of it are from before an interruption, the rest is written anew; where the file
    is gone, or on another machine, a new one begins. More than
    *limit_share* of the events, once there are more than a few, is too much.
    """

    def __init__(self, path: Path, size_bytes: int, limit_share: float) -> None:
        self._path = path
        self._limit_share = limit_share
        self.size_bytes = size_bytes
        self.count = 0

    def __enter__(self) -> Self:
        """Forget what was written after the state was saved."""
        there = self._path.stat().st_size if self._path.exists() else 0
        self.size_bytes = min(self.size_bytes, there)
        if self.size_bytes:
            os.truncate(self._path, self.size_bytes)
        else:
            self._path.unlink(missing_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Every line is on its way already."""

    def add(self, rejects: Sequence[Reject], events: int) -> None:
        """Write *rejects*, of *events* so far. Raises Misconfigured when they are too many."""
        if not rejects:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = b"".join(map(_line, rejects))
        with self._path.open("ab") as file:
            file.write(lines)
        self.size_bytes += len(lines)
        self.count += len(rejects)
        if self.count > max(_FEW, self._limit_share * events):
            last = rejects[-1]
            found = f"{self.count:,} of {events:,} events, the last one: {last.message} "
            found += f"({last.place})"
            expected = (
                f"at most {self._limit_share:.2%} that the engine does not take (--max-rejects); "
                f"they are in {self._path}"
            )
            raise Misconfigured([Problem("events", "rejected", found, expected)])


def _line(reject: Reject) -> bytes:
    fields = {
        "ordinal": reject.ordinal,
        "place": reject.place,
        "error": reject.code,
        "message": reject.message,
        "event": reject.payload,
    }
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
