"""
Where reading a history may begin again, so that a resume need not read it all.

A waypoint is an ordinal at which the time moves on, with the key of what comes there: files that
end before it are not opened, of the others what lies before is left out by DuckDB.
"""

from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from consumer.replay.history import Slice

_EVERY: Final = 1 << 19


@dataclass(slots=True)
class Waypoints:
    """Pairs of ordinal and key, in order, kept in the file *path*, a line each."""

    path: Path
    known: list[tuple[int, int]]

    @classmethod
    def of(cls, path: Path) -> "Waypoints":
        """Read what an earlier reading of the same history kept; a line cut short ends it."""
        known: list[tuple[int, int]] = []
        try:
            for line in path.read_bytes().splitlines():
                ordinal, key = orjson.loads(line)
                known.append((int(ordinal), int(key)))
        except (OSError, ValueError, TypeError):
            pass
        return cls(path, known)

    def before(self, first: int) -> tuple[int, int]:
        """An ordinal up to *first*, with the key from which on reading begins with it."""
        place = bisect_right(self.known, (first, 2**62))
        return self.known[place - 1] if place else (0, 0)

    def note(self, found: Slice) -> None:
        """Remember a place in *found*, where the last one is far behind."""
        newest = self.known[-1][0] if self.known else 0
        if found.first < newest + _EVERY:
            return
        times = found.times_ms
        for index in range(1, len(times)):
            if times[index] > times[index - 1]:
                waypoint = (found.first + index, times[index] * 2)
                self.known.append(waypoint)
                with self.path.open("ab") as file:
                    file.write(orjson.dumps(waypoint, option=orjson.OPT_APPEND_NEWLINE))
                return
