import subprocess
import sys

_PROGRAM = """
from consumer.stdout_guard import guard
protocol = guard()
import os, signal
print("stray print")
os.system("echo stray command")
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGINT)
protocol.write(b"message\\n")
protocol.flush()
"""


def test_only_the_protocol_reaches_standard_output_and_signals_are_ignored() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, timeout=30, check=True
    )
    assert done.stdout == b"message\n"
    assert sorted(done.stderr.splitlines()) == [b"stray command", b"stray print"]
