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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import product
from posixpath import normpath
from typing import Final
from urllib.parse import quote, unquote_to_bytes

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
_DATE: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z", re.ASCII)
_SPACES: Final = re.compile(r"[ \t]+")
_UNRESERVED: Final = "-_.~"
_HASH_HEADER: Final = "x-amz-content-sha256"
_TOKEN_HEADER: Final = "x-amz-security-token"  # noqa: S105 - the name of a header


class Flaw(StrEnum):
    """Why a request is not let in."""

    UNSIGNED = "unsigned"
    MALFORMED = "malformed"
    INCOMPLETE = "incomplete"
    WRONG_SCOPE = "wrong_scope"
    TOO_OLD = "outside_time_window"
    PAYLOAD = "payload"
    UNKNOWN_KEY = "unknown_key_or_signature"


class Forged(Exception):
    """A request whose signature does not hold; the text may be told to its sender."""

    def __init__(self, flaw: Flaw, detail: str) -> None:
        super().__init__(detail)
        self.flaw = flaw
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Request:
    """
    A request as it came over the wire.

    ``path`` and ``query`` (without the question mark) are percent-encoded as they were
    sent; ``headers`` are pairs of lower-case name and value, in their order.
    """

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Secret:
    """What an access key signs with; ``token`` is the session token of a temporary one."""

    secret_key: str
    token: str | None = None


Lookup = Callable[[str], Secret | None]
"""Access key id → secret, None for one that is not known."""

