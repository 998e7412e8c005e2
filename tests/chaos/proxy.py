"""
A proxy in front of Redis that cuts, delays, refuses and lies by plan, and counts it.

It works on whole commands, so a plan names the n-th command that contains some text,
for example the name of a function. The commands that arrive together (a pipeline, or
what the network made of it) are one burst: all that are let through are sent, and their
replies awaited, before any reply goes back.
"""

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from consumer.local.ports import listen, port_of
from tests.chaos.resp import end_of, is_push

_READ_BYTES = 262_144
# A pipeline arrives in pieces; what follows this soon belongs to the burst.
_GATHER_S = 0.003


class How(StrEnum):
    """
    What is done to a command.

    ``cut_before`` it reaches the server: what stood before it in the burst is applied.
    ``cut_after`` it was applied, what follows it is not. ``cut_replies``: the whole burst
    is applied. No reply of the burst arrives in any of the three. ``delay`` holds the
    replies back for ``seconds``. ``error`` answers ``text`` instead of asking the server.
    """

    CUT_BEFORE = "cut_before"
    CUT_AFTER = "cut_after"
    CUT_REPLIES = "cut_replies"
    DELAY = "delay"
    ERROR = "error"


@dataclass(slots=True)
class Disturbance:
    """*how* from the *nth* command on that contains *matching* and *also*, for *times* of them."""

    how: How
    matching: bytes = b""
    nth: int = 1
    times: int = 1
    seconds: float = 0.0
    text: str = ""
    also: bytes = b""
    seen: int = 0

    def takes(self, command: bytes) -> bool:
        """Count *command* if it matches; whether it is to be disturbed."""
        if self.matching not in command or self.also not in command:
            return False
        self.seen += 1
        return self.nth <= self.seen < self.nth + self.times

    @property
    def over(self) -> bool:
        return self.seen >= self.nth + self.times - 1


LOADING = "LOADING Redis is loading the dataset in memory"
READONLY = "READONLY You can't write against a read only replica."
OOM = "OOM command not allowed when used memory > 'maxmemory'."
BUSY = "BUSY Redis is busy running a script."
NOREPLICAS = "NOREPLICAS Not enough good replicas to write."
MISCONF = "MISCONF Redis is configured to save RDB snapshots, but is unable to persist to disk."


