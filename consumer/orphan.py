"""A process that must not outlive its parent."""

import os
import select
import threading
from collections.abc import Callable

from consumer.heartbeat import ORPHANED
from consumer.logs import get_logger


def leave_with_parent(
    tell: Callable[[str], object] = lambda _cause: None,
    leave: Callable[[int], object] = os._exit,
    code: int = 75,
) -> None:
    """
    Call *leave* with *code* as soon as the parent process has ended, and *tell* before that.

    A worker that waits for Redis does not see the end of its standard input,
    and would go on beside the one that has taken over its shard. A thread of
    its own waits on the parent's pidfd (Linux). The kernel's death signal would
    not do here: it follows the parent's *thread*, and Java's come and go.
    """
    parent = os.pidfd_open(os.getppid())

    def wait() -> None:
        poll = select.poll()
        poll.register(parent, select.POLLIN)
        poll.poll()
        os.close(parent)
        try:
            tell(ORPHANED)
            get_logger(__name__).warning(ORPHANED)
        finally:
            leave(code)

    threading.Thread(target=wait, name="orphan", daemon=True).start()
