"""Keeps the list of access fresh, and the last good one where a new one cannot be had."""

import threading
from collections.abc import Sequence
from typing import Protocol

from consumer.api.access_list import AccessList, parse_access
from consumer.errors import Misconfigured, Problem, Unavailable


class AccessSource(Protocol):
    """Where the list is."""

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        ...

    def read(self) -> bytes:
        """Return the list as it was written. Raises Misconfigured and Unavailable."""
        ...


class ListWatcher(Protocol):
    """Hears what becomes of the list."""

    def list_read(self, access: AccessList, *, changed: bool) -> None:
        """The list was read, is in force, and was *changed*."""
        ...

    def list_refused(self, problems: Sequence[Problem]) -> None:
        """The list cannot be used; the one before stays."""
        ...

    def list_unreachable(self, error: Unavailable) -> None:
        """The list could not be read; the one before stays."""
        ...


class AccessWatch:
    """
    Reads the list of *source* every *refresh_s*, in a thread of its own.

    A request never waits for it. ``close`` ends the thread.
    """

    def __init__(self, source: AccessSource, refresh_s: float, watcher: ListWatcher) -> None:
        self._source = source
        self._refresh_s = refresh_s
        self._watcher = watcher
        self._text = b""
        self._access = AccessList()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access", daemon=True)

    def start(self) -> None:
        """Read the list and begin to look. Raises Misconfigured and Unavailable."""
        self._read()
        self._thread.start()

    def current(self) -> AccessList:
        """The list in force."""
        return self._access

    def poll(self) -> None:
        """Look once; a list that is broken or out of reach changes nothing."""
        try:
            self._read()
        except Misconfigured as error:
            self._watcher.list_refused(error.problems)
        except Unavailable as error:
            self._watcher.list_unreachable(error)

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _read(self) -> None:
        text = self._source.read()
        changed = text != self._text
        if changed:
            # Swapped whole, so that a request sees one list or the other.
            self._access = parse_access(text, self._source.place)
            self._text = text
        self._watcher.list_read(self._access, changed=changed)

    def _run(self) -> None:
        while not self._ended.wait(self._refresh_s):
            self.poll()
