"""What a replay leaves in its work folder that nothing needs any more."""

import shutil
from contextlib import suppress
from pathlib import Path

# Of the history, of the join with labels, and of a scratch Redis.
_FOLDERS = ("redis", "spill", "history/spill", "history/objects")
_PARTS = ("rows-*.parquet", "labels-*.parquet", "latency-*.parquet")
_LOOKED_UP = ("history/survey-*", "history/waypoints-*")


def clear(work: Path) -> None:
    """Remove what grew in *work*; its state, what was rejected and what was looked up stay."""
    for name in _FOLDERS:
        shutil.rmtree(work / name, ignore_errors=True)
    _remove(work, _PARTS)


def forget(work: Path) -> None:
    """Remove *work* but for what was rejected and states: nobody asked for the folder."""
    clear(work)
    _remove(work, _LOOKED_UP)
    rejects = work / "history" / "rejects.ndjson"
    if rejects.exists() and not rejects.stat().st_size:
        rejects.unlink()
    for folder in (work / "history", work):
        # Something is left to look at, or nothing was made.
        with suppress(OSError):
            folder.rmdir()


def _remove(work: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in work.glob(pattern):
            path.unlink()
