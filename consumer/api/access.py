"""Who sent a request and what he may do: scopes, principals, and three ways to prove it."""

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, Literal, Protocol

from consumer.api.access_list import AccessKey, AccessList, Caller, Scope
from consumer.api.canonical_request import Request, decode_name, gather_headers, split_query
from consumer.api.sessions import SESSION_SCOPES, Sessions
from consumer.api.sigv4 import Claim, Flaw, Forged, Secret, Verifier
from consumer.clock import Clock

__all__ = ["Authenticator", "Forbidden", "Principal", "Scope", "Via"]

GATEWAY_HEADER: Final = "x-fraudstream-gateway"
"""Carries the secret by which the service knows the gateway."""

CALLER_HEADER: Final = "x-fraudstream-caller"
"""Carries the ARN of who signed the request that the gateway verified."""


class Via(StrEnum):
    """How a principal proved who he is."""

    SIGV4 = "sigv4"
    GATEWAY = "gateway"
    SESSION = "session"


class Forbidden(Exception):
    """A request of someone known who may not do this; the text may be told to him."""

    def __init__(self, name: str, scope: Scope) -> None:
        super().__init__(f"{name} lacks the scope {scope}")
        self.name = name
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody known: the name that the list of access gives him, and what he may do."""

    name: str
    scopes: frozenset[Scope]
    via: Via

    def require(self, scope: Scope) -> None:
        """Raise Forbidden unless he has *scope*, or ``admin``, which has every other."""
        if scope not in self.scopes and Scope.ADMIN not in self.scopes:
            raise Forbidden(self.name, scope)


class AccessWatcher(Protocol):
    """Hears of requests that were not let in."""

    def refused(self, flaw: Flaw, name: str | None) -> None:
        """A request was refused for *flaw*; *name* is whose key it claims, if it is a known one."""
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What requests have to be signed for, and where from.

    ``kind`` says who verifies signatures: this service or the gateway before it.
    """

    region: str
    service: str
    kind: Literal["sigv4", "gateway"] = "sigv4"
    hosts: Sequence[str] = ()


class Authenticator:
    """
    Finds out who sent a request, by *access*, which returns the list in force.

    A request with a signature, or in the way of *terms* with the headers of the gateway, stands
    and falls with them: a session beside it is not looked at.
    """

    def __init__(
        self,
        access: Callable[[], AccessList],
        terms: Terms,
        *,
        sessions: Sessions,
        clock: Clock,
        watcher: AccessWatcher,
    ) -> None:
        self._access = access
        self._gateway = terms.kind == "gateway"
        self._sessions = sessions
        self._clock = clock
        self._watcher = watcher
        self._verifier = Verifier(
            self._find_secret, region=terms.region, service=terms.service, hosts=terms.hosts
        )

    def begin(self, head: Request) -> "Pending":
        """
        Refuse what can be refused before the body is read; *head* is still without one.

        Raises Forged.
        """
        with self._told():
            _check_one_meaning(head)
            headers = gather_headers(head)
            if self._by_session(headers):
                session = self._sessions.find(head)
                known = Principal(session.name, SESSION_SCOPES, Via.SESSION)
                return Pending(self, head, known)
            if self._gateway:
                caller = _find_caller(self._access(), headers)
                return Pending(self, head, Principal(caller.name, caller.scopes, Via.GATEWAY))
            return Pending(self, head, self._verifier.check_head(head, self._now()))

    def finish(self, request: Request, claim: Claim) -> Principal:
        """Find out who signed *request*, whose head makes *claim*. Raises Forged."""
        with self._told():
            key = self._find_key(self._verifier.check_rest(request, claim))
            return Principal(key.name, key.scopes, Via.SIGV4)

    async def authenticate(self, request: Request) -> Principal:
        """Find out who sent *request*, which is whole. Raises Forged."""
        return self.begin(request).finish(request.body)

    def _by_session(self, headers: Mapping[str, Sequence[str]]) -> bool:
        claimed = GATEWAY_HEADER if self._gateway else "authorization"
        return claimed not in headers and self._sessions.claimed(headers)

    def _find_secret(self, key_id: str) -> Secret | None:
        key = self._access().keys.get(key_id)
        return key.secret if key else None

    def _find_key(self, key_id: str) -> AccessKey:
        key = self._access().keys.get(key_id)
        if key is None:
            # It was taken out of the list while its signature was looked at.
            detail = "the access key is not known, or it did not sign this request"
            raise Forged(Flaw.UNKNOWN_KEY, detail, key_id)
        if key.expires is not None and key.expires <= self._now():
            detail = f"the access key expired at {key.expires:%Y-%m-%dT%H:%M:%SZ}"
            raise Forged(Flaw.EXPIRED, detail, key_id)
        return key

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Forged as error:
            key = self._access().keys.get(error.key_id) if error.key_id else None
            self._watcher.refused(error.flaw, key.name if key else None)
            raise


@dataclass(frozen=True, slots=True)
class Pending:
    """A request whose head is in order: somebody known, or one who claims to have signed it."""

    authenticator: Authenticator
    head: Request
    found: Principal | Claim

    def finish(self, body: bytes) -> Principal:
        """Who sent it, with *body*. Raises Forged."""
        if isinstance(self.found, Principal):
            return self.found
        return self.authenticator.finish(replace(self.head, body=body), self.found)


def _check_one_meaning(request: Request) -> None:
    """
    Refuse what a signature leaves open: two requests that it covers may not differ in meaning.

    It covers the path without dots and doubled slashes, and the values of a repeated
    parameter in any order.
    """
    segments = request.path.split("/")[1:]
    if not request.path.startswith("/") or "" in segments[:-1] or {".", ".."} & set(segments):
        raise Forged(Flaw.MALFORMED, "the path: expected one without '//', '/./' and '/../'")
    values: dict[str, list[str]] = {}
    for name, value in split_query(request.query):
        values.setdefault(decode_name(name), []).append(decode_name(value))
    if any(told != sorted(told) for told in values.values()):
        detail = "a repeated parameter: expected its values in their order, which is not signed"
        raise Forged(Flaw.MALFORMED, detail)


def _find_caller(access: AccessList, headers: Mapping[str, Sequence[str]]) -> Caller:
    """Who signed what the gateway passed on, if it was the gateway. Raises Forged."""
    told = headers.get(GATEWAY_HEADER, ())
    if len(told) != 1:
        raise Forged(Flaw.GATEWAY, "expected a request that comes through the gateway")
    known = False
    for secret in access.gateway_secrets:
        known |= hmac.compare_digest(told[0].encode("utf-8", "surrogateescape"), secret.encode())
    if not known:
        raise Forged(Flaw.GATEWAY, "expected a request that comes through the gateway")
    arns = headers.get(CALLER_HEADER, ())
    caller = access.find_caller(arns[0]) if len(arns) == 1 else None
    if caller is None:
        raise Forged(Flaw.GATEWAY, "the gateway's caller is not in the list of access")
    return caller
