"""Signatures of AWS's own suite, of botocore and of forgers."""

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from consumer.api.canonical_request import (
    Request,
    canonical_paths,
    canonical_queries,
    canonical_requests,
)
from consumer.api.sigv4 import Flaw, Forged, Secret, Verifier

DATA = os.environ.get("FRAUDSTREAM_DATA")
VECTORS = sorted(Path(DATA, "sigv4").rglob("*.sreq")) if DATA else []

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
MOMENT = "20260601T120000Z"
KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "AQoDYXdzEPT//////////wEXAMPLE"
KEYS = {KEY: Secret(SECRET), "ASIATEMPORARY": Secret("other", TOKEN)}
VERIFIER = Verifier(KEYS.get, region="eu-central-1", service="execute-api")


def read(path: Path) -> Request:
    """Parse a request as AWS's suite writes it down."""
    head, _, body = path.read_bytes().decode().replace("\r\n", "\n").partition("\n\n")
    first, *lines = head.split("\n")
    method, _, rest = first.partition(" ")
    target = rest.rsplit(" ", 1)[0]
    place, _, query = target.partition("?")
    headers: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith(" "):
            name, value = headers.pop()
            headers.append((name, f"{value} {line.strip()}"))
        else:
            name, _, value = line.partition(":")
            headers.append((name.strip().lower(), value))
    return Request(method, place, query, headers, body.encode())


@pytest.mark.measuring_data
@pytest.mark.skipif(not VECTORS, reason="FRAUDSTREAM_DATA names no folder with sigv4")
@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_the_requests_of_the_published_suite_are_verified(path: Path) -> None:
    # One of the suite's signed requests repeats its token as a signature; this file is right.
    authorization = path.with_suffix(".authz").read_text().strip()
    request = with_header(read(path), "authorization", authorization)
    if any(name == "x-amz-security-token" for name, _ in request.headers):
        token = next(value for name, value in request.headers if name == "x-amz-security-token")
        secret = Secret(SECRET, token.strip())
    else:
        secret = Secret(SECRET)
    verifier = Verifier({KEY: secret}.get, region="us-east-1", service="service")
    now = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
    if "header-after" in path.stem:
        # The token was added after signing, which lets anyone exchange it.
        with pytest.raises(Forged, match="x-amz-security-token is not among SignedHeaders"):
            verifier.verify(request, now)
        return
    assert verifier.verify(request, now) == KEY
    told = path.with_suffix(".creq").read_bytes().decode().replace("\r\n", "\n")
    signed = told.split("\n\n")[-1].split("\n")[0].split(";")
    body_hash = hashlib.sha256(request.body).hexdigest()
    assert told in canonical_requests(request, signed, body_hash)


def signed(  # noqa: PLR0913 - each is one thing to change
    method: str = "POST",
    url: str = "https://api.example.com/v1/predictions",
    body: bytes = b'{"transaction_id":"tx_1"}',
    *,
    key: str = KEY,
    secret: str = SECRET,
    token: str | None = None,
    region: str = "eu-central-1",
    service: str = "execute-api",
    headers: dict[str, str] | None = None,
) -> Request:
    """Sign with botocore at the time of now, which the signer reads by itself."""
    request = AWSRequest(method, url, data=body, headers=headers or {})
    SigV4Auth(Credentials(key, secret, token), service, region).add_auth(request)
    prepared = request.prepare()
    place, _, query = prepared.url.removeprefix("https://api.example.com").partition("?")
    named = [(name.lower(), str(value)) for name, value in request.headers.items()]
    if not any(name == "host" for name, _ in named):
        named.append(("host", "api.example.com"))
    return Request(method, place, query, named, body)


def verify(request: Request, now: datetime | None = None) -> str:
    return VERIFIER.verify(request, now or datetime.now(UTC))


