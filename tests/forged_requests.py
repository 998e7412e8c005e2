"""Requests that must not be let in, each with its flaw: of signatures, and of ways around them."""

import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from consumer.api.canonical_request import Request, canonical_requests
from consumer.api.sigv4 import Flaw, signing_key
from tests.signing import (
    EXPIRED,
    GATEWAY_SECRET,
    KEY,
    REGION,
    SECRET,
    SERVICE,
    TEMPORARY,
    TEMPORARY_SECRET,
    TOKEN,
    signed,
    with_authorization,
    with_header,
    without,
)

Forgeries = dict[str, tuple[Request, Flaw]]


def build_forgeries(host: str) -> Forgeries:
    """What has no good signature, sent to *host*."""
    good = signed(url=f"http://{host}/v1/predictions")
    return {
        **_signatures(good),
        **_changes(good),
        **_terms(good, host),
        **_bodies(good, host),
    }


def build_detours(host: str) -> Forgeries:
    """What tries another way than a signature, or uses what a signature leaves open."""
    url = f"http://{host}/v1"
    plain = without(signed("GET", f"{url}/transactions"), "authorization")
    gateway = with_header(plain, "x-fraudstream-gateway", GATEWAY_SECRET)
    arn = "arn:aws:sts::111122223333:assumed-role/checkout/web"
    expired = signed("GET", f"{url}/transactions", b"", key=EXPIRED)
    doubled = signed("GET", f"{url}/transactions", b"")
    return {
        "an expired key": (expired, Flaw.EXPIRED),
        "headers of a gateway, where none is trusted": (
            with_header(gateway, "x-fraudstream-caller", arn),
            Flaw.UNSIGNED,
        ),
        "a made-up session": (
            with_header(plain, "cookie", "fraudstream-session=a.b"),
            Flaw.SESSION,
        ),
        "a path with doubled slashes": (replace(doubled, path="//v1/transactions"), Flaw.MALFORMED),
        "a path with dots": (replace(doubled, path="/v1/x/../transactions"), Flaw.MALFORMED),
        "repeated parameters exchanged": (
            replace(signed("GET", f"{url}/transactions?card=a&card=b", b""), query="card=b&card=a"),
            Flaw.MALFORMED,
        ),
    }


