"""
A history as chunks of decoded events: each is worked, in order, to the end or not at all.

Which events count follows from their time of release alone, so that it does not depend on
where a replay was interrupted.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from consumer.decode import DecodeRules, decode
from consumer.errors import Rejected
from consumer.model import Label, Transaction
from consumer.replay.history import History, Slice
from consumer.replay.shown import show_event


class Phase(Enum):
    """
    What becomes of an event, by its time.

    ``WARM`` events only fill the state of features; of those ``AFTER`` the end no transaction
    counts, but a label may tell what an earlier one was.
    """

    WARM = "warm"
    FULL = "full"
    AFTER = "after"


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Which part of a history is replayed; times are of release, milliseconds since the epoch.

    From *from_ms* to before *to_ms*, at most *limit* transactions. Before it, events of
    *warm_up_ms* fill the features, all of them where it is None.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    warm_up_ms: int | None = None
    limit: int | None = None

    def phases(self) -> list[tuple[int | None, Phase | None]]:
        """Ascending bounds with the phase that begins there; None: left out."""
        found: list[tuple[int | None, Phase | None]] = [(None, Phase.FULL)]
        if self.from_ms is not None:
            found = [(None, Phase.WARM), (self.from_ms, Phase.FULL)]
            if self.warm_up_ms is not None:
                warm_ms = self.from_ms - self.warm_up_ms
                found = [(None, None), (warm_ms, Phase.WARM), (self.from_ms, Phase.FULL)]
        if self.to_ms is not None:
            found.append((self.to_ms, Phase.AFTER))
        return found


@dataclass(frozen=True, slots=True)
class Reject:
    """An event that the engine would not take: where it stood, why, and what it says, masked."""

    ordinal: int
    place: str
    code: str
    message: str
    payload: str


@dataclass(slots=True)
class Chunk:
    """
    Consecutive events of one phase, those that could not be decoded left out.

    ``after`` is the ordinal to go on from; ``ordinals``, ``times_ms`` and ``data`` belong to
    ``events``.
    """

    phase: Phase
    after: int
    events: list[Transaction | Label] = field(default_factory=list)
    ordinals: list[int] = field(default_factory=list)
    times_ms: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    transactions: int = 0

    def split(self, count: int) -> tuple["Chunk", "Chunk"]:
        """The first *count* events (at least one) as a chunk, and the rest."""
        after = self.ordinals[count - 1] + 1
        first = Chunk(
            self.phase,
            after,
            self.events[:count],
            self.ordinals[:count],
            self.times_ms[:count],
            self.data[:count],
            [each for each in self.rejects if each.ordinal < after],
            sum(isinstance(each, Transaction) for each in self.events[:count]),
        )
        rest = Chunk(
            self.phase,
            self.after,
            self.events[count:],
            self.ordinals[count:],
            self.times_ms[count:],
            self.data[count:],
            [each for each in self.rejects if each.ordinal >= after],
            self.transactions - first.transactions,
        )
        return first, rest


class ChunkReader:
    """
    Reads *history* from ordinal *first* as chunks of at most *size* events within *span_ms*.

    What fails is repeated by the chunk: if that spans less than the id horizon, an event that
    a server refused is not late behind those of its chunk that it took.
    *taken* transactions were taken before *first*, which the limit counts. *truths*: whether
    labels are of use after the last transaction.
    """

    def __init__(  # noqa: PLR0913 - what to read, how to decode it, and from where
        self,
        history: History,
        selection: Selection,
        rules: DecodeRules,
        *,
        size: int,
        span_ms: int = 43_200_000,
        first: int = 0,
        taken: int = 0,
        truths: bool = False,
    ) -> None:
        self._history = history
        self._selection = selection
        self._rules = rules
        self._size = size
        self._span_ms = span_ms
        self._first = first
        self._left = None if selection.limit is None else selection.limit - taken
        self._truths = truths

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks. Raises Misconfigured and Unavailable as the history does."""
        if self._left is not None and self._left <= 0:
            return
        for part in self._history.read(self._first):
            for phase, start, end in self._runs(part):
                if phase is Phase.AFTER and not self._truths:
                    return
                for first, last in self._cuts(part.times_ms, start, end):
                    chunk = self._decode(part, phase, first, last)
                    yield chunk
                    if self._left is not None and phase is Phase.FULL:
                        self._left -= chunk.transactions
                        if self._left <= 0:
                            return

    def _cuts(self, times_ms: list[int], start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where chunks between *start* and *end* begin and end."""
        while start < end:
            limit = bisect_right(times_ms, times_ms[start] + self._span_ms, start, end)
            last = min(start + self._size, limit)
            yield start, last
            start = last

    def _runs(self, part: Slice) -> Iterator[tuple[Phase, int, int]]:
        """Runs of one phase in *part*: the phase, where it begins and where it ends."""
        phases = self._selection.phases()
        starts = [0 if ms is None else bisect_left(part.times_ms, ms) for ms, _ in phases]
        ends = [*starts[1:], len(part.times_ms)]
        for (_, phase), start, end in zip(phases, starts, ends, strict=True):
            if phase is not None and start < end:
                yield phase, start, end

    def _decode(self, part: Slice, phase: Phase, start: int, end: int) -> Chunk:
        chunk = Chunk(phase, part.first + end)
        for index in range(start, end):
            if phase is Phase.AFTER and part.kinds[index]:
                continue
            data = part.events[index]
            try:
                event = decode(data, self._rules)
            except Rejected as error:
                chunk.rejects.append(_reject(part, index, error))
                continue
            if isinstance(event, Transaction):
                chunk.transactions += 1
            chunk.events.append(event)
            chunk.ordinals.append(part.first + index)
            chunk.times_ms.append(part.times_ms[index])
            chunk.data.append(data)
            if self._is_last(phase, chunk):
                chunk.after = part.first + index + 1
                break
        return chunk

    def _is_last(self, phase: Phase, chunk: Chunk) -> bool:
        return self._left is not None and phase is Phase.FULL and chunk.transactions >= self._left


def _reject(part: Slice, index: int, error: Rejected) -> Reject:
    payload = show_event(part.events[index])
    return Reject(part.first + index, part.place(index), error.code, error.message, payload)
