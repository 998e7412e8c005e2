"""A command that does not outlive the process that starts it."""

import os
import signal
import sys
from collections.abc import Sequence

# Runs in the child: ask the kernel for a signal when our parent ends (prctl
# PR_SET_PDEATHSIG, which survives exec), make sure that it did not end before that was
# asked, become the command. A preexec_fn would do the same, but code between fork and
# exec can block for ever beside other threads (and from Python 3.12 is warned about).
_BIND = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[2]))
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[3], sys.argv[3:])
"""


def tethered(command: Sequence[str], number: signal.Signals = signal.SIGKILL) -> list[str]:
    """
    Return *command*, named by its full path, so that it gets *number* when we end.

    The kernel's death signal follows the thread that starts the command, so start it
    from one that lives as long as the command is to run (Linux).
    """
    bind = [sys.executable, "-I", "-S", "-c", _BIND, str(os.getpid()), str(int(number))]
    return [*bind, *command]
