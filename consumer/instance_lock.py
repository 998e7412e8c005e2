"""No two live daemons share a run directory or a worker id."""

import fcntl
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from consumer.errors import Misconfigured, Problem


@contextmanager
def hold_instance(run_dir: Path, application: str, worker_id: str) -> Iterator[None]:
    """
    Hold *run_dir* and, on this machine, *worker_id* of *application* until the end.

    Two processes of one id would both take the leases of one for their own. The
    kernel drops both holds when the process ends, however it ends. Raises
    Misconfigured when another daemon holds one of them, or the directory cannot
    be written.
    """
    with ExitStack() as stack:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context((run_dir / "lock").open("w"))
        except OSError as error:
            found = f"{run_dir} ({error.strerror})"
            raise _problem("supervisor.run_dir", found, "a folder we can write to") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            found = f"{run_dir}, which a running daemon uses"
            raise _problem("supervisor.run_dir", found, "a folder of its own") from error
        name = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        try:
            # The leading zero byte makes it an abstract name: no file to clean up.
            name.bind(f"\0fraudstream/{application}/{worker_id}"[:107])
        except OSError as error:
            found = f"{worker_id}, which a daemon running on this machine has"
            raise _problem("kcl.worker_id", found, "an id of its own") from error
        yield


def _problem(key: str, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem("settings", key, found, expected)])
