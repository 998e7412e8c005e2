"""A disk that is full, as a replay tells it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from consumer.errors import Unavailable

_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def lacks_room(error: OSError) -> bool:
    """Whether *error* says that nothing more can be written."""
    return error.errno in _NO_ROOM


@contextmanager
def needing_room(folder: Path) -> Iterator[None]:
    """Raise Unavailable where there is no room for what is written in or beside *folder*."""
    try:
        yield
    except OSError as error:
        if not lacks_room(error):
            raise
        where = error.filename or folder
        said = f"{where} cannot be written: {error.strerror or error}"
        raise Unavailable("disk", f"{said}; make room there, or choose another --work") from error
