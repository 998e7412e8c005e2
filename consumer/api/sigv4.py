"""
AWS Signature Version 4, the side that verifies; pure.

After "Signing AWS API requests" of the IAM user guide. A signature covers the method, the path,
the query, the named headers and the hash of the body, so a request that was changed on its way
fails. Only signatures in the ``Authorization`` header are taken, only of whole bodies, and only
where every header that says who, when and what is under the signature.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from consumer.api.canonical_request import (
    Request,
    canonical_requests,
    decode_name,
    gather_headers,
    split_query,
    to_bytes,
)

__all__ = ["Claim", "Flaw", "Forged", "Lookup", "Request", "Secret", "Verifier", "signing_key"]

ALGORITHM: Final = "AWS4-HMAC-SHA256"
TOLERANCE_S: Final = 300
"""How far the clock of a client may be from ours."""

_TERMINATOR: Final = "aws4_request"
_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 +"
    r"Credential=(?P<key>[A-Za-z0-9_-]{1,128})/(?P<date>[0-9]{8})/(?P<region>[a-z0-9-]{1,64})/"
    r"(?P<service>[a-z0-9-]{1,64})/aws4_request *, *"
    r"SignedHeaders=(?P<headers>[a-z0-9!#$%&'*+.^_`|~;-]{1,2048}) *, *"
    r"Signature=(?P<signature>[0-9a-f]{64})",
    re.ASCII,
)
_METHOD: Final = re.compile(r"[A-Z]{1,16}", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HASH_HEADER: Final = "x-amz-content-sha256"
_TOKEN_HEADER: Final = "x-amz-security-token"  # noqa: S105 - the name of a header
_ONCE: Final = ("host", "x-amz-date", _HASH_HEADER, _TOKEN_HEADER)
# CloudFront adds it to each request that it passes on; nothing here reads it.
_ADDED_ON_THE_WAY: Final = frozenset({"x-amz-cf-id"})
# Says what the bytes of the body are, of which only the bytes are under the signature.
_CODING_HEADER: Final = "content-encoding"


class Flaw(StrEnum):
    """Why a request is not let in."""

    UNSIGNED = "unsigned"
    MALFORMED = "malformed"
    INCOMPLETE = "incomplete"
    WRONG_SCOPE = "wrong_scope"
    WRONG_HOST = "wrong_host"
    TOO_OLD = "outside_time_window"
    PAYLOAD = "payload"
    UNKNOWN_KEY = "unknown_key_or_signature"
    EXPIRED = "expired_key"
    GATEWAY = "gateway"
    SESSION = "session"
    CROSS_SITE = "cross_site"


class Forged(Exception):
    """
    A request that does not prove who sent it; the text may be told to its sender.

    ``key_id`` is what it says of itself, proved by nothing.
    """

    def __init__(self, flaw: Flaw, detail: str, key_id: str | None = None) -> None:
        super().__init__(detail)
        self.flaw = flaw
        self.detail = detail
        self.key_id = key_id


@dataclass(frozen=True, slots=True)
class Secret:
    """What an access key signs with; ``token`` is the session token of a temporary one."""

    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return "Secret(…)"


Lookup = Callable[[str], Secret | None]
"""Access key id → secret, None for one that is not known."""

# Signs for keys that nobody has, so that an unknown key takes as long as a wrong signature.
_NOBODY: Final = Secret("nobody")


@dataclass(frozen=True, slots=True)
class Claim:
    """What the head of a request says about its signature, complete and in time."""

    key_id: str
    date: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str
    moment: str

    @property
    def scope(self) -> str:
        """What the signing key is good for."""
        return f"{self.date}/{self.region}/{self.service}/{_TERMINATOR}"


class Verifier:
    """
    Verifies requests to one *service* in one *region*, with the secrets that *lookup* knows.

    Where *hosts* are named, only requests to one of them are taken: else what was sent to
    another installation that knows the same keys could be sent here again. Keeps the signing
    key of each secret and day, which costs four hashes.
    """

    def __init__(
        self, lookup: Lookup, *, region: str, service: str, hosts: Sequence[str] = ()
    ) -> None:
        self._lookup = lookup
        self._region = region
        self._service = service
        self._hosts = frozenset(host.lower() for host in hosts)
        self._signing_keys: dict[tuple[str, str], bytes] = {}

    def verify(self, request: Request, now: datetime) -> str:
        """
        Return the access key id that signed *request*, received at *now* (aware).

        Raises Forged.
        """
        return self.check_rest(request, self.check_head(request, now))

    def check_rest(self, request: Request, claim: Claim) -> str:
        """
        Look at the body and the signature of *request*, whose head makes *claim*.

        Returns the access key id. Raises Forged.
        """
        try:
            self._check_signature(request, claim, _check_body(request))
        except Forged as error:
            error.key_id = claim.key_id
            raise
        return claim.key_id

    def check_head(self, request: Request, now: datetime) -> Claim:
        """
        Look at all but the body and the signature, which is all that needs no secret.

        So a request without a chance is refused before its body is read. Raises Forged.
        """
        _check_characters(request)
        headers = gather_headers(request)
        _check_query(request.query)
        claim = self._read_claim(headers)
        try:
            _check_complete(headers, claim)
            self._check_scope(claim, headers["host"][0], now)
        except Forged as error:
            error.key_id = claim.key_id
            raise
        return claim

    def _check_signature(self, request: Request, claim: Claim, body_hash: str) -> None:
        secret = self._lookup(claim.key_id)
        signing_key = self._signing_key(claim.date, secret or _NOBODY)
        head = f"{ALGORITHM}\n{claim.moment}\n{claim.scope}\n"
        matches = False
        for canonical in canonical_requests(request, claim.signed, body_hash):
            text = head + hashlib.sha256(to_bytes(canonical)).hexdigest()
            signature = hmac.new(signing_key, text.encode(), hashlib.sha256).hexdigest()
            matches |= hmac.compare_digest(signature, claim.signature)
        token = next((value for name, value in request.headers if name == _TOKEN_HEADER), "")
        expected = ((secret or _NOBODY).token or "").encode()
        known = hmac.compare_digest(to_bytes(token.strip(" \t")), expected)
        if not (matches and known and secret is not None):
            detail = "the access key is not known, or it did not sign this request"
            raise Forged(Flaw.UNKNOWN_KEY, detail)

    def _read_claim(self, headers: Mapping[str, Sequence[str]]) -> Claim:
        told = headers.get("authorization", ())
        if not told:
            raise Forged(Flaw.UNSIGNED, f"no Authorization header: expected {ALGORITHM}")
        if len(told) > 1:
            raise Forged(Flaw.MALFORMED, "several Authorization headers: expected one")
        found = _AUTHORIZATION.fullmatch(told[0])
        if found is None:
            expected = (
                f"{ALGORITHM} Credential=<key>/<date>/{self._region}/{self._service}/aws4_request, "
                "SignedHeaders=<names>, Signature=<64 hex digits>"
            )
            raise Forged(Flaw.MALFORMED, f"the Authorization header: expected {expected}")
        signed = tuple(found["headers"].split(";"))
        if list(signed) != sorted(set(signed)):
            raise Forged(Flaw.MALFORMED, "SignedHeaders: expected different names, sorted")
        moment = next(iter(headers.get("x-amz-date", ())), "")
        return Claim(
            found["key"],
            found["date"],
            found["region"],
            found["service"],
            signed,
            found["signature"],
            moment,
        )

    def _check_scope(self, claim: Claim, host: str, now: datetime) -> None:
        if (claim.region, claim.service) != (self._region, self._service):
            detail = (
                f"signed for {claim.service} in {claim.region}: expected {self._service} in "
                f"{self._region}"
            )
            raise Forged(Flaw.WRONG_SCOPE, detail)
        if self._hosts and host.lower() not in self._hosts:
            expected = " or ".join(sorted(self._hosts))
            raise Forged(Flaw.WRONG_HOST, f"signed for another host: expected {expected}")
        if not claim.moment.startswith(claim.date):
            raise Forged(Flaw.WRONG_SCOPE, "Credential and x-amz-date are of different days")
        signed_at = _read_time(claim.moment)
        if abs((now - signed_at).total_seconds()) > TOLERANCE_S:
            here = now.astimezone(UTC)
            detail = (
                f"signed at {claim.moment}, it is {here:%Y%m%dT%H%M%SZ} here: expected at most "
                f"{TOLERANCE_S} s between"
            )
            raise Forged(Flaw.TOO_OLD, detail)

    def _signing_key(self, date: str, secret: Secret) -> bytes:
        place = (date, secret.secret_key)
        found = self._signing_keys.get(place)
        if found is None:
            found = signing_key(secret.secret_key, date, self._region, self._service)
            if any(known != date for known, _ in self._signing_keys):
                # A new day; those of the old one are not asked for much longer.
                self._signing_keys.clear()
            self._signing_keys[place] = found
        return found


def signing_key(secret_key: str, date: str, region: str, service: str) -> bytes:
    """Derive the key of one day, region and service from *secret_key*."""
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, _TERMINATOR):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _check_characters(request: Request) -> None:
    """Refuse what could be taken for the end of a line of the text that is signed."""
    if not _METHOD.fullmatch(request.method):
        raise Forged(Flaw.MALFORMED, "the method: expected capital letters")
    if _CONTROLS.search(request.path) or _CONTROLS.search(request.query):
        raise Forged(Flaw.MALFORMED, "the path: expected no control characters")
    for name, value in request.headers:
        if _CONTROLS.search(value):
            detail = f"the header {_shorten(name)}: expected one line without control characters"
            raise Forged(Flaw.MALFORMED, detail)


def _check_query(query: str) -> None:
    """Refuse signatures in the query, beside one in the header or alone."""
    for name, _ in split_query(query):
        if decode_name(name).lower().startswith("x-amz-"):
            detail = "a query parameter X-Amz-…: sign in the Authorization header"
            raise Forged(Flaw.MALFORMED, detail)


def _check_complete(headers: Mapping[str, Sequence[str]], claim: Claim) -> None:
    """See that all that matters is there, once, and under the signature."""
    for name in _ONCE:
        if len(headers.get(name, ())) > 1:
            raise Forged(Flaw.MALFORMED, f"several {name} headers: expected one")
    absent = sorted(set(claim.signed) - headers.keys())
    if absent:
        detail = f"the signed header {_shorten(absent[0])} is not there"
        raise Forged(Flaw.INCOMPLETE, detail)
    if not _DATE.fullmatch(claim.moment):
        raise Forged(Flaw.MALFORMED, "x-amz-date: expected a time such as 20260601T120000Z")
    needed = {name for name in headers if name.startswith("x-amz-") or name == _CODING_HEADER}
    unsigned = sorted((needed | {"host"}) - _ADDED_ON_THE_WAY - set(claim.signed))
    if unsigned:
        detail = f"the header {_shorten(unsigned[0])} is not among SignedHeaders"
        raise Forged(Flaw.INCOMPLETE, detail)


def _read_time(moment: str) -> datetime:
    """Read *moment*, which has the form of a time. Raises Forged."""
    try:
        # A fifth of the time that strptime takes.
        date = [int(moment[start:end]) for start, end in ((0, 4), (4, 6), (6, 8))]
        time = [int(moment[start:end]) for start, end in ((9, 11), (11, 13), (13, 15))]
        return datetime(date[0], date[1], date[2], time[0], time[1], time[2], tzinfo=UTC)
    except ValueError as error:
        raise Forged(Flaw.MALFORMED, "x-amz-date: no such time") from error


def _shorten(name: str) -> str:
    return name if len(name) <= 64 else f"{name[:64]}…"  # noqa: PLR2004 - what fits in a line


def _check_body(request: Request) -> str:
    """Return the hash of the body, which a header that tells it must repeat."""
    told = next((value for name, value in request.headers if name == _HASH_HEADER), None)
    found = hashlib.sha256(request.body).hexdigest()
    if told is None or hmac.compare_digest(to_bytes(told.strip(" \t")), found.encode()):
        return found
    if not re.fullmatch(r"[0-9a-f]{64}", told.strip(" \t"), re.ASCII):
        detail = f"{_HASH_HEADER}: expected the SHA-256 of the whole body in hex digits"
        raise Forged(Flaw.PAYLOAD, detail)
    raise Forged(Flaw.PAYLOAD, f"the body does not have the hash in {_HASH_HEADER}")
