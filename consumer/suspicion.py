"""
Records that may have ended their worker: what the next one handles with care.

The supervisor notes each death that a record may be to blame for in a file a shard,
``<run_dir>/suspects/``. The next worker reads it and works the range that was under
way record by record, so that another death names its record; a record that was alone
under way at three deaths is not touched again, but dead-lettered as ``crashed``. The
suspicion ends with the first checkpoint past it.

The file is as local as the run directory: where another host takes the shard over,
counting starts anew.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import msgspec

from consumer.errors import Rejected
from consumer.logs import get_logger
from consumer.model import Position, ShardId

DEATHS_LIMIT = 3
"""Deaths at one record after which it is no longer tried."""

_KEPT = 32

_log = get_logger(__name__)


class Death(msgspec.Struct, frozen=True):
    """
    One death: of what, in which stage, after how many seconds in it, and when.

    ``at`` are the first and the last position under way; equal, they name the record.
    """

    how: str
    stage: str
    stage_age_s: float
    time_ms: int
    at: tuple[str, str]

    def __str__(self) -> str:
        time = datetime.fromtimestamp(self.time_ms / 1000, UTC).isoformat(timespec="seconds")
        return f"{self.how} in stage {self.stage} after {self.stage_age_s:g} s at {time}"


class _Case(msgspec.Struct):
    """The file. ``ranges`` (first and last position, both included) are apart and in order."""

    shard_id: str
    ranges: list[tuple[str, str]] = []
    deaths: list[Death] = []


class Suspects:
    """
    The suspected records of one application's shards, as their workers see them.

    Nothing of it costs more than a comparison while nothing is suspected.
    """

    def __init__(self, run_dir: Path, application: str) -> None:
        self._run_dir = run_dir
        self._application = application
        self._path = run_dir
        self._case = _Case("")
        self._ranges: list[tuple[Position, Position]] = []

    def take_up(self, shard_id: ShardId, checkpoint: Position | None) -> None:
        """Read what is suspected in *shard_id*; what lies before *checkpoint* no longer is."""
        self._path = case_path(self._run_dir, self._application, shard_id)
        self._case = _read(self._path, shard_id)
        self._note_ranges()
        if checkpoint is not None:
            self.saved(checkpoint)
        if self._ranges:
            _log.warning(
                "records that may have ended the worker are worked one by one",
                ranges=[f"{first}-{last}" for first, last in self._ranges],
                deaths=[str(death) for death in self._case.deaths],
            )

    @property
    def any(self) -> bool:
        """Whether anything is suspected."""
        return bool(self._ranges)

    def concern(self, position: Position) -> bool:
        """Whether the record at *position* is to be worked alone."""
        return any(first <= position <= last for first, last in self._ranges)

    def condemned(self, position: Position) -> Rejected | None:
        """Why the record at *position* must not be tried again; None while it may be."""
        name = str(position)
        deaths = [death for death in self._case.deaths if death.at == (name, name)]
        if len(deaths) < DEATHS_LIMIT:
            return None
        told = "; ".join(map(str, deaths[-DEATHS_LIMIT:]))
        return Rejected("crashed", f"working it ended the process {len(deaths)} times: {told}")

    def killed_in(self, position: Position, stages: Sequence[str]) -> bool:
        """Whether the record at *position* was alone under way at a death in one of *stages*."""
        name = str(position)
        return any(
            death.at == (name, name) and death.stage in stages for death in self._case.deaths
        )

    def saved(self, checkpoint: Position) -> None:
        """
        Forget what lies at or before *checkpoint*: it does not come again.

        Not sooner, since a record that was dead-lettered would be tried again.
        """
        if not self._ranges or self._ranges[0][1] > checkpoint:
            return
        case = self._case
        case.ranges = [each for each in case.ranges if _position(each[1]) > checkpoint]
        case.deaths = [each for each in case.deaths if _position(each.at[1]) > checkpoint]
        self._note_ranges()
        try:
            _write(self._path, case)
        except OSError as error:
            # The next worker drops it by its own checkpoint.
            _log.warning("a suspicion could not be forgotten", error=error.strerror)

    def _note_ranges(self) -> None:
        self._ranges = [(_position(first), _position(last)) for first, last in self._case.ranges]


def accuse(run_dir: Path, application: str, shard_id: ShardId, death: Death) -> None:
    """Add *death* to what is suspected in *shard_id*. Raises OSError."""
    path = case_path(run_dir, application, shard_id)
    case = _read(path, shard_id)
    case.deaths = [*case.deaths, death][-_KEPT:]
    case.ranges = _merge([*case.ranges, death.at])
    _write(path, case)


def case_path(run_dir: Path, application: str, shard_id: ShardId) -> Path:
    """The file of *shard_id*; names of streams may not leave the folder."""
    return run_dir / "suspects" / f"{quote(application, safe='')}--{quote(shard_id, safe='')}.json"


def _merge(ranges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """*ranges* in order, those that overlap as one."""
    merged: list[tuple[Position, Position]] = []
    for first, last in sorted((_position(first), _position(last)) for first, last in ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return [(str(first), str(last)) for first, last in merged]


def _read(path: Path, shard_id: ShardId) -> _Case:
    try:
        case = msgspec.json.decode(path.read_bytes(), type=_Case)
        for first, last in [*case.ranges, *(death.at for death in case.deaths)]:
            _position(first), _position(last)
    except FileNotFoundError:
        return _Case(shard_id)
    except (OSError, ValueError) as error:
        # Written whole or not at all by us; somebody else's edit is not worth a stop.
        _log.error("a suspicion could not be read", file=str(path), error=str(error))
        return _Case(shard_id)
    return case


def _write(path: Path, case: _Case) -> None:
    """Replace the file in one step, or remove it when nothing is suspected."""
    if not case.ranges:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(msgspec.json.encode(case))
    unfinished.replace(path)


def _position(text: str) -> Position:
    """Read ``str(Position)``. Raises ValueError."""
    number, _, sub_number = text.partition(":")
    return Position(int(number), int(sub_number))
