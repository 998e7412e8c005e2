"""A file of secrets, which is not read if everybody could."""

import os
import stat
from pathlib import Path

from consumer.errors import Misconfigured, Problem, Unavailable

_MAX_BYTES = 1_048_576


class PrivateFile:
    """The file *path*; links are followed, so that a mounted volume may swap one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return str(self._path)

    def read(self) -> bytes:
        """
        Return its content.

        Raises Misconfigured where it is missing, too large or open to everybody, and Unavailable.
        """
        try:
            # Not blocking, so that a pipe in its place holds nobody.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                # Of what was opened, not of the path, which may lead elsewhere by now.
                self._check(os.fstat(descriptor))
                return file.read(_MAX_BYTES + 1)
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError) as error:
            raise self._refused(str(error.strerror), "a file that this user may read") from error
        except OSError as error:
            raise Unavailable("files", f"{self._path}: {error.strerror}") from error

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise self._refused("no plain file", "a file that this user may read")
        if status.st_mode & stat.S_IRWXO:
            mode = stat.S_IMODE(status.st_mode)
            raise self._refused(f"mode {mode:04o}", "nothing for others: chmod o= (such as 0640)")
        if status.st_size > _MAX_BYTES:
            raise self._refused(f"{status.st_size} bytes", f"at most {_MAX_BYTES}")

    def _refused(self, found: str, expected: str) -> Misconfigured:
        return Misconfigured([Problem(self.place, "the file", found, expected)])
