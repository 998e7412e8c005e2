"""The daemon as a child of the demo or a test: started, awaited, stopped."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from consumer.errors import Unavailable
from consumer.local.child import Child
from consumer.local.ports import listen, port_of

_POLL_S = 0.25


class DaemonProcess(Child):
    """
    ``fraudstream run`` with its log in a file; a context manager that kills what is left.

    *environment* are variables on top of this process's own; the status port is a
    free one. ``address`` holds the variables that point a command at the daemon,
    ``variables`` all that it is given.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path, config: Path) -> None:
        probe = listen(0, "daemon")
        self.port = port_of(probe)
        probe.close()
        self.address = {
            "FRAUDSTREAM_SUPERVISOR__HOST": "127.0.0.1",
            "FRAUDSTREAM_SUPERVISOR__PORT": str(self.port),
            "FRAUDSTREAM_SUPERVISOR__RUN_DIR": str(directory / "run"),
        }
        words = ["run", "--config", str(config)]
        super().__init__("daemon", words, {**environment, **self.address}, directory)

    @property
    def url(self) -> str:
        """Where ``/metrics``, ``/healthz`` and ``/readyz`` are."""
        return f"http://127.0.0.1:{self.port}"

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
        raise Unavailable("daemon", f"not ready after {limit_s:.0f} s:\n{self.tail()}")

    def checkpoints(self) -> dict[str, int]:
        """The sequence number that each shard is checkpointed at, as ``/healthz`` says."""
        _, answer = self._get("/healthz")
        workers = answer.get("workers")
        return {
            worker["shard"]: int(worker["checkpoint"].partition(":")[0])
            for worker in (workers if isinstance(workers, list) else [])
            if worker["checkpoint"]
        }

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
