"""The daemon as a child of the demo: whatever ends the parent, the daemon ends too."""

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.settings import SHIPPED

# The daemon waits for a Redis that takes connections and never answers.
_PARENT = """
import sys
from pathlib import Path
from consumer.local.daemon import DaemonProcess
environment = {
    "FRAUDSTREAM_REDIS__URL": f"redis://127.0.0.1:{sys.argv[1]}/0",
    "FRAUDSTREAM_REDIS__TIMEOUT_S": "60",
}
with DaemonProcess(environment, Path(sys.argv[2]), Path(sys.argv[3])) as daemon:
    print(daemon.pid, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_daemon_ends_with_whoever_started_it(tmp_path: Path, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        parent = subprocess.Popen(
            [sys.executable, "-c", _PARENT, port, str(tmp_path), str(SHIPPED / "fraudstream.yaml")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert parent.stdin is not None
        assert parent.stdout is not None
        with parent.stdin, parent.stdout:
            daemon = os.pidfd_open(int(parent.stdout.readline()))
            connection, _ = listener.accept()  # it runs, and waits
            with connection:
                parent.send_signal(number)
                parent.wait(30)
                ended, _, _ = select.select([daemon], [], [], 30)
        os.close(daemon)
    assert ended, "the daemon outlived its parent"
