"""
Tells systemd how a service is: that it serves, that it stops, and that it is well.

The protocol is that of sd_notify(3): datagrams of ``NAME=value`` to the socket that
``NOTIFY_SOCKET`` names, ``@`` in front standing for the null byte of an abstract one.
``WATCHDOG_USEC`` asks for ``WATCHDOG=1`` at least that often. Outside systemd nobody asks.
"""

import os
import socket
from collections.abc import Mapping

from consumer.clock import Clock
from consumer.logs import get_logger

# Twice in the time that systemd waits, as sd_watchdog_enabled(3) recommends, and once to spare.
_SHARE = 3


class ServiceManager:
    """Whoever started this process, as far as *environment* names one that wants to hear."""

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._clock = clock
        self._told_s = 0.0
        self.interval_s = _interval_s(environment)

    def ready(self) -> None:
        """Say that the start is over."""
        self._tell("READY=1")

    def stopping(self) -> None:
        """Say that the process is about to end."""
        self._tell("STOPPING=1")

    @property
    def due(self) -> bool:
        """Whether a sign of life is wanted now."""
        if self.interval_s is None:
            return False
        return self._clock.monotonic_s() - self._told_s >= self.interval_s

    def alive(self) -> None:
        """Give a sign of life."""
        self._told_s = self._clock.monotonic_s()
        self._tell("WATCHDOG=1")

    def _tell(self, state: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.connect(address)
                sender.sendall(state.encode())
        except OSError as error:
            # A service that works is not to end because nobody listens.
            get_logger(__name__).warning("systemd does not listen", error=error.strerror)


def _interval_s(environment: Mapping[str, str]) -> float | None:
    """How often signs of life are wanted; None where they are not, or from another process."""
    microseconds = environment.get("WATCHDOG_USEC", "")
    wanted = environment.get("WATCHDOG_PID") in (None, str(os.getpid()))
    if not (wanted and microseconds.isdecimal() and int(microseconds)):
        return None
    return int(microseconds) / 1e6 / _SHARE