@pytest.mark.parametrize(
    "url",
    [
        "/v1/predictions",
        "/v1/predictions:batch",
        "/v1/transactions/tx%2F1%20a",
        "/v1/transactions?card=c%201&from=2026-06-01T12:00:00Z&sort=-amount&amount=1+2",
        "/v1/entities/card/caf%C3%A9",
        "/",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_botocore_signs_is_verified(method: str, url: str) -> None:
    assert verify(signed(method, f"https://api.example.com{url}")) == KEY


def test_a_temporary_key_comes_with_its_token() -> None:
    request = signed(key="ASIATEMPORARY", secret="other", token=TOKEN)
    assert verify(request) == "ASIATEMPORARY"


def test_a_hash_of_the_body_may_be_told() -> None:
    body = b"{}"
    told = {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
    assert verify(signed(body=body, headers=told)) == KEY


def without(request: Request, name: str) -> Request:
    return replace(request, headers=[each for each in request.headers if each[0] != name])


def with_header(request: Request, name: str, value: str) -> Request:
    return replace(request, headers=[*without(request, name).headers, (name, value)])


def authorization(request: Request, old: str, new: str) -> Request:
    (value,) = [value for name, value in request.headers if name == "authorization"]
    assert old in value
    return with_header(request, "authorization", value.replace(old, new))


GOOD = signed()
TEMPORARY = signed(key="ASIATEMPORARY", secret="other", token=TOKEN)
(SIGNATURE,) = [value[-64:] for name, value in GOOD.headers if name == "authorization"]
FLIPPED = SIGNATURE[:-1] + ("0" if SIGNATURE[-1] != "0" else "1")
QUERY = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=" + SIGNATURE

FORGERIES: dict[str, tuple[Request, Flaw]] = {
    "no signature": (without(GOOD, "authorization"), Flaw.UNSIGNED),
    "another scheme": (with_header(GOOD, "authorization", "Bearer abc"), Flaw.MALFORMED),
    "an older algorithm": (authorization(GOOD, "AWS4-HMAC", "AWS3-HMAC"), Flaw.MALFORMED),
    "a shorter signature": (authorization(GOOD, SIGNATURE, SIGNATURE[:-1]), Flaw.MALFORMED),
    "capital digits": (authorization(GOOD, SIGNATURE, SIGNATURE.upper()), Flaw.MALFORMED),
    "an empty signature": (authorization(GOOD, SIGNATURE, ""), Flaw.MALFORMED),
    "two signatures": (
        replace(GOOD, headers=[*GOOD.headers, ("authorization", "AWS4-HMAC-SHA256 x")]),
        Flaw.MALFORMED,
    ),
    "one digit changed": (authorization(GOOD, SIGNATURE, FLIPPED), Flaw.UNKNOWN_KEY),
    "a key that nobody has": (authorization(GOOD, KEY, "AKIDNOBODY"), Flaw.UNKNOWN_KEY),
    "another one's key": (authorization(GOOD, KEY, "ASIATEMPORARY"), Flaw.UNKNOWN_KEY),
    "another secret": (signed(secret="guess"), Flaw.UNKNOWN_KEY),
    "another method": (replace(GOOD, method="PUT"), Flaw.UNKNOWN_KEY),
    "another path": (replace(GOOD, path="/v1/labels"), Flaw.UNKNOWN_KEY),
    "a longer path": (replace(GOOD, path="/v1/predictions/"), Flaw.UNKNOWN_KEY),
    "another query": (replace(GOOD, query="dry_run=true"), Flaw.UNKNOWN_KEY),
    "another body": (replace(GOOD, body=b'{"transaction_id":"tx_2"}'), Flaw.UNKNOWN_KEY),
    "another host": (with_header(GOOD, "host", "evil.example.com"), Flaw.UNKNOWN_KEY),
    "a second host": (
        replace(GOOD, headers=[*GOOD.headers, ("host", "evil.example.com")]),
        Flaw.MALFORMED,
    ),
    "another time within the window": (
        with_header(
            GOOD,
            "x-amz-date",
            (datetime.now(UTC) + timedelta(seconds=60)).strftime("%Y%m%dT%H%M%SZ"),
        ),
        Flaw.UNKNOWN_KEY,
    ),
    "no time": (without(GOOD, "x-amz-date"), Flaw.INCOMPLETE),
    "a time that is none": (with_header(GOOD, "x-amz-date", "20261332T000000Z"), Flaw.WRONG_SCOPE),
    "another region": (signed(region="us-east-1"), Flaw.WRONG_SCOPE),
    "another service": (signed(service="s3"), Flaw.WRONG_SCOPE),
    "the host unsigned": (
        authorization(GOOD, "SignedHeaders=host;", "SignedHeaders="),
        Flaw.INCOMPLETE,
    ),
    "the time unsigned": (authorization(GOOD, ";x-amz-date", ""), Flaw.INCOMPLETE),
    "a signed header that is not there": (
        authorization(GOOD, "=host;", "=host;x-amz-a;"),
        Flaw.INCOMPLETE,
    ),
    "headers not sorted": (
        authorization(GOOD, "host;x-amz-date", "x-amz-date;host"),
        Flaw.MALFORMED,
    ),
    "a header twice": (authorization(GOOD, "host;", "host;host;"), Flaw.MALFORMED),
    "an unsigned header of AWS": (with_header(GOOD, "x-amz-target", "x"), Flaw.INCOMPLETE),
    "a token beside a permanent key": (
        with_header(GOOD, "x-amz-security-token", TOKEN),
        Flaw.INCOMPLETE,
    ),
    "a signed token beside a permanent key": (signed(token=TOKEN), Flaw.UNKNOWN_KEY),
    "no token beside a temporary key": (
        signed(key="ASIATEMPORARY", secret="other"),
        Flaw.UNKNOWN_KEY,
    ),
    "another token": (
        signed(key="ASIATEMPORARY", secret="other", token="stolen"),
        Flaw.UNKNOWN_KEY,
    ),
    "the token exchanged": (with_header(TEMPORARY, "x-amz-security-token", "x"), Flaw.UNKNOWN_KEY),
    "a body that is not signed": (
        signed(headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}),
        Flaw.PAYLOAD,
    ),
    "a body in signed chunks": (
        signed(headers={"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}),
        Flaw.PAYLOAD,
    ),
    "the hash of another body": (
        signed(headers={"x-amz-content-sha256": hashlib.sha256(b"").hexdigest()}),
        Flaw.PAYLOAD,
    ),
    "a signature in the query": (
        replace(without(GOOD, "authorization"), query=QUERY),
        Flaw.MALFORMED,
    ),
    "signatures in header and query": (replace(GOOD, query=QUERY), Flaw.MALFORMED),
    "a signature in the query, disguised": (
        replace(GOOD, query="%58-amz-signature=" + SIGNATURE),
        Flaw.MALFORMED,
    ),
    "a body said to be compressed": (
        with_header(GOOD, "content-encoding", "gzip"),
        Flaw.INCOMPLETE,
    ),
    "a line break in a header": (with_header(GOOD, "x-more", "a\r\n b"), Flaw.MALFORMED),
    "a line break in the path": (replace(GOOD, path="/v1\nx"), Flaw.MALFORMED),
    "a line break in the method": (replace(GOOD, method="POST\n"), Flaw.MALFORMED),
    "only the date of HTTP": (
        with_header(
            authorization(without(GOOD, "x-amz-date"), "host;x-amz-date", "date;host"),
            "date",
            MOMENT,
        ),
        Flaw.MALFORMED,
    ),
    "a name of two kilobytes": (
        authorization(GOOD, "host;", f"host;{'h' * 2_500};"),
        Flaw.MALFORMED,
    ),
    "a plus for its code": (
        replace(signed("GET", "https://api.example.com/v1/a?b=%2B"), query="b=+"),
        Flaw.UNKNOWN_KEY,
    ),
    "an encoded slash encoded once more": (
        replace(signed("GET", "https://api.example.com/v1/a%2Fb"), path="/v1/a%252Fb"),
        Flaw.UNKNOWN_KEY,
    ),
    "a non-ASCII digit": (
        authorization(GOOD, SIGNATURE, SIGNATURE[:-1] + "\u0663"),
        Flaw.MALFORMED,
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_request_is_not_let_in(name: str) -> None:
    request, flaw = FORGERIES[name]
    with pytest.raises(Forged) as caught:
        verify(request)
    assert caught.value.flaw is flaw
    for _, value in request.headers:
        assert SECRET not in caught.value.detail
        assert len(value) < 65 or value not in caught.value.detail


@pytest.mark.parametrize("seconds", [-302, 302, 86_400, -86_400])
def test_outside_five_minutes_nothing_is_let_in(seconds: int) -> None:
    with pytest.raises(Forged, match="expected at most 300 s between") as caught:
        verify(signed(), datetime.now(UTC) + timedelta(seconds=seconds))
    assert caught.value.flaw is Flaw.TOO_OLD


@pytest.mark.parametrize("seconds", [-290, 290])
def test_within_five_minutes_clocks_may_differ(seconds: int) -> None:
    assert verify(signed(), datetime.now(UTC) + timedelta(seconds=seconds)) == KEY


def test_the_form_of_the_path_that_curl_signs_is_taken() -> None:
    assert canonical_paths("/v1/predictions:batch") == (
        "/v1/predictions%3Abatch",
        "/v1/predictions:batch",
    )
    assert "/a%252Fb" in canonical_paths("/a%2Fb")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/a%2Fb", "/a%252Fb"),
        ("/a%2Fb", "/a/b"),
        ("/a", "/b%2F..%2Fa"),
        ("/a", "/%2E/a"),
        ("/a%20b", "/a%2520b"),
        ("/a%25b", "/a%2525b"),
    ],
)
def test_no_form_of_a_path_is_one_of_another_path(one: str, other: str) -> None:
    assert set(canonical_paths(one)).isdisjoint(canonical_paths(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("a=1%2B2", "a=1+2"), ("a=%2541", "a=%41"), ("a=1%26b=2", "a=1&b=2"), ("a%3D1=", "a=1")],
)
def test_no_form_of_a_query_is_one_of_another_query(one: str, other: str) -> None:
    assert set(canonical_queries(one)).isdisjoint(canonical_queries(other))


PIECES = st.sampled_from(["a", "b", "/", "%2F", "%25", "%2E", ".", "..", ":", "%3A", "%41", "é"])
PARTS = st.sampled_from(["a", "b", "=", "&", "+", "%2B", "%20", "%25", "%26", "%3D", "%41", ":"])


def read_path(path: str) -> tuple[str, ...]:
    """The segments that a server reads, once those that mean nothing are gone."""
    told = path.split("/")
    segments: list[str] = []
    for each in told:
        if each == "..":
            segments = segments[:-1]
        elif each not in ("", "."):
            segments.append(unquote(each))
    return (*segments, "") if segments and told[-1] == "" else tuple(segments)


@given(st.lists(PIECES, max_size=7), st.lists(PIECES, max_size=7))
def test_paths_with_a_common_form_mean_the_same(one: list[str], other: list[str]) -> None:
    first, second = "/" + "".join(one), "/" + "".join(other)
    if not set(canonical_paths(first)).isdisjoint(canonical_paths(second)):
        assert read_path(first) == read_path(second)


@given(st.lists(PARTS, max_size=8), st.lists(PARTS, max_size=8))
def test_queries_with_a_common_form_mean_the_same(one: list[str], other: list[str]) -> None:
    first, second = "".join(one), "".join(other)
    if not set(canonical_queries(first)).isdisjoint(canonical_queries(second)):
        read = [sorted(parse_qsl(each, keep_blank_values=True)) for each in (first, second)]
        assert read[0] == read[1]


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_are_refused_without_another_error(
    path: bytes, query: bytes, value: bytes
) -> None:
    told = [each.decode("utf-8", "surrogateescape") for each in (path, query, value)]
    request = replace(GOOD, path="/" + told[0], query=told[1])
    with pytest.raises(Forged):
        verify(with_header(request, "authorization", told[2]))
    extra = authorization(request, ";x-amz-date", ";x-amz-date;x-more")
    with pytest.raises(Forged):
        verify(with_header(extra, "x-more", told[2]))


def test_a_query_that_is_not_sorted_is_taken_as_curl_signs_it() -> None:
    assert "sort=-amount&card=c%201" in canonical_queries("sort=-amount&card=c%201")


def test_bytes_that_are_no_utf_8_are_signed_as_they_are() -> None:
    value = b"caf\xe9".decode("utf-8", "surrogateescape")
    request = with_header(GOOD, "x-name", value)
    (text,) = canonical_requests(request, ["x-name"], "")
    assert b"\nx-name:caf\xe9\n" in text.encode("utf-8", "surrogateescape")


def test_many_headers_are_gathered_once() -> None:
    names = [f"x-{number:04}" for number in range(300)]
    request = replace(GOOD, headers=[(name, "1") for name in names * 10])
    (text,) = canonical_requests(request, names, "")
    assert text.count("1,1,1,1,1,1,1,1,1,1\n") == 300


def test_a_header_that_cloudfront_adds_need_not_be_signed() -> None:
    assert verify(with_header(signed(), "x-amz-cf-id", "x")) == KEY


@pytest.mark.parametrize(
    ("host", "good"), [("API.example.com", True), ("other.example.com", False)]
)
def test_where_hosts_are_named_no_other_is_taken(host: str, good: bool) -> None:  # noqa: FBT001
    verifier = Verifier(KEYS.get, region="eu-central-1", service="execute-api", hosts=[host])
    if good:
        assert verifier.verify(signed(), datetime.now(UTC)) == KEY
        return
    with pytest.raises(Forged, match=r"expected other\.example\.com") as caught:
        verifier.verify(signed(), datetime.now(UTC))
    assert caught.value.flaw is Flaw.WRONG_HOST


def test_a_refusal_knows_which_key_was_claimed() -> None:
    for request in (signed(secret="guess"), signed(region="us-east-1")):
        with pytest.raises(Forged) as caught:
            verify(request)
        assert caught.value.key_id == KEY


def test_secrets_do_not_show() -> None:
    assert SECRET not in repr(Secret(SECRET, TOKEN))


def test_keys_of_yesterday_are_forgotten() -> None:
    verifier = Verifier(KEYS.get, region="eu-central-1", service="execute-api")
    for days in (0, 1, 2):
        with pytest.raises(Forged):
            verifier.verify(GOOD, datetime.now(UTC) + timedelta(days=days, seconds=400))
    verifier.verify(signed(), datetime.now(UTC))
    assert len(verifier._signing_keys) == 1
