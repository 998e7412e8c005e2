"""
The first thing a worker does: take standard output away from everyone else.

Standard output carries the KCL's protocol, one JSON message a line. A stray
``print`` in any library would corrupt it, so the descriptor is duplicated to a
private one and number 1 is pointed at standard error. This module imports
nothing but the standard library and runs before any other import.
"""

import os
import signal
from typing import BinaryIO


def guard() -> BinaryIO:
    """
    Return the real standard output; from now on descriptor 1 is standard error.

    SIGTERM and SIGINT are ignored from here on too: only Java is told to stop,
    and a worker that left on its own would lose the final checkpoint. It leaves
    when the KCL asks for it or closes its standard input.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    private = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(private, "wb")
