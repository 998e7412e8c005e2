"""SHAP values from a model archive, computed by a process of its own beside the worker."""

import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import orjson

_ROWS: Final = 32
_RESTART_PAUSE_S: Final = 30.0


class ModelProcess:
    """
    Asks the process that *command* starts, and starts it anew after a failure.

    It takes a JSON array of vectors a line and answers, a vector, the largest
    contributions as pairs of column and log-odds (``training/explain.py``).
    """

    max_rows = _ROWS
    pause_s = _RESTART_PAUSE_S
    unit = None

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def explain(self, rows: Sequence[Sequence[float]]) -> list[list[tuple[int, float]]]:
        """
        Return the largest contributions of each of *rows*.

        Raises OSError and ValueError when there is no process or it answers something else.
        """
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(orjson.dumps(rows, option=orjson.OPT_APPEND_NEWLINE))
        process.stdin.flush()
        answer: list[list[tuple[int, float]]] = orjson.loads(process.stdout.readline())
        return answer

    def close(self) -> None:
        """End the process; ``explain`` starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return self._process
