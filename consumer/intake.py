"""Records to work: decode each one, set aside what can never succeed, and notice a flood."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from consumer.decode import DecodeRules, decode
from consumer.engine import Incoming
from consumer.errors import Held, Rejected
from consumer.logs import get_logger
from consumer.masking import mask_payload
from consumer.model import DeadLetter, Label, Origin, Position, Record, Transaction

_log = get_logger(__name__)


@dataclass(slots=True)
class Batch:
    """The records of one chunk (at least one), sorted by what happens to them."""

    records: Sequence[Record]
    incoming: list[Incoming] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def last(self) -> Position:
        """The newest position of the chunk."""
        return self.records[-1].position


class Intake:
    """Decodes records of *source*: those of one shard, or dead letters that come again."""

    def __init__(
        self,
        rules: DecodeRules,
        lifetime_ms: int,
        read: Callable[[bytes, DecodeRules], Transaction | Label] = decode,
        source: str = "stream",
    ) -> None:
        self._rules = rules
        self._lifetime_ms = lifetime_ms
        self._source = source
        self._decode = read

    def sort(self, records: Sequence[Record], received_ms: int) -> Batch:
        """
        Decode *records* (at least one, in stream order) into a batch.

        A record older than the lifetime of documents is not decided: its first
        decision may have expired, and a second one could differ from it.
        """
        if self._rules.rates is not None:
            self._rules.rates.refresh()
        batch = Batch(records)
        for record in records:
            try:
                event = self._read(record, received_ms)
            except Rejected as error:
                batch.letters.append(dead_letter(record, error))
                continue
            except MemoryError:
                # Of the process, and not to be blamed on the record that met it.
                raise
            except Exception as error:  # noqa: BLE001 - one record must not stop its shard
                # The name of the error alone: its text could repeat a value of the event.
                kind = type(error).__name__
                _log.error("a record could not be read", position=str(record.position), error=kind)
                rejected = Rejected("unreadable", f"reading it failed with {kind}")
                batch.letters.append(dead_letter(record, rejected))
                continue
            if isinstance(event, Transaction):
                batch.incoming.append(Incoming(event, self._origin(record, received_ms)))
            else:
                batch.labels.append(event)
        return batch

    def _read(self, record: Record, received_ms: int) -> Transaction | Label:
        if received_ms - record.arrival_ms > self._lifetime_ms:
            hours = self._lifetime_ms / 3_600_000
            raise Rejected("stale", f"the record is older than {hours:g} h")
        return self._decode(record.data, self._rules)

    def _origin(self, record: Record, received_ms: int) -> Origin:
        return Origin(
            source=self._source,
            arrival_ms=record.arrival_ms,
            received_ms=received_ms,
            shard_id=record.shard_id,
            position=record.position,
        )


class FloodLimit:
    """
    The share of rejected records among the newest ones, with a limit.

    A few bad records are dead-lettered; a stream of them means that a producer
    or our settings are wrong, and dead-lettering everything would drain the
    stream into S3.
    """

    def __init__(self, share: float, window: int) -> None:
        self._share = share
        self._recent: deque[tuple[int, int]] = deque()
        self._window = window
        self._records = 0
        self._rejected = 0

    @property
    def suspicious(self) -> bool:
        """
        Whether a flood may have begun, so that nothing should be checkpointed now.

        A process that is started again begins to count anew; what was not
        checkpointed comes again and holds it at the same place.
        """
        return self._rejected > self._share * max(self._records, self._window // 10)

    def note(self, records: int, rejected: int) -> None:
        """Count a batch. Raises Held once the window holds too many rejected ones."""
        self._recent.append((records, rejected))
        self._records += records
        self._rejected += rejected
        while self._records - self._recent[0][0] >= self._window:
            oldest_records, oldest_rejected = self._recent.popleft()
            self._records -= oldest_records
            self._rejected -= oldest_rejected
        if self._rejected > self._share * max(self._records, self._window):
            message = (
                f"{self._rejected} of the last {self._records} records were rejected, more than "
                f"dead_letters.limit_share = {self._share:g} of {self._window} allows: look at the "
                "dead letters and mend the producer or the settings; to let those that are in the "
                "stream already pass as dead letters, start with dead_letters.limit_share: 1"
            )
            raise Held(message)


def dead_letter(record: Record, error: Rejected) -> DeadLetter:
    """The letter of *record*, its payload masked."""
    payload = mask_payload(record.data)
    return DeadLetter(
        shard_id=record.shard_id,
        position=record.position,
        arrival_ms=record.arrival_ms,
        error=error.code,
        message=error.message,
        payload=payload.text,
        masked=payload.masked,
        whole=payload.whole,
    )


def crashed(record: Record, error: Rejected, *, readable: bool) -> Batch:
    """
    A batch of *record* alone, dead-lettered with *error* and never decoded.

    Its payload is told by its size alone where it is not *readable*, which is to
    say that reading or masking it may be what ends the process.
    """
    letter = dead_letter(record, error) if readable else _unread_letter(record, error)
    return Batch([record], letters=[letter])


def _unread_letter(record: Record, error: Rejected) -> DeadLetter:
    return DeadLetter(
        shard_id=record.shard_id,
        position=record.position,
        arrival_ms=record.arrival_ms,
        error=error.code,
        message=error.message,
        payload=f"(not read: {len(record.data)} bytes)",
        whole=False,
    )


def cut(records: Sequence[Record], size: int) -> Iterable[Sequence[Record]]:
    """*records* in runs of at most *size*, in order."""
    for start in range(0, len(records), size):
        yield records[start : start + size]
