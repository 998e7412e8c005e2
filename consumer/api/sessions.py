"""
Sessions of the page: a token that is good once buys a cookie.

The cookie holds a random id and its authentication code; what it stands for is kept here, so
that signing out and expiry are certain. Everything is in the memory of this process and ends
with it. What changes something needs, beside the cookie, a code that only a page of the same
origin can read, and an ``Origin`` that is the host it was sent to.
"""

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from consumer.api.access_list import Scope
from consumer.api.canonical_request import Request, gather_headers
from consumer.api.sigv4 import Flaw, Forged
from consumer.clock import Clock

CSRF_HEADER: Final = "x-fraudstream-csrf"
SESSION_SCOPES: Final = frozenset({Scope.READ, Scope.LABEL})

_COOKIE: Final = "fraudstream-session"
# A browser takes a cookie of this prefix from the host itself alone, over TLS.
_SECURE_COOKIE: Final = "__Host-fraudstream-session"
_SAFE: Final = frozenset({"GET", "HEAD"})
_LIMIT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds: unused, in all, and of a token that nobody has used."""

    idle_s: float
    lifetime_s: float
    token_s: float


@dataclass(slots=True)
class Session:
    """Somebody signed in; times are of a monotonic clock."""

    session_id: str
    name: str
    opened_s: float
    used_s: float


@dataclass(frozen=True, slots=True)
class Opened:
    """What a page gets for its token: the value of ``Set-Cookie`` and the code for changes."""

    cookie: str
    csrf: str
    name: str


class Sessions:
    """Those that are signed in; *clock* counts their time."""

    def __init__(self, lifetimes: Lifetimes, clock: Clock) -> None:
        self._lifetimes = lifetimes
        self._clock = clock
        self._key = secrets.token_bytes(32)
        # Hash of a token → who may sign in with it and until when.
        self._tokens: dict[bytes, tuple[str, float]] = {}
        self._sessions: dict[str, Session] = {}

    def issue_token(self, name: str = "page") -> str:
        """Make a token with which one browser can sign in once, as *name*."""
        token = secrets.token_urlsafe(32)
        self._drop_expired()
        ends_s = self._clock.monotonic_s() + self._lifetimes.token_s
        self._tokens[_digest(token)] = (name, ends_s)
        return token

    def open(self, request: Request, token: str) -> Opened:
        """Exchange *token*, which came with *request*. Raises Forged."""
        headers = gather_headers(request)
        host = _check_origin(request, headers)
        self._drop_expired()
        # Taken out before anything else, so that it is good once whatever follows.
        name, _ = self._tokens.pop(_digest(token), ("", 0.0))
        if not name:
            raise Forged(Flaw.SESSION, "the token is not known, was used, or is too old")
        if len(self._sessions) >= _LIMIT:
            raise Forged(Flaw.SESSION, f"{_LIMIT} sessions are open: sign out of others")
        now_s = self._clock.monotonic_s()
        session = Session(secrets.token_urlsafe(32), name, now_s, now_s)
        self._sessions[session.session_id] = session
        value = f"{session.session_id}.{self._code('session', session.session_id)}"
        cookie = _format_cookie(host, value, int(self._lifetimes.lifetime_s))
        return Opened(cookie, self.csrf(session), name)

    def claimed(self, headers: Mapping[str, Sequence[str]]) -> bool:
        """Whether a request with *headers* carries the cookie of a session, good or bad."""
        return bool(_read_cookies(headers))

    def find(self, request: Request) -> Session:
        """
        The session that *request* belongs to, used just now.

        Raises Forged, also where the request may have been made by a page of another site.
        """
        headers = gather_headers(request)
        session = self._known(headers)
        if headers.get("sec-fetch-site", ["same-origin"]) not in (["same-origin"], ["none"]):
            raise Forged(Flaw.CROSS_SITE, "the request was made by a page of another site")
        if request.method not in _SAFE:
            _check_origin(request, headers)
            told = headers.get(CSRF_HEADER, [])
            if len(told) != 1 or not _equal(told[0], self.csrf(session)):
                detail = f"the header {CSRF_HEADER}: expected the code of this session"
                raise Forged(Flaw.CROSS_SITE, detail)
        session.used_s = self._clock.monotonic_s()
        return session

    def close(self, request: Request) -> str:
        """End the session of *request*; return the ``Set-Cookie`` for it. Raises Forged."""
        session = self.find(request)
        del self._sessions[session.session_id]
        return _format_cookie(gather_headers(request)["host"][0], "", 0)

    def csrf(self, session: Session) -> str:
        """The code that changes in *session* have to carry."""
        return self._code("csrf", session.session_id)

    def left_s(self, session: Session) -> float:
        """Seconds until *session* ends if it is not used any more."""
        now_s, ends = self._clock.monotonic_s(), self._lifetimes
        return min(session.opened_s + ends.lifetime_s, session.used_s + ends.idle_s) - now_s

    def _known(self, headers: Mapping[str, Sequence[str]]) -> Session:
        values = _read_cookies(headers)
        session_id, _, code = values[0].partition(".") if len(values) == 1 else ("", "", "")
        known = _equal(code, self._code("session", session_id))
        self._drop_expired()
        session = self._sessions.get(session_id) if known else None
        if session is None:
            raise Forged(Flaw.SESSION, "the session is not known or has ended: sign in again")
        return session

    def _drop_expired(self) -> None:
        now_s = self._clock.monotonic_s()
        self._tokens = {each: end for each, end in self._tokens.items() if end[1] > now_s}
        gone = [each for each, session in self._sessions.items() if self.left_s(session) <= 0]
        for each in gone:
            del self._sessions[each]

    def _code(self, purpose: str, session_id: str) -> str:
        text = f"{purpose}:{session_id}".encode("utf-8", "surrogateescape")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether *host*, as in the header, names this machine to itself."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _check_origin(request: Request, headers: Mapping[str, Sequence[str]]) -> str:
    """See that a page of the host itself made *request*; return the host. Raises Forged."""
    hosts, origins = headers.get("host", []), headers.get("origin", [])
    host = hosts[0].lower() if len(hosts) == 1 else ""
    allowed = [f"https://{host}", *([f"http://{host}"] if is_loopback(host) else [])]
    if not host or len(origins) != 1 or origins[0].lower() not in allowed:
        detail = f"{request.method} needs an Origin header that is {' or '.join(allowed)}"
        raise Forged(Flaw.CROSS_SITE, detail)
    return host


def _format_cookie(host: str, value: str, lifetime_s: int) -> str:
    secure = not is_loopback(host)
    name = _SECURE_COOKIE if secure else _COOKIE
    end = "; Secure" if secure else ""
    return f"{name}={value}; Path=/; Max-Age={lifetime_s}; HttpOnly; SameSite=Strict{end}"


def _read_cookies(headers: Mapping[str, Sequence[str]]) -> list[str]:
    """The values of our cookie, of the form that fits the host."""
    host = next(iter(headers.get("host", ())), "")
    wanted = _COOKIE if is_loopback(host) else _SECURE_COOKIE
    pairs = [part.partition("=") for line in headers.get("cookie", ()) for part in line.split(";")]
    return [value.strip() for name, _, value in pairs if name.strip() == wanted]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(
        one.encode("utf-8", "surrogateescape"), other.encode("utf-8", "surrogateescape")
    )