# Signs for keys that nobody has, so that an unknown key takes as long as a wrong signature.
_NOBODY: Final = Secret("nobody")


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the Authorization header says."""

    key_id: str
    date: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{_TERMINATOR}"


class Verifier:
    """
    Verifies requests to one *service* in one *region*, with the secrets that *lookup* knows.

    Keeps the signing key of each access key and day, which costs four hashes.
    """

    def __init__(self, lookup: Lookup, *, region: str, service: str) -> None:
        self._lookup = lookup
        self._region = region
        self._service = service
        self._signing_keys: dict[tuple[str, str], bytes] = {}

    def verify(self, request: Request, now: datetime) -> str:
        """
        Return the access key id that signed *request*, received at *now* (aware).

        Raises Forged.
        """
        claim = self._read_claim(request)
        moment = _check_complete(request, claim)
        self._check_scope(claim, moment, now)
        body_hash = _check_body(request)
        secret = self._lookup(claim.key_id)
        signing_key = self._signing_key(claim.date, secret or _NOBODY)
        head = f"{ALGORITHM}\n{moment}\n{claim.scope}\n"
        matches = False
        for canonical in canonical_requests(request, claim.signed, body_hash):
            text = head + hashlib.sha256(canonical.encode()).hexdigest()
            signature = hmac.new(signing_key, text.encode(), hashlib.sha256).hexdigest()
            matches |= hmac.compare_digest(signature, claim.signature)
        token = _single(request, _TOKEN_HEADER) or ""
        known = secret is not None and hmac.compare_digest(
            token.encode(), (secret.token or "").encode()
        )
        if not (matches and known):
            detail = "the access key is not known, or it did not sign this request"
            raise Forged(Flaw.UNKNOWN_KEY, detail)
        return claim.key_id

    def _read_claim(self, request: Request) -> _Claim:
        told = [value for name, value in request.headers if name == "authorization"]
        in_query = [name for name in _query_names(request.query) if name.startswith("x-amz-")]
        if in_query:
            detail = f"the query parameter {in_query[0]}: sign in the Authorization header"
            raise Forged(Flaw.MALFORMED, detail)
        if not told:
            raise Forged(Flaw.UNSIGNED, f"no Authorization header: expected {ALGORITHM}")
        if len(told) > 1:
            raise Forged(Flaw.MALFORMED, "several Authorization headers: expected one")
        found = _AUTHORIZATION.fullmatch(told[0].strip())
        if found is None:
            expected = (
                f"{ALGORITHM} Credential=<key>/<date>/{self._region}/{self._service}/aws4_request, "
                "SignedHeaders=<names>, Signature=<64 hex digits>"
            )
            raise Forged(Flaw.MALFORMED, f"the Authorization header: expected {expected}")
        signed = tuple(found["headers"].split(";"))
        if list(signed) != sorted(set(signed)):
            raise Forged(Flaw.MALFORMED, "SignedHeaders: expected different names, sorted")
        return _Claim(
            found["key"],
            found["date"],
            found["region"],
            found["service"],
            signed,
            found["signature"],
        )

    def _check_scope(self, claim: _Claim, moment: str, now: datetime) -> None:
        if (claim.region, claim.service) != (self._region, self._service):
            detail = (
                f"signed for {claim.service} in {claim.region}: expected {self._service} in "
                f"{self._region}"
            )
            raise Forged(Flaw.WRONG_SCOPE, detail)
        if not moment.startswith(claim.date):
            raise Forged(Flaw.WRONG_SCOPE, "Credential and x-amz-date are of different days")
        try:
            signed_at = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError as error:
            raise Forged(Flaw.MALFORMED, "x-amz-date: no such time") from error
        if abs((now - signed_at).total_seconds()) > TOLERANCE_S:
            detail = (
                f"signed at {moment}, it is {now.astimezone(UTC):%Y%m%dT%H%M%SZ} here: expected "
                f"at most {TOLERANCE_S} s between"
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


def canonical_requests(request: Request, signed: Sequence[str], body_hash: str) -> Iterator[str]:
    """Yield what may be signed of *request*, by the forms of its path and its query."""
    headers = "".join(f"{name}:{_header_value(request, name)}\n" for name in signed)
    tail = "\n".join([headers, ";".join(signed), body_hash])
    for path, query in product(canonical_paths(request.path), canonical_queries(request.query)):
        yield f"{request.method}\n{path}\n{query}\n{tail}"


def canonical_paths(path: str) -> tuple[str, ...]:
    """
    The forms in which clients sign *path*, as it was sent.

    Normalised and encoded once more, as the rules for all services but S3 say; the same of the
    decoded path, as clients do that are given a path they did not encode; or as it is, as curl
    does. Each follows from *path* alone, so none lets one path be signed and another be served.
    """
    decoded = unquote_to_bytes(path)
    forms = (
        quote(_normalise(path), safe="/" + _UNRESERVED),
        quote(_normalise_bytes(decoded), safe="/" + _UNRESERVED),
        path or "/",
    )
    return tuple(dict.fromkeys(forms))


def _normalise(path: str) -> str:
    return _normalise_bytes(path.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")


def _normalise_bytes(path: bytes) -> bytes:
    """Without ``.``, ``..`` and doubled slashes; a slash at the end stays."""
    shortened = b"/" + normpath(path).lstrip(b"/") if path else b"/"
    return shortened + b"/" if path.endswith(b"/") and shortened != b"/" else shortened


def canonical_queries(query: str) -> tuple[str, ...]:
    """The forms in which clients sign *query*: sorted, and encoded anew or as it was sent."""
    pairs = [part.partition("=")[::2] for part in query.split("&") if part]
    encoded = sorted((_encode(name), _encode(value)) for name, value in pairs)
    forms = (
        "&".join(f"{name}={value}" for name, value in each) for each in (encoded, sorted(pairs))
    )
    return tuple(dict.fromkeys(forms))


def _encode(text: str) -> str:
    """Encode anew whatever way *text* is encoded; a plus is a plus."""
    return quote(unquote_to_bytes(text), safe=_UNRESERVED)


def _query_names(query: str) -> list[str]:
    parts = [part.partition("=")[0] for part in query.split("&")]
    return [unquote_to_bytes(name).decode("utf-8", "replace").lower() for name in parts]


def _header_value(request: Request, name: str) -> str:
    """All values of *name* in their order, spaces within and around them made one or none."""
    values = [_SPACES.sub(" ", value.strip()) for known, value in request.headers if known == name]
    return ",".join(values)


def _single(request: Request, name: str) -> str | None:
    """The value of a header that may occur once. Raises Forged."""
    values = [value.strip() for known, value in request.headers if known == name]
    if len(values) > 1:
        raise Forged(Flaw.MALFORMED, f"several {name} headers: expected one")
    return values[0] if values else None


def _check_complete(request: Request, claim: _Claim) -> str:
    """See that all that matters is under the signature; return when it was signed."""
    there = {name for name, _ in request.headers}
    absent = sorted(set(claim.signed) - there)
    if absent:
        raise Forged(Flaw.INCOMPLETE, f"the signed header {absent[0]} is not there")
    _single(request, "host")
    moment = _single(request, "x-amz-date")
    if moment is None or not _DATE.fullmatch(moment):
        raise Forged(Flaw.MALFORMED, "x-amz-date: expected a time such as 20260601T120000Z")
    needed = {"host", *(name for name in there if name.startswith("x-amz-"))}
    unsigned = sorted(needed - set(claim.signed))
    if unsigned:
        raise Forged(Flaw.INCOMPLETE, f"the header {unsigned[0]} is not among SignedHeaders")
    return moment


def _check_body(request: Request) -> str:
    """Return the hash of the body, which a header that tells it must repeat."""
    told = _single(request, _HASH_HEADER)
    found = hashlib.sha256(request.body).hexdigest()
    if told is None or hmac.compare_digest(told.encode(), found.encode()):
        return found
    if not re.fullmatch(r"[0-9a-f]{64}", told, re.ASCII):
        detail = f"{_HASH_HEADER}: expected the SHA-256 of the whole body in hex digits"
        raise Forged(Flaw.PAYLOAD, detail)
    raise Forged(Flaw.PAYLOAD, f"the body does not have the hash in {_HASH_HEADER}")
