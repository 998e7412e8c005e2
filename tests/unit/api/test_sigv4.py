"""Signatures of AWS's own suite, of botocore and of forgers."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.api.canonical_request import (
    Request,
    canonical_paths,
    canonical_queries,
    canonical_requests,
)
from consumer.api.sigv4 import Flaw, Forged, Secret, Verifier
from tests.forged_requests import build_forgeries
from tests.signing import (
    KEY,
    SECRET,
    TEMPORARY,
    TEMPORARY_SECRET,
    TOKEN,
    signed,
    with_authorization,
    with_header,
)

DATA = os.environ.get("FRAUDSTREAM_DATA")
VECTORS = sorted(Path(DATA, "sigv4").rglob("*.sreq")) if DATA else []

KEYS = {KEY: Secret(SECRET), TEMPORARY: Secret(TEMPORARY_SECRET, TOKEN)}
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
    request = signed(key=TEMPORARY, secret=TEMPORARY_SECRET, token=TOKEN)
    assert verify(request) == TEMPORARY


def test_a_hash_of_the_body_may_be_told() -> None:
    body = b"{}"
    told = {"x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
    assert verify(signed(body=body, headers=told)) == KEY


GOOD = signed()
FORGERIES = build_forgeries("api.example.com")


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
    assert "/a%2F%3Ab" in canonical_paths("/a%2f:b")


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


PIECES = ("a", "/", "%2F", "2F", "%25", "%2E", "..", ":", "%3A")
PARTS = ("a", "b", "=", "&", "+", "%2B", "2B", "%25", "%26", "%20")


def differing(
    texts: Iterable[str], forms: Callable[[str], Iterable[str]], read: Callable[[str], object]
) -> list[tuple[str, str]]:
    """Pairs of *texts* with a common form that are read as different things."""
    first: dict[str, str] = {}
    return [
        (first[form], text)
        for text in texts
        for form in forms(text)
        if read(first.setdefault(form, text)) != read(text)
    ]


def joined(pieces: Sequence[str]) -> Iterator[str]:
    """Every text of at most four of *pieces*."""
    for length in range(5):
        yield from map("".join, product(pieces, repeat=length))


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


def test_paths_with_a_common_form_mean_the_same() -> None:
    paths = [f"/{each}" for each in joined(PIECES)]
    assert differing(paths, canonical_paths, read_path) == []


def test_queries_with_a_common_form_mean_the_same() -> None:
    def read(query: str) -> object:
        return sorted(parse_qsl(query, keep_blank_values=True))

    assert differing(joined(PARTS), canonical_queries, read) == []


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_any_bytes_are_refused_without_another_error(
    path: bytes, query: bytes, value: bytes
) -> None:
    told = [each.decode("utf-8", "surrogateescape") for each in (path, query, value)]
    request = replace(GOOD, path="/" + told[0], query=told[1])
    with pytest.raises(Forged):
        verify(with_header(request, "authorization", told[2]))
    extra = with_authorization(request, ";x-amz-date", ";x-amz-date;x-more")
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
