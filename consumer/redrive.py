"""
Dead letters back through: which can be sent, and what became of each.

A letter goes out as it is, or mended by hand. The order of every batch is: read, mark
as ``sending``, send, mark with the result. A process that dies in between leaves
``sending``; sending such a letter again is safe, because a transaction is decided once
by its id, and is done where it is asked for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from consumer.clock import Clock
from consumer.errors import Rejected, Unavailable
from consumer.evidence import format_time
from consumer.intake import Batch, Intake
from consumer.letters import Filed, Found, LetterBox, Mark, State, Unreadable
from consumer.masking import MASK
from consumer.model import DeadLetter, Record
from consumer.patch import is_object, merge
from consumer.patience import Sleep

_BATCH = 50


class Result(StrEnum):
    """What became of a letter; the first four are what one hopes for."""

    SENT = "sent"
    DECIDED = "decided"
    DUPLICATE = "duplicate"
    LABELLED = "labelled"
    WOULD_SEND = "would_send"
    REJECTED = "rejected"
    CONFLICT = "conflict"
    REFUSED = "refused"
    MASKED = "masked"
    INCOMPLETE = "incomplete"
    STALE = "stale"
    DONE = "done_before"
    UNKNOWN = "unknown"
    TAKEN = "taken"
    UNREADABLE = "unreadable"


GOOD = frozenset(
    (Result.SENT, Result.DECIDED, Result.DUPLICATE, Result.LABELLED, Result.WOULD_SEND)
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A letter's *result*; ``error`` is a stable code and ``detail`` a sentence, or empty."""

    letter_id: str
    result: Result
    error: str = ""
    detail: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nothing is left to do."""
        return self.result in GOOD


@dataclass(frozen=True, slots=True)
class Ready:
    """A letter that can be sent: the bytes, and what they are decoded to."""

    filed: Filed
    data: bytes
    batch: Batch
    changed: bool

    @property
    def partition_key(self) -> str:
        """The card, which keeps the order of its events; else what the label speaks of."""
        if self.batch.incoming:
            return self.batch.incoming[0].transaction.card_id
        label = self.batch.labels[0]
        return label.keys.get("card_id", label.transaction_id)


class Delivery(Protocol):
    """A way back in."""

    @property
    def name(self) -> str:
        """``stream`` or ``engine``."""
        ...

    def send(self, letters: Sequence[Ready]) -> list[Outcome]:
        """
        Send *letters* (at least one); one outcome each, in order.

        Raises Unavailable when it is not known which of them went out.
        """
        ...


@dataclass(frozen=True, slots=True)
class Wishes:
    """
    What is asked for.

    *again* sends what was sent before, too. *patch* is merged into every payload, and
    *payload* takes the place of one. *by* is who asks; *rate* is letters a second.
    """

    by: str
    again: bool = False
    dry_run: bool = False
    patch: bytes | None = None
    payload: bytes | None = None
    rate: float | None = None


class Redrive:
    """Sends letters of *box* by *delivery*; *intake* decodes them as a worker would."""

    def __init__(
        self, box: LetterBox, intake: Intake, delivery: Delivery, *, clock: Clock, sleep: Sleep
    ) -> None:
        self._box = box
        self._intake = intake
        self._delivery = delivery
        self._clock = clock
        self._sleep = sleep

    def run(self, found: Sequence[Found], wishes: Wishes) -> Iterator[Outcome]:
        """
        Send *found*, yielding an outcome each as soon as it is known.

        Raises Unavailable when something stops answering; what was being sent then
        has been yielded as unknown, and the rest was not touched.
        """
        started_s = self._clock.monotonic_s()
        size = _BATCH if wishes.rate is None else max(1, min(_BATCH, int(wishes.rate)))
        for start in range(0, len(found), size):
            if wishes.rate is not None:
                wait_s = started_s + start / wishes.rate - self._clock.monotonic_s()
                self._sleep(max(0.0, wait_s))
            ready: list[Ready] = []
            for each in found[start : start + size]:
                prepared = self._prepare(each, wishes)
                if isinstance(prepared, Ready):
                    ready.append(prepared)
                else:
                    yield prepared
            if wishes.dry_run:
                yield from (_outcome(each, Result.WOULD_SEND) for each in ready)
            elif ready:
                yield from self._send(ready, wishes)

    def _prepare(self, found: Found, wishes: Wishes) -> Ready | Outcome:
        """What is to be sent for *found*, or why nothing is."""
        if isinstance(found, Unreadable):
            return Outcome(found.place, Result.UNREADABLE, "bad_letter", found.message)
        letter = found.letter
        before = None if wishes.again else _sent_before(found)
        if before is not None:
            return before
        try:
            data = letter.payload.encode() if wishes.payload is None else wishes.payload
            if wishes.patch is not None:
                data = merge(data, wishes.patch)
        except Rejected as error:
            return Outcome(letter.letter_id, Result.REJECTED, error.code, error.message)
        hindrance = obstacle(letter, data)
        if hindrance is not None:
            return hindrance
        record = Record(letter.shard_id, letter.position, letter.arrival_ms, data)
        batch = self._intake.sort([record], self._clock.now_ms())
        if batch.letters:
            (rejected,) = batch.letters
            return _rejected(letter.letter_id, rejected.error, rejected.message)
        return Ready(found, data, batch, changed=data != letter.payload.encode())

    def _send(self, ready: Sequence[Ready], wishes: Wishes) -> Iterator[Outcome]:
        """Mark, send and mark again; see ``run``."""
        now_ms = self._clock.now_ms()
        marks = [
            Mark(State.SENDING, now_ms, wishes.by, self._delivery.name, changed=each.changed)
            for each in ready
        ]
        filed = [each.filed for each in ready]
        claimed: list[Ready] = []
        refusal: Unavailable | None = None
        for each, mine in zip(ready, self._box.claim(filed, marks), strict=True):
            if mine is None:
                detail = "somebody else is sending it at this moment"
                yield _outcome(each, Result.TAKEN, detail=detail)
            elif isinstance(mine, Unavailable):
                refusal = mine
                detail = f"{mine}: not sent; --again sends it if it is marked all the same"
                yield _outcome(each, Result.UNKNOWN, detail=detail)
            else:
                claimed.append(replace(each, filed=mine))
        # What is marked is sent, whatever became of the others: nothing else takes the mark away.
        if claimed:
            yield from self._deliver(claimed)
        if refusal is not None:
            raise refusal

    def _deliver(self, claimed: Sequence[Ready]) -> Iterator[Outcome]:
        """Send what is marked and mark it with the result."""
        try:
            outcomes = self._delivery.send(claimed)
            self._box.settle(
                [each.filed for each in claimed],
                [self._settled(*each) for each in zip(claimed, outcomes, strict=True)],
            )
        except Unavailable as error:
            detail = f"{error}: it may have been sent; --again sends it once more"
            yield from (_outcome(each, Result.UNKNOWN, detail=detail) for each in claimed)
            raise
        yield from outcomes

    def _settled(self, ready: Ready, outcome: Outcome) -> Mark:
        """The mark that says what came of *ready*."""
        mark = ready.filed.mark
        assert mark is not None
        return replace(
            mark,
            state=State.SENT if outcome.is_good else State.FAILED,
            at_ms=self._clock.now_ms(),
            result=outcome.result,
            detail=outcome.detail,
        )


def obstacle(letter: DeadLetter, data: bytes) -> Outcome | None:
    """Why *data* is not what the record of *letter* said; None if it is, or was mended."""
    if letter.masked and MASK.encode() in data:
        detail = "card numbers were masked: mend the payload, or have the producer send it again"
        return Outcome(letter.letter_id, Result.MASKED, letter.error, detail)
    mended = data != letter.payload.encode()
    if not (letter.whole or mended or is_object(data)):
        detail = "the letter does not hold the whole record: mend it, or give it with --payload"
        return Outcome(letter.letter_id, Result.INCOMPLETE, letter.error, detail)
    return None


def _sent_before(filed: Filed) -> Outcome | None:
    """Why the mark beside *filed* forbids to send it; None where it does not."""
    mark = filed.mark
    if mark is None or mark.state is State.FAILED:
        return None
    when = f"{format_time(mark.at_ms)} by {mark.by} to the {mark.to}"
    letter_id = filed.letter.letter_id
    if mark.state is State.SENT:
        return Outcome(letter_id, Result.DONE, detail=f"sent {when}; --again sends it once more")
    detail = f"begun {when} and never ended: it may have been sent; --again sends it once more"
    return Outcome(letter_id, Result.UNKNOWN, detail=detail)


def _rejected(letter_id: str, error: str, message: str) -> Outcome:
    if error != "stale":
        return Outcome(letter_id, Result.REJECTED, error, message)
    detail = f"{message}, so a decision on it may have expired: --allow-stale sends it all the same"
    return Outcome(letter_id, Result.STALE, error, detail)


def _outcome(ready: Ready, result: Result, *, detail: str = "") -> Outcome:
    return Outcome(ready.filed.letter.letter_id, result, detail=detail)
