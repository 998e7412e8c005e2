"""What the calls of the feature functions carry: packed ids, times, amounts and values."""

from hashlib import blake2b
from struct import Struct

from consumer.features.derived import coordinates
from consumer.features.library import Carried
from consumer.model import LabelEffect, Transaction

NO_ID = bytes(8)
_MAX_TIME_S = 2**32 - 2
_MAX_AMOUNT_MINOR = 2**40 - 1
# Sets our ids apart from any other use of the same hash; part of the state format.
_PERSON = b"fraudstream/id/1"
_VALUE_PERSON = b"fraudstream/v/1"
_VALUE_BYTES = 5
_NO_VALUE = bytes(_VALUE_BYTES)
_PLACE = Struct("<ii")


def id_hash(transaction_id: str) -> bytes:
    """Return 8 bytes that stand for an id in entity state: 1 collision in 10¹⁹ pairs."""
    return blake2b(transaction_id.encode(), digest_size=8, person=_PERSON).digest()


def event_argument(
    id_bytes: bytes, time_s: int, amount_minor: int, *, applies: bool, rehearses: bool = False
) -> bytes:
    """
    Pack id, time u32, amount u48 and 1 to apply. Times before 1970 count as 1970.

    What *rehearses* is answered as if it were applied, and changes nothing.

    Raises ValueError for an amount outside 0 … 2⁴⁰-1 minor units.
    """
    if not 0 <= amount_minor <= _MAX_AMOUNT_MINOR:
        message = f"an amount is 0 to {_MAX_AMOUNT_MINOR} minor units"
        raise ValueError(message)
    time = min(max(time_s, 0), _MAX_TIME_S).to_bytes(4, "little")
    does = (b"\2" if rehearses else b"\1") if applies else b"\0"
    return id_bytes + time + amount_minor.to_bytes(6, "little") + does


def label_argument(effect: LabelEffect) -> bytes:
    """Pack id, event time u32, label time u48 (ms), what orders labels of one time, fraud."""
    event = min(max(effect.event_time_s, 0), _MAX_TIME_S).to_bytes(4, "little")
    told = max(effect.label_time_ms, 0).to_bytes(6, "little")
    name = effect.label_id.encode()[:8].ljust(8, b"\0")
    return id_hash(effect.transaction_id) + event + told + name + bytes([effect.fraud])


class Tails:
    """What an argument carries beside the event, as a function reads it; None: nothing."""

    __slots__ = ("_hashes", "_transaction")

    def __init__(self, transaction: Transaction | None) -> None:
        self._transaction = transaction
        self._hashes: dict[str, bytes] = {}

    def of(self, carried: Carried) -> bytes:
        """Return the place and the hashes of the values that are *carried*."""
        if not carried.place and not carried.fields:
            return b""
        transaction = self._transaction
        place = (
            coordinates(None, None)
            if transaction is None
            else coordinates(transaction.latitude, transaction.longitude)
        )
        tail = _PLACE.pack(*place) if carried.place else b""
        return tail + b"".join([self._hash(field) for field in carried.fields])

    def _hash(self, field: str) -> bytes:
        value: str | None = getattr(self._transaction, field, None)
        if not value:
            return _NO_VALUE
        known = self._hashes.get(field)
        if known is None:
            digest = blake2b(value.encode(), digest_size=_VALUE_BYTES, person=_VALUE_PERSON)
            known = self._hashes[field] = digest.digest()
        return known
