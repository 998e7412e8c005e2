"""A model endpoint in memory."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

from consumer.errors import Unavailable

Answer = Callable[[list[list[float]]], list[float]]


def first_column(rows: list[list[float]]) -> list[float]:
    """Score each row by its first value, by which a test knows whose score it got."""
    return [row[0] for row in rows]


class FakeEndpoint:
    """
    Scores by the first column; ``plan`` says what the next requests do instead.

    ``hold`` makes every request wait until ``release``.
    """

    def __init__(
        self, name: str = "fraud", *, max_rows: int = 500, max_bytes: int = 1_048_576
    ) -> None:
        self.name = name
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.requests: list[tuple[list[bytes], str]] = []
        self._plan: deque[Answer] = deque()
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._released.set()
        self._entered = threading.Semaphore(0)

    def plan(self, *answers: Answer | str) -> None:
        """The next requests get *answers*; a word is the cause of a failure."""
        self._plan.extend(_failure(each) if isinstance(each, str) else each for each in answers)

    def hold(self) -> None:
        self._released.clear()

    def release(self) -> None:
        self._released.set()

    def await_request(self) -> None:
        """Wait until one more request has arrived."""
        assert self._entered.acquire(timeout=10)

    def invoke(self, lines: Sequence[bytes], deadline_s: float, inference_id: str) -> list[float]:
        with self._lock:
            self.requests.append((list(lines), inference_id))
            answer = self._plan.popleft() if self._plan else first_column
        self._entered.release()
        self._released.wait()
        return answer([[float(value) for value in line.split(b",")] for line in lines])


def _failure(cause: str) -> Answer:
    def fail(rows: list[list[float]]) -> list[float]:
        raise Unavailable("endpoint", cause)

    return fail
