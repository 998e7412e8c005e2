"""Sessions of the page: tokens that are good once, cookies, expiry, and other sites' pages."""

from dataclasses import replace

import pytest

from consumer.api.canonical_request import Request
from consumer.api.sessions import Lifetimes, Opened, Sessions, is_loopback
from consumer.api.sigv4 import Flaw, Forged
from tests.fakes.clock import FakeClock
from tests.signing import with_header, without

HOST = "127.0.0.1:8080"
PUBLIC = "fraud.example.com"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sessions(clock: FakeClock) -> Sessions:
    return Sessions(Lifetimes(idle_s=600, lifetime_s=3_600, token_s=300), clock)


def sign_in(host: str = HOST, origin: str | None = None) -> Request:
    scheme = "http" if is_loopback(host) else "https"
    headers = [("host", host), ("origin", origin or f"{scheme}://{host}")]
    return Request("POST", "/v1/session", "", headers)


def with_cookie(opened: Opened, method: str = "GET", host: str = HOST) -> Request:
    cookie = opened.cookie.partition(";")[0]
    scheme = "http" if is_loopback(host) else "https"
    headers = [
        ("host", host),
        ("cookie", f"theme=dark; {cookie}"),
        ("sec-fetch-site", "same-origin"),
    ]
    if method != "GET":
        headers += [("origin", f"{scheme}://{host}"), ("x-fraudstream-csrf", opened.csrf)]
    return Request(method, "/v1/labels", "", headers)


def refused(sessions: Sessions, request: Request) -> Flaw:
    with pytest.raises(Forged) as caught:
        sessions.find(request)
    return caught.value.flaw


def test_a_token_signs_in_once(sessions: Sessions) -> None:
    token = sessions.issue_token("analyst")
    opened = sessions.open(sign_in(), token)
    assert sessions.find(with_cookie(opened)).name == "analyst"
    for again in (token, "", "x" * 43):
        with pytest.raises(Forged, match="not known, was used, or is too old"):
            sessions.open(sign_in(), again)


def test_a_token_ends_unused(sessions: Sessions, clock: FakeClock) -> None:
    token = sessions.issue_token()
    clock.sleep(301)
    with pytest.raises(Forged):
        sessions.open(sign_in(), token)


@pytest.mark.parametrize(
    ("host", "name", "secure"),
    [
        (HOST, "fraudstream-session", False),
        ("localhost", "fraudstream-session", False),
        ("[::1]:8080", "fraudstream-session", False),
        (PUBLIC, "__Host-fraudstream-session", True),
        ("127.0.0.1.example.com", "__Host-fraudstream-session", True),
    ],
)
def test_the_cookie_is_for_this_host_and_no_script(
    sessions: Sessions, host: str, name: str, *, secure: bool
) -> None:
    opened = sessions.open(sign_in(host), sessions.issue_token())
    assert opened.cookie.startswith(f"{name}=")
    parts = opened.cookie.split("; ")
    assert {"Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=3600"} <= set(parts)
    assert ("Secure" in parts) is secure
    assert "Domain" not in opened.cookie
    assert sessions.find(with_cookie(opened, "POST", host)).name == "page"


def test_a_session_ends_unused(sessions: Sessions, clock: FakeClock) -> None:
    opened = sessions.open(sign_in(), sessions.issue_token())
    for _ in range(3):
        clock.sleep(590)
        assert sessions.left_s(sessions.find(with_cookie(opened))) == pytest.approx(600)
    clock.sleep(601)
    assert refused(sessions, with_cookie(opened)) is Flaw.SESSION


def test_a_session_ends_in_any_case(sessions: Sessions, clock: FakeClock) -> None:
    opened = sessions.open(sign_in(), sessions.issue_token())
    for _ in range(8):
        clock.sleep(440)
        sessions.find(with_cookie(opened))
    clock.sleep(81)
    assert refused(sessions, with_cookie(opened)) is Flaw.SESSION


def test_signing_out_ends_the_session_here(sessions: Sessions) -> None:
    opened = sessions.open(sign_in(), sessions.issue_token())
    forgetting = sessions.close(with_cookie(opened, "DELETE"))
    assert forgetting.startswith("fraudstream-session=; Path=/; Max-Age=0;")
    assert refused(sessions, with_cookie(opened)) is Flaw.SESSION


def test_a_cookie_that_was_not_given_out_is_refused(sessions: Sessions, clock: FakeClock) -> None:
    opened = sessions.open(sign_in(), sessions.issue_token())
    good = with_cookie(opened)
    value = opened.cookie.partition(";")[0]
    other = Sessions(Lifetimes(600, 3_600, 300), clock)
    elsewhere = other.open(sign_in(), other.issue_token())
    forged = [
        value[:-1] + ("0" if value[-1] != "0" else "1"),
        value.partition(".")[0],
        value.partition("=")[0] + "=",
        "fraudstream-session=\udcff.x",
        f"{value}; {value}",
        elsewhere.cookie.partition(";")[0],
    ]
    for each in forged:
        assert refused(sessions, with_header(good, "cookie", each)) is Flaw.SESSION


def test_what_changes_something_needs_the_code_and_the_origin(sessions: Sessions) -> None:
    opened = sessions.open(sign_in(), sessions.issue_token())
    other = sessions.open(sign_in(), sessions.issue_token())
    good = with_cookie(opened, "POST")
    assert sessions.find(good).name == "page"
    forged = [
        without(good, "x-fraudstream-csrf"),
        with_header(good, "x-fraudstream-csrf", other.csrf),
        replace(good, headers=[*good.headers, ("x-fraudstream-csrf", opened.csrf)]),
        without(good, "origin"),
        with_header(good, "origin", "null"),
        with_header(good, "origin", "http://127.0.0.1:8081"),
        with_header(good, "origin", f"http://{HOST}.example.com"),
        with_header(good, "origin", "https://evil.example.com"),
        with_header(good, "sec-fetch-site", "cross-site"),
        with_header(good, "sec-fetch-site", "same-site"),
        with_header(replace(good, method="GET"), "sec-fetch-site", "cross-site"),
    ]
    for request in forged:
        assert refused(sessions, request) is Flaw.CROSS_SITE


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (HOST, "https://evil.example.com"),
        (HOST, "null"),
        (PUBLIC, f"http://{PUBLIC}"),
        ("127.0.0.1.example.com", "http://127.0.0.1.example.com"),
    ],
)
def test_another_sites_page_signs_nobody_in(sessions: Sessions, host: str, origin: str) -> None:
    token = sessions.issue_token()
    with pytest.raises(Forged) as caught:
        sessions.open(sign_in(host, origin), token)
    assert caught.value.flaw is Flaw.CROSS_SITE


def test_a_session_of_this_machine_is_none_under_another_name(sessions: Sessions) -> None:
    opened = sessions.open(sign_in(), sessions.issue_token())
    assert refused(sessions, with_header(with_cookie(opened), "host", PUBLIC)) is Flaw.SESSION
