"""Explanations, added to decision documents after they were stored."""

import redis

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import translated
from consumer.adapters.redis.index import PREFIX
from consumer.model import TransactionId

_NO_DOCUMENT = "new objects must be created at the root"


class Explanations:
    """Writes ``$.explanation``, which no index reads, of decision documents."""

    def __init__(self, client: redis.Redis) -> None:
        self._servers = Servers(client)

    def write(self, transaction_id: TransactionId, explanation: bytes) -> None:
        """
        Set the *explanation*, a JSON array; its lifetime is the document's.

        A document that has expired stays away. Raises Unavailable.
        """
        with translated():
            try:
                key = PREFIX + transaction_id
                self._servers.command(key, "JSON.SET", key, "$.explanation", explanation)
            except redis.ResponseError as error:
                if _NO_DOCUMENT not in str(error):
                    raise
