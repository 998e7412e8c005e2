"""
One part of the stack: a Python module run in a process of its own.

The process has its own session, so that Ctrl-C in a terminal reaches the stack
alone and the parts are ended in order; the kernel kills it when the thread that
started it ends, so that not even ``kill -9`` of the stack leaves it behind.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import consumer
from consumer.errors import Unavailable
from consumer.local.ports import HOST, port_of
from consumer.tether import tethered

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
_EXIT_TIMEOUT_S = 5.0
_TAIL_LINES = 15
_TAIL_BYTES = 16_384


class Part:
    """
    A running module that serves HTTP on a socket it inherits.

    Starting it is the constructor's work; *command* is the module and its own
    arguments, to which ``--fd N`` is added for *listener*. The parent's copy of
    *listener* is closed. Standard output and error go to ``<directory>/<name>.log``, which
    begins anew with each start.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        listener: socket.socket,
        *,
        directory: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.port = port_of(listener)
        self.log = directory / f"{name}.log"
        directory.mkdir(parents=True, exist_ok=True)
        module = [sys.executable, "-m", *command, "--fd", str(listener.fileno())]
        with self.log.open("wb") as log, listener:
            self._process = subprocess.Popen(
                tethered(module),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(environment or {}),
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def await_ready(self, path: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """
        Return when a GET of *path* is answered with 200.

        One request suffices: it waits in the queue of the socket until the
        server takes it, and is reset if the process ends instead. Raises
        Unavailable with the end of the log.
        """
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            status = connection.getresponse().status
        except TimeoutError as error:
            message = f"did not answer within {timeout_s:.0f} s{self._tail()}"
            raise Unavailable(self.name, message) from error
        except (OSError, http.client.HTTPException) as error:
            raise self.failure() from error
        finally:
            connection.close()
        if status != http.client.OK:
            raise Unavailable(self.name, f"answered {status} to GET {path}{self._tail()}")

    def failure(self) -> Unavailable:
        """Return the error of a process that ended by itself: how, and the end of its log."""
        try:
            # A reset connection can be seen a moment before the process has ended.
            code = self._process.wait(_EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return Unavailable(self.name, f"closed its connection{self._tail()}")
        return Unavailable(self.name, f"ended {_describe_exit(code)}{self._tail()}")

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End the process and what it started; doing it twice is harmless."""
        if not self.running:
            return
        # Not reaped yet, so the group still is this process's own.
        os.killpg(self.pid, signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def _tail(self) -> str:
        """Return the last lines of the log, set off for a message."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - _TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError as error:
            return f"; its log cannot be read: {error}"
        if not lines:
            return f"; its log {self.log} is empty"
        return "\n".join([f"; the end of {self.log}:", *lines[-_TAIL_LINES:]])


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with *own*, importing the same package from anywhere."""
    root = str(Path(consumer.__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", **own}


def _describe_exit(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"by signal {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"
