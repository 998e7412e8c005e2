"""The daemon as a child of the demo or a test: started, awaited, stopped."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from consumer.errors import Unavailable
from consumer.local.ports import listen, port_of
from consumer.tether import tethered

_POLL_S = 0.25
_STOP_LIMIT_S = 60.0
_TAIL_LINES = 15


class DaemonProcess:
    """
    ``fraudstream run`` with its log in a file; a context manager that kills what is left.

    *environment* are variables on top of this process's own; the status port is a
    free one. ``address`` holds the variables that point a command at the daemon,
    ``variables`` all that it is given.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path, config: Path) -> None:
        self.log = directory / "daemon.log"
        probe = listen(0, "daemon")
        self.port = port_of(probe)
        probe.close()
        self.address = {
            "FRAUDSTREAM_SUPERVISOR__HOST": "127.0.0.1",
            "FRAUDSTREAM_SUPERVISOR__PORT": str(self.port),
            "FRAUDSTREAM_SUPERVISOR__RUN_DIR": str(directory / "run"),
        }
        self.variables = {**environment, **self.address}
        self._environment = {**os.environ, **self.variables}
        command = [sys.executable, "-m", "consumer", "run", "--config", str(config)]
        # However we end, the daemon drains, as it does on SIGTERM.
        self._command = tethered(command, signal.SIGTERM)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where ``/metrics``, ``/healthz`` and ``/readyz`` are."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id of the daemon while it runs, None otherwise."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                # Ctrl-C reaches us; the daemon is told to stop in order.
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

    def await_ready(
        self, shards: int, limit_s: float, on_wait: Callable[[str], None] = lambda _why: None
    ) -> None:
        """
        Wait until each of *shards* is being read and ``/readyz`` says so.

        ``on_wait`` hears why it is not ready yet. Raises Unavailable when the
        daemon ends first or takes longer than *limit_s*.
        """
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            self.check()
            status, answer = self._get("/readyz")
            workers = answer.get("workers")
            # One that knows how far behind it is has had its first delivery, be it empty.
            held = sum(
                worker["millis_behind_latest"] is not None
                for worker in (workers if isinstance(workers, list) else [])
            )
            if status == 200 and held >= shards:  # noqa: PLR2004 - HTTP OK
                return
            on_wait(f"{held} of {shards} shards")
            time.sleep(_POLL_S)
        raise Unavailable("daemon", f"not ready after {limit_s:.0f} s:\n{self._tail()}")

    def checkpoints(self) -> dict[str, int]:
        """The sequence number that each shard is checkpointed at, as ``/healthz`` says."""
        _, answer = self._get("/healthz")
        workers = answer.get("workers")
        return {
            worker["shard"]: int(worker["checkpoint"].partition(":")[0])
            for worker in (workers if isinstance(workers, list) else [])
            if worker["checkpoint"]
        }

    def check(self) -> None:
        """Raise Unavailable when the daemon has ended, with the end of its log."""
        if self._process is None or self._process.poll() is not None:
            code = None if self._process is None else self._process.returncode
            raise Unavailable("daemon", f"ended with exit code {code}:\n{self._tail()}")

    def stop(self) -> None:
        """
        Tell the daemon to stop and wait until it has drained.

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
            raise Unavailable("daemon", f"left with exit code {code}:\n{self._tail()}")

    def _get(self, path: str) -> tuple[int, dict[str, object]]:
        """Status and body of *path*; 0 and nothing while the daemon does not listen yet."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:  # noqa: S310 - our own address
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except (OSError, ValueError):
            return 0, {}

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])
