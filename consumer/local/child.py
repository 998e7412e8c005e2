"""A long-running command of the package as a child of the demo or a test."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from consumer.errors import Unavailable
from consumer.tether import tethered

_STOP_LIMIT_S = 60.0
_TAIL_LINES = 15


class Child:
    """
    ``fraudstream`` with *words*, its log in ``<directory>/<name>.log``; a context manager.

    *variables* are added to this process's own environment. However we end, the child is
    told to stop in order, as by SIGTERM; leaving kills what is left.
    """

    def __init__(
        self, name: str, words: Sequence[str], variables: Mapping[str, str], directory: Path
    ) -> None:
        self.log = directory / f"{name}.log"
        self.variables = dict(variables)
        self._name = name
        command = [sys.executable, "-m", "consumer", *words]
        self._command = tethered(command, signal.SIGTERM)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the child while it runs, None otherwise."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.variables},
                # Ctrl-C reaches us; the child is told to stop in order.
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Raise Unavailable when the child has ended, with the end of its log."""
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise Unavailable(self._name, f"ended with exit code {code}:\n{self.tail()}")

    def stop(self) -> None:
        """
        Tell the child to stop and wait until it has drained.

        Raises Unavailable when it does not leave in good order; it is killed then.
        """
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code != 0:
            raise Unavailable(self._name, f"left with exit code {code}:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of the log."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])
