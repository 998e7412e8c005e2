"""Which position of a shard is safe to checkpoint."""

from collections import OrderedDict
from typing import NewType

from consumer.model import Position

Ticket = NewType("Ticket", int)


class Progress:
    """
    The longest finished prefix of what was started.

    Batches are started in stream order and finish in any order, because their
    Firehose acknowledgements do. Pure bookkeeping: no clock, no I/O.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Ticket, Position] = OrderedDict()
        self._finished: set[Ticket] = set()
        self._next = 0
        self._newest: Position | None = None
        self._safe: Position | None = None

    @property
    def outstanding(self) -> int:
        """Batches that were started and are not part of the finished prefix yet."""
        return len(self._open)

    @property
    def safe(self) -> Position | None:
        """The newest position up to which everything is done; None before the first."""
        return self._safe

    def start(self, last: Position) -> Ticket:
        """
        Note a batch whose newest record is *last*.

        Raises ValueError when *last* is older than the batch before: positions
        of one shard only rise, and a checkpoint that went back would be refused.
        """
        if self._newest is not None and last < self._newest:
            message = f"position {last} is older than {self._newest}, which was started before it"
            raise ValueError(message)
        self._newest = last
        ticket = Ticket(self._next)
        self._next += 1
        self._open[ticket] = last
        return ticket

    def finish(self, ticket: Ticket) -> Position | None:
        """
        Mark a batch done and return the newest safe checkpoint, if it moved.

        A checkpoint says "everything up to here is done", so a batch that
        finishes early waits for every older one: returning its own position
        would lose the older records if this process died now.
        Raises KeyError for a batch that is not outstanding.
        """
        if ticket not in self._open:
            raise KeyError(ticket)
        self._finished.add(ticket)
        moved = False
        while self._open:
            oldest = next(iter(self._open))
            if oldest not in self._finished:
                break
            self._finished.discard(oldest)
            self._safe = self._open.pop(oldest)
            moved = True
        return self._safe if moved else None


def checkpoint_is_due(now_s: float, last_s: float, interval_s: float) -> bool:
    """
    Whether enough time has passed since the last checkpoint at *last_s*.

    Every checkpoint is a write to DynamoDB; a longer interval costs only more
    redelivered records after a crash, and those change nothing.
    """
    return now_s - last_s >= interval_s
