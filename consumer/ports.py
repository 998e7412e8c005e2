"""
What the core asks of the outside, as protocols.

Every implementation, fakes included, passes the contract suite of its port in
``tests/contracts``. Each method states which errors of ``errors.py`` it raises.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from consumer.model import (
    Assessment,
    DeadLetter,
    Label,
    LabelEffect,
    Labelled,
    Observation,
    StoredDecision,
    Transaction,
    TransactionId,
)

Found = TypeVar("Found")
_Found_co = TypeVar("_Found_co", covariant=True)


class Pending(Protocol[_Found_co]):
    """What was asked for and is being worked elsewhere."""

    def result(self) -> _Found_co:
        """Wait for it; call this once. Raises what the call that started it says."""
        ...


@dataclass(frozen=True, slots=True)
class Later(Generic[Found]):
    """Something whose rest is done when its result is wanted."""

    finish: Callable[[], Found]

    def result(self) -> Found:
        """Do the rest."""
        return self.finish()


@dataclass(frozen=True, slots=True)
class Observe:
    """
    Ask a feature store to apply a transaction and read its features.

    ``time_s`` is the transaction's feature time: the event time in whole
    seconds, clamped to the record's arrival.
    """

    transaction: Transaction
    time_s: int


Step = Observe | LabelEffect
"""What a feature store can be asked to do, one after the other."""


class FeatureStore(Protocol):
    """Entity state: applied once per transaction id, read in the same call."""

    def observe(self, requests: Sequence[Observe]) -> list[Observation]:
        """
        Apply each request in order and return its feature vector.

        One network round trip whatever the number of requests. Applying an id
        again changes nothing and reads what the first time would read now.
        Raises Unavailable; part of the requests may then have been applied.
        """
        ...


class EagerFeatureStore(FeatureStore, Protocol):
    """One that can be left to its work."""

    def start(self, requests: Sequence[Observe]) -> Pending[list[Observation]]:
        """
        Begin to ``observe`` *requests*; the result waits for their vectors.

        Nothing else may be asked of this store before. Raises as ``observe`` does, here or there.
        """
        ...


class FeatureRehearsal(Protocol):
    """The side of a feature store that tells what would be, and changes nothing."""

    def rehearse(self, requests: Sequence[Observe]) -> list[Observation]:
        """
        Return the vector that each request alone would get if it were observed now.

        One network round trip. Raises Unavailable.
        """
        ...


class FeatureLabels(Protocol):
    """The side of a feature store that learns what transactions turned out to be."""

    def label(self, effects: Sequence[LabelEffect]) -> None:
        """
        Count each label in the entities of its transaction.

        Newest label_time of a transaction wins per entity; corrections change
        counters by the difference; repeating changes nothing. Raises Unavailable.
        """
        ...


class WarmthStore(Protocol):
    """One small text beside entity state, lost when that is lost: since when what is kept."""

    def read(self) -> bytes | None:
        """Return the text, None where there is none. Raises Unavailable."""
        ...

    def swap(self, expected: bytes | None, data: bytes) -> bytes | None:
        """
        Write *data* if *expected* stands there (None: nothing); return what stands then.

        May be repeated when its reply was lost. Raises Unavailable.
        """
        ...


class DocumentStore(Protocol):
    """Decision documents: the first one written for an id stands."""

    def decide(self, assessments: Sequence[Assessment]) -> list[StoredDecision]:
        """
        Store each assessment whose id has no document yet; return what stands.

        A label that waited for its transaction is in the new document. Raises
        Unavailable.
        """
        ...

    def label(self, labels: Sequence[Label]) -> list[Labelled]:
        """
        Note each label on its document, or keep it until its transaction comes.

        The newest ``label_time`` stands, and of equal ones the greater id. The
        outcome is applied, repeated or superseded, or unmatched where there is no
        document. Raises Unavailable.
        """
        ...


class EagerDocumentStore(DocumentStore, Protocol):
    """One that can be left to its work."""

    def start(self, assessments: Sequence[Assessment]) -> Pending[list[StoredDecision]]:
        """
        Begin to ``decide`` *assessments*; the result waits for what stands.

        Nothing else may be asked of this store before. Raises as ``decide`` does, here or there.
        """
        ...


class KnownDecisions(Protocol):
    """Decision documents, by their ids."""

    def find(self, transaction_ids: Sequence[TransactionId]) -> list[bytes | None]:
        """
        Return the stored document of each id, None where there is none (any more).

        One network round trip. Raises Unavailable.
        """
        ...


class Durability(Protocol):
    """What tells whether written effects would outlive the server that took them."""

    def confirm(self) -> bool:
        """
        Wait until everything written so far has the wanted number of copies.

        False after a change of server, when what was written since the last
        confirmation may be gone. Raises Unavailable while copies are too few.
        """
        ...


class Endpoint(Protocol):
    """One model behind an HTTP endpoint."""

    @property
    def name(self) -> str:
        """The score's name: ``fraud`` or ``anomaly``."""
        ...

    @property
    def max_rows(self) -> int:
        """Rows that one request may carry."""
        ...

    @property
    def max_bytes(self) -> int:
        """Bytes that the lines of one request, with a newline each, may take."""
        ...

    def invoke(self, lines: Sequence[bytes], deadline_s: float, inference_id: str) -> list[float]:
        """
        Score *lines* in one request, until *deadline_s* on the monotonic clock.

        Each line is the CSV of one vector in the order of the plan's names,
        without a newline; encoded once, it serves every endpoint. One finite
        score a line comes back, in order. *inference_id* (at most 64 ASCII
        characters) names the request in captured data.

        Raises Unavailable with the cause as its message: ``timeout``,
        ``connection``, ``status_<code>``, ``unreadable``, ``wrong_row_count``,
        ``not_a_number`` or ``out_of_range``.
        """
        ...


