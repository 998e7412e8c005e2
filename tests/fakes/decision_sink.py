"""Where decisions go, in memory."""

from collections.abc import Sequence
from concurrent.futures import Future

from consumer.errors import Unavailable
from consumer.row import build_row


class FakeSink:
    """Keeps the rows of what was published; ``fail`` makes the next publications fail."""

    def __init__(self) -> None:
        self.rows: list[bytes] = []
        self.failures = 0

    def fail(self, times: int) -> None:
        self.failures = times

    def publish(self, documents: Sequence[bytes]) -> Future[None]:
        future: Future[None] = Future()
        if self.failures:
            self.failures -= 1
            future.set_exception(Unavailable("firehose", "told to fail"))
        else:
            self.rows.extend(map(build_row, documents))
            future.set_result(None)
        return future