class RedisProxy:
    """
    A context manager; what it is told to do may be told any time.

    With *tls* it ends TLS in front of a server that speaks plainly. ``arrivals`` counts how
    often each command came, ``taken`` are those that were disturbed.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self._target = _address(url)
        self._path = urlsplit(url).path
        self._tls = tls
        self.arrivals: Counter[bytes] = Counter()
        self.taken: list[bytes] = []
        self._listener = listen(0, "redis proxy")
        self._port = port_of(self._listener)
        self._lock = threading.Lock()
        self._plan: list[Disturbance] = []
        self._refusing = False
        self._connections: set[socket.socket] = set()
        self._injected: list[float] = []
        self._closed = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="redis-proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}{self._path}"

    @property
    def injected(self) -> list[float]:
        """When (``time.monotonic()``) each disturbance took place."""
        with self._lock:
            return list(self._injected)

    def disturb(self, *plan: Disturbance) -> None:
        """Add to the plan; all of it looks at every command, the first that takes it acts."""
        with self._lock:
            self._plan += plan

    def heal(self) -> None:
        """Forget the plan and take connections again."""
        with self._lock:
            self._plan.clear()
            self._refusing = False

    def switch(self, url: str) -> None:
        """Lead to the server at *url* from now on; every connection is cut."""
        self._target = _address(url)
        self.cut_all()

    def refuse(self) -> None:
        """Cut every connection and every one that is tried, until ``heal``."""
        with self._lock:
            self._refusing = True
        self.cut_all()

    def cut_all(self) -> None:
        """Reset every connection now, whatever is under way."""
        with self._lock:
            for connection in self._connections:
                _reset(connection)
                self._injected.append(time.monotonic())

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        with self._lock:
            for connection in self._connections:
                _reset(connection)

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._refusing:
                    self._injected.append(time.monotonic())
                    _reset(connection)
                    connection.close()
                    continue
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._secure(plain)
        if connection is None:
            return
        try:
            with connection, socket.create_connection(self._target) as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                exchange = _Exchange(connection, server)
                while burst := exchange.read_burst():
                    if not self._pass(exchange, burst):
                        _reset(connection)
                        return
        except OSError:
            return
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _secure(self, plain: socket.socket) -> socket.socket | None:
        """The connection to talk on; None, and counted, where the client refuses us."""
        if self._tls is None:
            return plain
        try:
            secure = self._tls.wrap_socket(plain, server_side=True)
        except OSError:
            with self._lock:
                self._connections.discard(plain)
                self._injected.append(time.monotonic())
            plain.close()
            return None
        with self._lock:
            self._connections.discard(plain)
            self._connections.add(secure)
        return secure

    def _pass(self, exchange: "_Exchange", burst: Sequence[bytes]) -> bool:
        """Work one burst; False when the connection is to be cut."""
        forwarded: list[bytes] = []
        replies: list[bytes | None] = []
        delay_s, cut = 0.0, False
        for command in burst:
            taken = self._take(command)
            how = None if taken is None else taken.how
            if how is How.CUT_BEFORE:
                cut = True
                break
            if taken is not None and how is How.ERROR:
                replies.append(f"-{taken.text}\r\n".encode())
                continue
            forwarded.append(command)
            replies.append(None)
            if how is How.CUT_AFTER:
                cut = True
                break
            cut = cut or how is How.CUT_REPLIES
            if taken is not None and how is How.DELAY:
                delay_s = max(delay_s, taken.seconds)
        answers = iter(exchange.ask(forwarded))
        if cut:
            return False
        if delay_s:
            self._closed.wait(delay_s)
        exchange.answer(b"".join(next(answers) if reply is None else reply for reply in replies))
        return True

    def _take(self, command: bytes) -> Disturbance | None:
        with self._lock:
            self.arrivals[command] += 1
            for each in self._plan:
                if each.takes(command):
                    self._injected.append(time.monotonic())
                    self.taken.append(command)
                    if each.over:
                        self._plan.remove(each)
                    return each
        return None


class _Exchange:
    """Both sides of one connection and what was read of them."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client = client
        self._server = server
        self._from_client = bytearray()
        self._from_server = bytearray()

    def read_burst(self) -> list[bytes]:
        """The commands that the client sent together; nothing when it has gone."""
        commands: list[bytes] = []
        while True:
            end = end_of(self._from_client)
            if end is not None:
                commands.append(bytes(self._from_client[:end]))
                del self._from_client[:end]
                continue
            try:
                # A command that has begun is waited for, a further one only for a moment.
                pause_s = _GATHER_S if commands and not self._from_client else None
                self._client.settimeout(pause_s)
                data = self._client.recv(_READ_BYTES)
            except TimeoutError:
                self._client.settimeout(None)
                return commands
            if not data:
                return []
            self._from_client += data

    def ask(self, commands: Sequence[bytes]) -> list[bytes]:
        """Send *commands* to the server and return a reply to each."""
        replies: list[bytes] = []
        for command in commands:
            self._server.sendall(command)
        while len(replies) < len(commands):
            reply = self._read_reply()
            if is_push(reply):
                self.answer(reply)
            else:
                replies.append(reply)
        return replies

    def answer(self, data: bytes) -> None:
        """Send *data* to the client."""
        if data:
            self._client.sendall(data)

    def _read_reply(self) -> bytes:
        while (end := end_of(self._from_server)) is None:
            data = self._server.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError("the server has gone")
            self._from_server += data
        reply = bytes(self._from_server[:end])
        del self._from_server[:end]
        return reply


def _address(url: str) -> tuple[str, int]:
    target = urlsplit(url)
    return target.hostname or "127.0.0.1", target.port or 6379


def _reset(connection: socket.socket) -> None:
    """End *connection*; whoever reads it on either side wakes up."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