class DecisionSink(Protocol):
    """Where decisions go for analytics; at least once."""

    def publish(self, documents: Sequence[bytes]) -> "Future[None]":
        """
        Send the rows of *documents*. The future ends when every row is
        acknowledged, or stored beside what was delivered, or with Unavailable
        when that cannot be.
        """
        ...


@dataclass(frozen=True, slots=True)
class Announced:
    """Transactions that were about to be decided, under the name of their entry."""

    entry: str
    transaction_ids: tuple[TransactionId, ...]


class Outbox(Protocol):
    """What remembers whose rows may be missing in Firehose when a process ends."""

    def announce(self, transaction_ids: Sequence[TransactionId]) -> Announced:
        """Remember that these are about to be decided. Raises Unavailable."""
        ...

    def settle(self, entries: Sequence[str]) -> None:
        """Forget *entries*, whose rows are acknowledged. Raises Unavailable."""
        ...

    def find_older(self, age_s: float, limit: int) -> list[Announced]:
        """The oldest entries, announced by anyone longer than *age_s* ago. Raises Unavailable."""
        ...


class RowStore(Protocol):
    """Where rows go that Firehose does not take."""

    def put(self, rows: bytes) -> None:
        """
        Store *rows*, whole lines and at least one, beside what Firehose delivers.

        Storing the same rows again changes nothing. Raises Unavailable.
        """
        ...


class DeadLetterStore(Protocol):
    """Where rejected records wait to be looked at and redriven."""

    def put(self, letters: Sequence[DeadLetter]) -> None:
        """Store each letter under its id; storing it again changes nothing. Raises Unavailable."""
        ...


class AcceptedRules(Protocol):
    """The one set of rules that was last found good, for all workers, and which sets tripped."""

    def read(self) -> bytes | None:
        """Return the content of the set, None where there is none. Raises Unavailable."""
        ...

    def version(self) -> str | None:
        """Return the version of the set, None where there is none. Raises Unavailable."""
        ...

    def keep(self, version: str, content: bytes) -> bool:
        """
        Replace the set by *content*, and return True; False where *version* tripped anywhere.

        Raises Unavailable.
        """
        ...

    def accept(self, version: str, content: bytes) -> None:
        """Replace the set by *content*, also one that tripped, which is forgotten."""
        ...

    def trip(self, version: str, former: str, content: bytes) -> None:
        """
        Remember that *version* tripped; where it is the set, or none is, *former* becomes it.

        *content* is that of *former*, which is left out where it tripped too. At least the
        newest twenty are remembered. Nothing changes while the set is *version* as a person
        accepted it. Raises Unavailable.
        """
        ...


class Texts(Protocol):
    """Small texts in one place, each with a version: rules and named lists."""

    @property
    def place(self) -> str:
        """Where they are, for messages."""
        ...

    def versions(self) -> dict[str, str]:
        """Return name → version; another content has another version. Raises Unavailable."""
        ...

    def read(self, name: str) -> bytes:
        """Return the content of *name*. Raises Unavailable."""
        ...

    def change(self, name: str, data: bytes, expected: str | None, audit: bytes) -> None:
        """
        Replace *name* by *data* and note the JSON line *audit* beside.

        *expected* is the version it has to have (None: it must not exist). Raises
        Unavailable, having changed nothing, when it has another.
        """
        ...
