import os
import signal
import subprocess
import sys

# The parent starts a child that hangs, prints its id, and waits to be killed.
_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", '''
import time
from consumer.orphan import leave_with_parent
leave_with_parent()
print("watching", flush=True)
time.sleep(600)
'''])
child.wait()
"""


def test_a_hanging_process_leaves_when_its_parent_is_killed() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        assert output.readline() == b"watching\n"
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        # The child holds the pipe, so its end is the child's end.
        assert b"the parent process is gone" in output.read()
