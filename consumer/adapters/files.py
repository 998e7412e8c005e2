"""Small texts in a folder: rules, lists, and the audit of who changed them."""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consumer.errors import Unavailable

AUDIT = "audit.ndjson"


class FileTexts:
    """
    Texts in the files of *folder* that match *pattern* (as ``Path.glob`` does).

    A version is the time of the last change with the size. Links are followed, so that a
    mounted volume that swaps a link counts as changed.
    """

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder = folder
        self._pattern = pattern

    @property
    def place(self) -> str:
        """Where they are, for messages."""
        return str(self._folder if "*" in self._pattern else self._folder / self._pattern)

    def versions(self) -> dict[str, str]:
        """Return name → version of each file. Raises Unavailable."""
        with _translated("list"):
            return {
                path.name: f"{path.stat().st_mtime_ns}-{path.stat().st_size}"
                for path in sorted(self._folder.glob(self._pattern))
                if path.name != AUDIT
            }

    def read(self, name: str) -> bytes:
        """Return the content of *name*. Raises Unavailable."""
        with _translated("read"):
            return (self._folder / name).read_bytes()

    def change(self, name: str, data: bytes, expected: str | None, audit: bytes) -> None:
        """
        Replace *name* by *data* in one step and append the line *audit*.

        *expected* is the version it has to have (None: it must not exist). Raises Unavailable,
        having changed nothing, when someone else was faster.
        """
        with _translated("write"), (self._folder / AUDIT).open("ab") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            if self.versions().get(name) != expected:
                raise Unavailable("files", f"{name} was changed meanwhile; try again")
            # The audit first: a line too many is better than a change nobody answers for.
            log.write(audit + b"\n")
            log.flush()
            with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            path = self._folder / name
            Path(file.name).chmod(path.stat().st_mode if path.exists() else 0o644)
            Path(file.name).replace(path)


@contextmanager
def _translated(operation: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable("files", f"{operation}: {error.filename}: {error.strerror}") from error
