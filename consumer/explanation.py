"""
Why the classifier thought so: the features that moved its score most.

For every review and decline, beside the decision and after it: a thread asks a
source for the SHAP values, a process with the model (``model_process.py``) or an
endpoint that explains (``adapters/clarify.py``), and writes the largest into the
stored document. Nothing waits for it. What finds the queue full, or a source that
failed, stays unexplained and is counted.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread
from typing import Final, Protocol

import orjson

from consumer.errors import Unavailable
from consumer.logs import get_logger
from consumer.model import Assessment, Outcome, TransactionId

_WAITING: Final = 512
_CLOSE_LIMIT_S: Final = 2.0
_DECIMALS: Final = 6

Write = Callable[[TransactionId, bytes], None]
_Item = tuple[TransactionId, tuple[float, ...]]


class Source(Protocol):
    """What knows the contributions: asked from one thread, ended from another."""

    @property
    def max_rows(self) -> int:
        """Vectors that it is asked for at once."""

    @property
    def pause_s(self) -> float:
        """How long it is left alone after a failure."""

    @property
    def unit(self) -> str | None:
        """What its contributions are in; None for log-odds."""

    def explain(self, rows: Sequence[Sequence[float]]) -> list[list[tuple[int, float]]]:
        """
        Return, for each of *rows*, pairs of column and contribution, largest first.

        No pairs for a row that it cannot explain. Raises OSError, ValueError or Unavailable.
        """

    def close(self) -> None:
        """Let go of what is held; ``explain`` may be called again."""


class Explainer:
    """
    Explains in the background.

    *source* is asked, and closed after a failure. ``write(transaction_id,
    explanation)`` stores a JSON array of ``feature``, ``value`` and
    ``contribution``, with ``unit`` where that is not log-odds, and may raise
    Unavailable; ``count(outcome, number)`` hears of ``written`` and ``dropped``.
    """

    def __init__(
        self,
        source: Source,
        names: Sequence[str],
        write: Write,
        count: Callable[[str, int], None],
    ) -> None:
        self._source = source
        self._names = tuple(names)
        self._write = write
        self._count = count
        self._queue: Queue[_Item | None] = Queue(_WAITING)
        self._resume_s = 0.0
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
        """Explain what is queued, for two seconds at most, and close the source."""
        with suppress(Full):
            self._queue.put(None, timeout=_CLOSE_LIMIT_S)
            self._thread.join(_CLOSE_LIMIT_S)
        self._closed = True
        self._source.close()

    def _work(self) -> None:
        while not self._closed and (batch := self._take()):
            written = self._explain(batch) if time.monotonic() >= self._resume_s else 0
            for outcome, number in (("written", written), ("dropped", len(batch) - written)):
                if number:
                    self._count(outcome, number)

    def _explain(self, batch: Sequence[_Item]) -> int:
        """Explain *batch* as far as that goes; the number of those that were."""
        try:
            answers = self._source.explain([values for _, values in batch])
            explained = [
                (transaction_id, self._render(values, answer))
                for (transaction_id, values), answer in zip(batch, answers, strict=True)
                if answer
            ]
        except (OSError, ValueError, Unavailable) as error:
            self._say(error, len(batch))
            self._resume_s = time.monotonic() + self._source.pause_s
            self._source.close()
            return 0
        try:
            for transaction_id, explanation in explained:
                self._write(transaction_id, explanation)
        except Unavailable as error:
            # The rest of a batch whose writing failed is given up with it.
            self._say(error, len(batch))
            return 0
        return len(explained)

    def _say(self, error: Exception, count: int) -> None:
        get_logger(__name__).warning("not explained", error=str(error), count=count)

    def _take(self) -> list[_Item]:
        """Wait for an item and take those behind it too; nothing at the end."""
        batch: list[_Item] = []
        item = self._queue.get()
        with suppress(Empty):
            while item is not None:
                batch.append(item)
                if len(batch) == self._source.max_rows:
                    return batch
                item = self._queue.get_nowait()
            if batch:
                # The end comes after what was queued before it.
                self._queue.put_nowait(None)
        return batch

    def _render(self, values: Sequence[float], answer: Sequence[tuple[int, float]]) -> bytes:
        unit = {} if self._source.unit is None else {"unit": self._source.unit}
        return orjson.dumps(
            [
                {
                    "feature": self._names[column],
                    "value": values[column],
                    "contribution": round(contribution, _DECIMALS),
                    **unit,
                }
                for column, contribution in answer
            ]
        )
