"""
Rows of decisions made over REST, to Firehose as a worker sends them, and none forgotten.

A stream delivers a record again when a worker died before its row was acknowledged; a client that
has its answer does not ask again. So the ids of a chunk are noted in an outbox before they are
decided and taken out when their rows are acknowledged. What stays there too long belongs to a
process that ended: any other one sends those rows.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Event, Lock, Thread

import orjson

from consumer.clock import Clock
from consumer.errors import Rejected, Unavailable
from consumer.logs import get_logger
from consumer.model import TransactionId
from consumer.patience import pauses_s
from consumer.ports import DecisionSink, KnownDecisions, Outbox

_EVERY_S = 0.2
_ROWS_TOGETHER = 500
_ROWS_LIMIT = 20_000
_SWEEP_EVERY_S = 20.0
STALE_AFTER_S = 60.0
_ENTRIES_TOGETHER = 100
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What one chunk decided: its entry of the outbox, and the documents."""

    entry: str
    documents: Sequence[bytes]


class Publisher:
    """
    Sends the rows of chunks together, on a thread of its own.

    The thread that decides calls ``announce`` before each chunk and ``publish`` after it.
    """

    def __init__(
        self,
        sink: DecisionSink,
        outbox: Outbox,
        known: KnownDecisions,
        clock: Clock,
        *,
        stale_after_s: float = STALE_AFTER_S,
    ) -> None:
        """*stale_after_s* is when an entry of another process is taken for one that it left."""
        self._sink = sink
        self._outbox = outbox
        self._known = known
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._pending: deque[_Chunk] = deque()
        self._rows = 0
        self._lock = Lock()
        self._woken = Event()
        self._ending = False
        self._ends_s = 0.0
        self._swept_s: float | None = None
        self._thread = Thread(target=self._run, name="rows", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether so many rows wait that nothing more should be decided for now."""
        return self._rows >= _ROWS_LIMIT

    def announce(self, transaction_ids: Sequence[TransactionId]) -> str:
        """Note what is about to be decided; the name is for ``publish``. Raises Unavailable."""
        return self._outbox.announce(transaction_ids).entry

    def publish(self, entry: str, documents: Sequence[bytes]) -> None:
        """Send the rows of *documents*, all that is ours of what was announced as *entry*."""
        with self._lock:
            self._pending.append(_Chunk(entry, documents))
            self._rows += len(documents)
        if self._rows >= _ROWS_TOGETHER:
            self._woken.set()

    def close(self, limit_s: float) -> None:
        """Send what waits, for *limit_s* at most: the rest stays in the outbox."""
        self._ends_s = self._clock.monotonic_s() + limit_s
        self._ending = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(limit_s + 1.0)

    def _run(self) -> None:
        while True:
            ending = self._ending
            self._flush()
            if ending:
                return
            self._sweep_when_due()
            self._woken.wait(_EVERY_S)
            self._woken.clear()

    def _flush(self) -> None:
        """Send what waits, again and again until it is taken or there is no more time."""
        while chunks := self._take():
            documents = [each for chunk in chunks for each in chunk.documents]
            if not self._insist(documents, [chunk.entry for chunk in chunks]):
                return
            with self._lock:
                self._rows -= len(documents)

    def _take(self) -> list[_Chunk]:
        taken: list[_Chunk] = []
        rows = 0
        with self._lock:
            while self._pending and rows < _ROWS_TOGETHER:
                taken.append(self._pending.popleft())
                rows += len(taken[-1].documents)
        return taken

    def _insist(self, documents: list[bytes], entries: list[str]) -> bool:
        """Whether *documents* are acknowledged and *entries* are out; False when time is over."""
        for pause_s in pauses_s(_FIRST_PAUSE_S, _LONGEST_PAUSE_S):
            try:
                if documents:
                    self._sink.publish(documents).result()
                    documents = []
                self._outbox.settle(entries)
            except Rejected as error:
                # No retry would help, and the decisions stand in Redis.
                get_logger(__name__).error("rows are left out", reason=error.message)
                documents = []
            except Unavailable as error:
                get_logger(__name__).warning("rows wait", rows=len(documents), error=str(error))
            else:
                return True
            if self._ending and self._clock.monotonic_s() >= self._ends_s:
                get_logger(__name__).error("rows stay in the outbox", rows=len(documents))
                return False
            self._rest(pause_s)
        return False

    def _rest(self, pause_s: float) -> None:
        """Pause, though not through the beginning of the end."""
        if self._ending:
            time.sleep(min(pause_s, _FIRST_PAUSE_S))
        else:
            self._woken.wait(pause_s)
            self._woken.clear()

    def _sweep_when_due(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._swept_s is not None and now_s - self._swept_s < _SWEEP_EVERY_S:
            return
        self._swept_s = now_s
        try:
            while self._sweep():
                pass
        except (Unavailable, Rejected) as error:
            get_logger(__name__).warning("the outbox was not looked through", error=str(error))

    def _sweep(self) -> bool:
        """
        Send the rows that another process left, and say whether there may be more.

        Those of an id that has no document were never decided, or long ago.
        """
        left = self._outbox.find_older(self._stale_after_s, _ENTRIES_TOGETHER)
        with self._lock:
            waiting = {chunk.entry for chunk in self._pending}
        ours = [each for each in left if each.entry not in waiting]
        if not ours:
            return False
        for each in ours:
            found = self._known.find(each.transaction_ids)
            documents = [one for one in found if one is not None and _is_ours(one)]
            if documents:
                self._sink.publish(documents).result()
            self._outbox.settle([each.entry])
            get_logger(__name__).info("rows of another process sent", rows=len(documents))
        return len(left) == _ENTRIES_TOGETHER


def _is_ours(document: bytes) -> bool:
    """Whether *document* was decided over REST: the stream answers for its own."""
    return bool(orjson.loads(document)["origin"]["source"] == "rest")
