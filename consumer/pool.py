"""
Threads for waiting on the network, with a bounded queue in front of them.

``ThreadPoolExecutor`` queues without a limit, so that calls to a hung server
pile up behind one another, and joins its threads when the process ends, so that
one call that never returns keeps a drained worker alive. Neither may happen here.
"""

from collections.abc import Callable
from concurrent.futures import Future
from queue import Full, Queue
from threading import Thread
from typing import TypeVar

_Result = TypeVar("_Result")
_Task = Callable[[], None]


class BoundedPool:
    """*threads* daemon threads named after *name*; at most *waiting* calls wait for one."""

    def __init__(self, name: str, *, threads: int, waiting: int) -> None:
        self._queue: Queue[_Task | None] = Queue(waiting)
        self._threads = [
            Thread(target=self._work, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, call: Callable[[], _Result]) -> Future[_Result] | None:
        """
        Queue *call* and return the future of its result, or None when the queue is full.

        Never blocks. A future that is cancelled before a thread takes it up
        costs no call.
        """
        future: Future[_Result] = Future()

        def task() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = call()
            except BaseException as error:  # noqa: BLE001 - the future hands it to whoever waits
                future.set_exception(error)
            else:
                future.set_result(result)

        try:
            self._queue.put_nowait(task)
        except Full:
            return None
        return future

    def close(self) -> None:
        """Let every queued call finish, then end the threads. Blocks as long as the calls do."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (task := self._queue.get()) is not None:
            task()
