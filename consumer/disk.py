"""
What the files of the run directory share: errors in our words, and room before it is used.

A mapped page for which a full disk has no room ends the process with SIGBUS when it is
first written, wherever that is, and the records under way would be blamed for it. So
files that are mapped get all their room when they are made, where its want is an error
like any other.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from consumer.errors import Unavailable


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Turn the errors of the file system into Unavailable (``disk``) with *path* and the reason."""
    try:
        yield
    except OSError as error:
        raise Unavailable("disk", f"{path}: {error.strerror}") from error


def reserve(file: BinaryIO, size_bytes: int) -> None:
    """Give *file* that size and all the room for it; new bytes are zero. Raises OSError."""
    os.posix_fallocate(file.fileno(), 0, size_bytes)
