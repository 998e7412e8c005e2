"""Listening sockets on the loopback, taken before the server that will use them runs."""

import errno
import socket

from consumer.errors import Misconfigured, Problem

HOST = "127.0.0.1"
_BACKLOG = 512


def listen(port: int, owner: str) -> socket.socket:
    """
    Return a listening socket on *port*; 0 takes a free one.

    A port that is found free and bound later by another process can be taken in
    between; a socket that is bound here and handed down cannot. It also makes
    readiness simple: whoever connects early waits in its queue. *owner* names
    the part in the message. Raises Misconfigured where the port is taken.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A connection of the last run that lingers in TIME_WAIT must not stop a second start.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        taken = error.errno == errno.EADDRINUSE
        reason = "which another process uses" if taken else "which needs root"
        expected = "a free port, or 0 to have one chosen"
        raise Misconfigured([Problem(owner, "port", f"{port}, {reason}", expected)]) from error
    return listener


def port_of(listener: socket.socket) -> int:
    """Return the port that *listener* is bound to."""
    return int(listener.getsockname()[1])
