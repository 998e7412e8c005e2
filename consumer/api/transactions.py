"""``GET /v1/transactions`` and ``GET /v1/transactions/{transaction_id}``: stored decisions."""

from typing import Final, Protocol

from anyio import CapacityLimiter, to_thread

from consumer.api.operations import Asked, Reply
from consumer.api.problems import Kind, Problem, Refused, invalid, rejected
from consumer.api.searching import describe_page, next_cursor, read_search
from consumer.errors import Rejected
from consumer.masking import is_card_number
from consumer.model import TransactionId
from consumer.pan import PanGuard
from consumer.query import Page, Query
from consumer.settings import Events

LONGEST_ID: Final = 256


class Documents(Protocol):
    """The decision documents. Every method raises Unavailable."""

    def read(self, transaction_id: TransactionId) -> bytes | None:
        """The stored document, None where there is none."""
        ...

    def search(self, query: Query) -> Page:
        """The page that *query* asks for."""
        ...


class Transactions:
    """Reads *documents*; what *events* guards is looked up as *guard* has it stored."""

    def __init__(self, documents: Documents, guard: PanGuard, events: Events) -> None:
        self._documents = documents
        self._guard = guard
        self._guarded = events.pan_fields
        # Each call holds a connection and a thread.
        self._limit = CapacityLimiter(2)

    async def read(self, asked: Asked) -> Reply:
        """The whole evidence of one transaction, as it is stored."""
        identity = asked.path["transaction_id"]
        check_text("transaction_id", identity)
        if "transaction_id" in self._guarded and is_card_number(identity):
            raise invalid("transaction_id", "a card number", "the id of a transaction")
        document = await to_thread.run_sync(
            self._documents.read, TransactionId(identity), limiter=self._limit
        )
        if document is None:
            raise Refused(Problem(Kind.UNKNOWN_TRANSACTION))
        return Reply(document)

    async def search(self, asked: Asked) -> Reply:
        """A page of what was decided."""
        search = read_search(asked.query, self._guard, self._guarded)
        try:
            page = await to_thread.run_sync(
                self._documents.search, search.query, limiter=self._limit
            )
        except Rejected as error:
            raise Refused(rejected(error)) from None
        return Reply(describe_page(page.documents, page, next_cursor(search, page)))


def check_text(name: str, value: str) -> None:
    """Raise Refused for a text that no id is."""
    if not value or len(value) > LONGEST_ID or not value.isprintable():
        raise invalid(name, "another text", f"1 to {LONGEST_ID} printable characters")
