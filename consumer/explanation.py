"""
Why the classifier thought so: the features that moved its score most.

For every review and decline, beside the decision and after it: a model library
in a process of its own computes the SHAP values (``training/explain.py``), and a
thread writes the largest into the stored document. Nothing waits for it. What
finds the queue full, or a process that died, stays unexplained and is counted.
"""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread
from typing import Final

import orjson

from consumer.errors import Unavailable
from consumer.logs import get_logger
from consumer.model import Assessment, Outcome, TransactionId

_WAITING: Final = 512
_BATCH: Final = 32
_RESTART_PAUSE_S: Final = 30.0
_CLOSE_LIMIT_S: Final = 2.0
_DECIMALS: Final = 6

Write = Callable[[TransactionId, bytes], None]
_Item = tuple[TransactionId, tuple[float, ...]]


class Explainer:
    """
    Explains in the background.

    *command* starts the process, which takes a JSON array of vectors a line and
    answers, a vector, the largest contributions as pairs of column and log-odds.
    ``write(transaction_id, explanation)`` stores a JSON array of ``feature``,
    ``value`` and ``contribution`` and may raise Unavailable; ``count(outcome,
    number)`` hears of ``written`` and ``dropped``.
    """

    def __init__(
        self,
        command: Sequence[str],
        names: Sequence[str],
        write: Write,
        count: Callable[[str, int], None],
    ) -> None:
        self._command = list(command)
        self._names = tuple(names)
        self._write = write
        self._count = count
        self._queue: Queue[_Item | None] = Queue(_WAITING)
        self._process: subprocess.Popen[bytes] | None = None
        self._started_s = -_RESTART_PAUSE_S
        self._closed = False
        self._thread = Thread(target=self._work, name="explain", daemon=True)
        self._thread.start()

    def observe(self, assessments: Sequence[Assessment]) -> None:
        """Queue the reviews and declines among stored *assessments*. Never blocks."""
        for assessment in assessments:
            if assessment.decision.outcome is Outcome.APPROVE:
                continue
            item = (assessment.transaction.transaction_id, assessment.observation.values)
            try:
                self._queue.put_nowait(item)
            except Full:
                self._count("dropped", 1)

    def close(self) -> None:
        """Explain what is queued, for two seconds at most, and end the process."""
        with suppress(Full):
            self._queue.put(None, timeout=_CLOSE_LIMIT_S)
            self._thread.join(_CLOSE_LIMIT_S)
        self._closed = True
        self._end()

    def _work(self) -> None:
        while not self._closed and (batch := self._take()):
            try:
                answers = self._ask([values for _, values in batch])
                for (transaction_id, values), answer in zip(batch, answers, strict=True):
                    self._write(transaction_id, self._render(values, answer))
            except (OSError, ValueError, Unavailable) as error:
                # The rest of a batch whose writing failed is given up with it.
                get_logger(__name__).warning("not explained", error=str(error), count=len(batch))
                self._count("dropped", len(batch))
                if not isinstance(error, Unavailable):
                    self._end()
            else:
                self._count("written", len(batch))

    def _take(self) -> list[_Item]:
        """Wait for an item and take those behind it too; nothing at the end."""
        batch: list[_Item] = []
        item = self._queue.get()
        with suppress(Empty):
            while item is not None:
                batch.append(item)
                if len(batch) == _BATCH:
                    return batch
                item = self._queue.get_nowait()
            if batch:
                # The end comes after what was queued before it.
                self._queue.put_nowait(None)
        return batch

    def _ask(self, rows: Sequence[Sequence[float]]) -> list[list[tuple[int, float]]]:
        """Raises OSError and ValueError when there is no process or it answers something else."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(orjson.dumps(rows, option=orjson.OPT_APPEND_NEWLINE))
        process.stdin.flush()
        answer: list[list[tuple[int, float]]] = orjson.loads(process.stdout.readline())
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        now_s = time.monotonic()
        if now_s - self._started_s < _RESTART_PAUSE_S:
            raise OSError("the process that explains has ended")
        self._started_s = now_s
        self._process = subprocess.Popen(  # noqa: S603 - the command is ours
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def _render(self, values: Sequence[float], answer: Sequence[tuple[int, float]]) -> bytes:
        return orjson.dumps(
            [
                {
                    "feature": self._names[column],
                    "value": values[column],
                    "contribution": round(contribution, _DECIMALS),
                }
                for column, contribution in answer
            ]
        )
