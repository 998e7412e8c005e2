"""
Where in Python a worker was when a signal ended it, in a file beside its heartbeat.

CPython's ``faulthandler`` writes it from the signal handler, so it works in C code
that holds the interpreter, and on a stack of its own. SIGUSR1 asks a worker that
hangs for the same, before it is ended. Positions in code only: no values, no data.
"""

import faulthandler
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from consumer.disk import on_disk

_ASK = signal.SIGUSR1
# For a worker that hangs to write where; one that is stopped never does.
_ASK_LIMIT_S = 1.0
_POLL_S = 0.05
_SUFFIX = ".fault"
_SHOWN = 2_000
# As faulthandler.c names them; the one with a hyphen since Python 3.13.
_SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Bus error": "SIGBUS",
    "Illegal instruction": "SIGILL",
    "Floating point exception": "SIGFPE",
    "Floating-point exception": "SIGFPE",
    "Aborted": "SIGABRT",
}
_FATAL = "Fatal Python error: "
_THREAD = "(most recent call first):"
_AT_FAULT = "Current thread"


class FaultTrace:
    """While entered, this process leaves ``<run_dir>/workers/<pid>.fault`` when it faults."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "workers" / f"{os.getpid()}{_SUFFIX}"

    def __enter__(self) -> Self:
        """Raises Unavailable where the disk cannot be written to."""
        with on_disk(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        faulthandler.enable(self._file, all_threads=True)
        faulthandler.register(_ASK, self._file, all_threads=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        faulthandler.unregister(_ASK)
        faulthandler.disable()
        self._file.close()
        self._path.unlink(missing_ok=True)


def trace_of(state_path: Path) -> Path:
    """The trace that belongs to the heartbeat at *state_path*."""
    return state_path.with_suffix(_SUFFIX)


def ask_where(workers: Mapping[Path, int]) -> None:
    """
    Have each worker write where it is, and give it a moment to do so.

    *workers* are process ids by trace; nothing in a process without one takes the
    signal, which would end it.
    """
    asked = [trace for trace in workers if trace.exists()]
    for trace in asked:
        with suppress(ProcessLookupError):
            os.kill(workers[trace], _ASK)
    deadline_s = time.monotonic() + _ASK_LIMIT_S
    while time.monotonic() < deadline_s and not all(map(_is_written, asked)):
        time.sleep(_POLL_S)


def _is_written(trace: Path) -> bool:
    try:
        return trace.stat().st_size > 0
    except OSError:
        return True


def read_trace(path: Path) -> tuple[str, str]:
    """
    The signal that *path* tells of and where each thread was, the one at fault first.

    Both are empty where the process wrote nothing; the signal is where it was only asked.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return "", ""
    name = text.partition(_FATAL)[2].partition("\n")[0]
    return _SIGNALS.get(name.strip(), ""), _in_order(text)


def _in_order(text: str) -> str:
    """The thread at fault first, which stands anywhere among the others; cut at some length."""
    parts = [part.strip() for part in text.split("\n\n")]
    threads = [part for part in parts if _THREAD in part]
    threads.sort(key=lambda part: not part.startswith(_AT_FAULT))
    return "\n".join(threads)[:_SHOWN]