def moment(seconds: float) -> str:
    """The time in so many seconds, as a header says it."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y%m%dT%H%M%SZ")


def sign_at(request: Request, time: str) -> Request:
    """Sign *request* anew, with the good key, at *time*."""
    request = with_header(request, "x-amz-date", time)
    names = ["host", "x-amz-date"]
    (canonical,) = canonical_requests(request, names, hashlib.sha256(request.body).hexdigest())
    scope = f"{time[:8]}/{REGION}/{SERVICE}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}"
    key = signing_key(SECRET, time[:8], REGION, SERVICE)
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    told = f"Credential={KEY}/{scope}, SignedHeaders=host;x-amz-date, Signature={signature}"
    return with_header(request, "authorization", f"AWS4-HMAC-SHA256 {told}")


def _signatures(good: Request) -> Forgeries:
    """Of the Authorization header."""
    (told,) = [value for name, value in good.headers if name == "authorization"]
    signature = told[-64:]
    flipped = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    url = f"http://{dict(good.headers)['host']}/v1/predictions"
    return {
        "no signature": (without(good, "authorization"), Flaw.UNSIGNED),
        "another scheme": (with_header(good, "authorization", "Bearer abc"), Flaw.MALFORMED),
        "an older algorithm": (with_authorization(good, "AWS4-HMAC", "AWS3-HMAC"), Flaw.MALFORMED),
        "a shorter signature": (
            with_authorization(good, signature, signature[:-1]),
            Flaw.MALFORMED,
        ),
        "capital digits": (with_authorization(good, signature, signature.upper()), Flaw.MALFORMED),
        "an empty signature": (with_authorization(good, signature, ""), Flaw.MALFORMED),
        "two signatures": (
            replace(good, headers=[*good.headers, ("authorization", "AWS4-HMAC-SHA256 x")]),
            Flaw.MALFORMED,
        ),
        "one digit changed": (with_authorization(good, signature, flipped), Flaw.UNKNOWN_KEY),
        "a key that nobody has": (with_authorization(good, KEY, "AKIDNOBODY"), Flaw.UNKNOWN_KEY),
        "another one's key": (with_authorization(good, KEY, TEMPORARY), Flaw.UNKNOWN_KEY),
        "another secret": (signed(url=url, secret="guess"), Flaw.UNKNOWN_KEY),
    }


def _changes(good: Request) -> Forgeries:
    """What was changed after signing."""
    return {
        "another method": (replace(good, method="PUT"), Flaw.UNKNOWN_KEY),
        "another path": (replace(good, path="/v1/labels"), Flaw.UNKNOWN_KEY),
        "a longer path": (replace(good, path="/v1/predictions/"), Flaw.UNKNOWN_KEY),
        "another query": (replace(good, query="dry_run=true"), Flaw.UNKNOWN_KEY),
        "another body": (replace(good, body=b'{"transaction_id":"tx_2"}'), Flaw.UNKNOWN_KEY),
        "another host": (with_header(good, "host", "evil.example.com"), Flaw.UNKNOWN_KEY),
        "a second host": (
            replace(good, headers=[*good.headers, ("host", "evil.example.com")]),
            Flaw.MALFORMED,
        ),
        "another time within the window": (
            with_header(good, "x-amz-date", moment(60)),
            Flaw.UNKNOWN_KEY,
        ),
        "no time": (without(good, "x-amz-date"), Flaw.INCOMPLETE),
        "a time that is none": (
            with_header(good, "x-amz-date", "20261332T000000Z"),
            Flaw.WRONG_SCOPE,
        ),
        "signed six minutes ago": (sign_at(good, moment(-360)), Flaw.TOO_OLD),
        "signed for in six minutes": (sign_at(good, moment(360)), Flaw.TOO_OLD),
    }


def _terms(good: Request, host: str) -> Forgeries:
    """What was signed for another place, or not all that matters."""
    url = f"http://{host}/v1/predictions"
    temporary = signed(url=url, key=TEMPORARY, secret=TEMPORARY_SECRET, token=TOKEN)
    return {
        "another region": (signed(url=url, region="us-east-1"), Flaw.WRONG_SCOPE),
        "another service": (signed(url=url, service="s3"), Flaw.WRONG_SCOPE),
        "the host unsigned": (
            with_authorization(good, "SignedHeaders=host;", "SignedHeaders="),
            Flaw.INCOMPLETE,
        ),
        "the time unsigned": (with_authorization(good, ";x-amz-date", ""), Flaw.INCOMPLETE),
        "a signed header that is not there": (
            with_authorization(good, "=host;", "=host;x-amz-a;"),
            Flaw.INCOMPLETE,
        ),
        "headers not sorted": (
            with_authorization(good, "host;x-amz-date", "x-amz-date;host"),
            Flaw.MALFORMED,
        ),
        "a header twice": (with_authorization(good, "host;", "host;host;"), Flaw.MALFORMED),
        "an unsigned header of AWS": (with_header(good, "x-amz-target", "x"), Flaw.INCOMPLETE),
        "a token beside a permanent key": (
            with_header(good, "x-amz-security-token", TOKEN),
            Flaw.INCOMPLETE,
        ),
        "a signed token beside a permanent key": (signed(url=url, token=TOKEN), Flaw.UNKNOWN_KEY),
        "no token beside a temporary key": (
            signed(url=url, key=TEMPORARY, secret=TEMPORARY_SECRET),
            Flaw.UNKNOWN_KEY,
        ),
        "another token": (
            signed(url=url, key=TEMPORARY, secret=TEMPORARY_SECRET, token="stolen"),
            Flaw.UNKNOWN_KEY,
        ),
        "the token exchanged": (
            with_header(temporary, "x-amz-security-token", "x"),
            Flaw.UNKNOWN_KEY,
        ),
    }


def _bodies(good: Request, host: str) -> Forgeries:
    """Of bodies, queries and paths."""
    (told,) = [value for name, value in good.headers if name == "authorization"]
    signature = told[-64:]
    url = f"http://{host}/v1/predictions"
    base = f"http://{host}"
    query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=" + signature
    return {
        "a body that is not signed": (
            signed(url=url, headers={"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}),
            Flaw.PAYLOAD,
        ),
        "a body in signed chunks": (
            signed(url=url, headers={"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}),
            Flaw.PAYLOAD,
        ),
        "the hash of another body": (
            signed(url=url, headers={"x-amz-content-sha256": hashlib.sha256(b"").hexdigest()}),
            Flaw.PAYLOAD,
        ),
        "a signature in the query": (
            replace(without(good, "authorization"), query=query),
            Flaw.MALFORMED,
        ),
        "signatures in header and query": (replace(good, query=query), Flaw.MALFORMED),
        "a signature in the query, disguised": (
            replace(good, query="%58-amz-signature=" + signature),
            Flaw.MALFORMED,
        ),
        "a body said to be compressed": (
            with_header(good, "content-encoding", "gzip"),
            Flaw.INCOMPLETE,
        ),
        "a line break in a header": (with_header(good, "x-more", "a\r\n b"), Flaw.MALFORMED),
        "a line break in the path": (replace(good, path="/v1\nx"), Flaw.MALFORMED),
        "a line break in the method": (replace(good, method="POST\n"), Flaw.MALFORMED),
        "only the date of HTTP": (
            with_header(
                with_authorization(without(good, "x-amz-date"), "host;x-amz-date", "date;host"),
                "date",
                moment(0),
            ),
            Flaw.MALFORMED,
        ),
        "a name of two kilobytes": (
            with_authorization(good, "host;", f"host;{'h' * 2_500};"),
            Flaw.MALFORMED,
        ),
        "a plus for its code": (
            replace(signed("GET", f"{base}/v1/a?b=%2B"), query="b=+"),
            Flaw.UNKNOWN_KEY,
        ),
        "an encoded slash encoded once more": (
            replace(signed("GET", f"{base}/v1/a%2Fb"), path="/v1/a%252Fb"),
            Flaw.UNKNOWN_KEY,
        ),
        "a non-ASCII digit": (
            with_authorization(good, signature, signature[:-1] + "\u0663"),
            Flaw.MALFORMED,
        ),
    }
