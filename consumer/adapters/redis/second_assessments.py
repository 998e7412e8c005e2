"""Second assessments, added to decision documents that were made without a score."""

import redis

from consumer.adapters.redis.cluster import Servers
from consumer.adapters.redis.connection import translated
from consumer.adapters.redis.documents import ALERTS, PREFIX
from consumer.model import TransactionId

_PATH = "$.second_assessment"
_NONE_YET = b"[]"
_NO_DOCUMENT = "new objects must be created at the root"


class SecondAssessments:
    """Writes ``$.second_assessment``, which no index reads, of decision documents."""

    def __init__(self, client: redis.Redis, *, alerts_max_length: int) -> None:
        self._servers = Servers(client)
        self._alerts_max_length = alerts_max_length

    def write(self, transaction_id: TransactionId, assessment: bytes, alert: bytes | None) -> bool:
        """
        Set the *assessment*, a JSON object, where none is; its lifetime is the document's.

        Returns whether it was set: a document that has expired stays away. The *alert*
        goes out before it, since the two may be in different slots: a crash between
        them repeats the alert and loses none. Raises Unavailable.
        """
        key = PREFIX + transaction_id
        with translated():
            if alert is not None:
                if self._servers.command(key, "JSON.GET", key, _PATH) != _NONE_YET:
                    return False
                capped = ("XADD", ALERTS, "MAXLEN", "~", self._alerts_max_length, "*")
                self._servers.command(ALERTS, *capped, "alert", alert)
            try:
                reply = self._servers.command(key, "JSON.SET", key, _PATH, assessment, "NX")
            except redis.ResponseError as error:
                if _NO_DOCUMENT not in str(error):
                    raise
                return False
            return reply is not None

    def close(self) -> None:
        """Close the connections to further primaries of a cluster."""
        self._servers.close()
