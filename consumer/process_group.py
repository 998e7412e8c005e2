"""A program in a process group of its own, which dies with us and as a whole."""

import os
import signal
import subprocess
import time
from contextlib import suppress
from typing import IO, cast

from consumer.multilang import Launch
from consumer.tether import tethered

_POLL_S = 0.02
_END_LIMIT_S = 10.0


class ProcessGroup:
    """
    The leader of the group and everything it starts.

    Start it from the main thread: the kernel's death signal follows the thread
    that started the program.
    """

    def __init__(self, launch: Launch) -> None:
        """Start *launch* with pipes on its standard output and error."""
        self._process = subprocess.Popen(  # noqa: S603 - our own command line, no shell
            tethered(launch.command),
            env=dict(launch.environment),
            cwd=launch.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )

    @property
    def pid(self) -> int:
        """Process id of the leader, and id of the group."""
        return self._process.pid

    @property
    def stdout(self) -> IO[bytes]:
        """What the leader prints."""
        return cast("IO[bytes]", self._process.stdout)

    @property
    def stderr(self) -> IO[bytes]:
        """What the leader complains about."""
        return cast("IO[bytes]", self._process.stderr)

    def poll(self) -> int | None:
        """The leader's exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def terminate_leader(self) -> None:
        """SIGTERM to the leader alone."""
        self._process.terminate()

    def cut(self) -> None:
        """SIGKILL to the whole group, from any thread; ``kill`` then sees that it is gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def kill(self) -> bool:
        """
        SIGKILL to the whole group, and wait until none of it is left.

        False when something is after ten seconds, as a process is that waits for a
        device in the kernel.
        """
        self.cut()
        self._process.wait()
        deadline_s = time.monotonic() + _END_LIMIT_S
        while alive := self._is_alive():
            if time.monotonic() >= deadline_s:
                break
            time.sleep(_POLL_S)
        return not alive

    def _is_alive(self) -> bool:
        # As process 1 of a container we inherit the leader's orphans and have to
        # collect them; elsewhere this finds none.
        with suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                pass
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True
