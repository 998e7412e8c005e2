"""Requests signed as AWS's own client library does, and a list of access that knows their keys."""

from dataclasses import replace

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from consumer.api.canonical_request import Request

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TEMPORARY, TEMPORARY_SECRET = "ASIATEMPORARY", "zu9bMtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY0001"
TOKEN = "AQoDYXdzEPT//////////wEXAMPLE"
EXPIRED = "AKIDEXPIRED"
ADMIN = "AKIDADMIN"
REGION, SERVICE = "eu-central-1", "execute-api"
GATEWAY_SECRET = "wg5C0T9q2uJxkqRrYk8Zl3m7Vn1Xo6Pb"

ACCESS = f"""\
keys:
  - access_key_id: {KEY}
    secret_access_key: {SECRET}
    name: checkout
    scopes: [predict, read]
  - access_key_id: {TEMPORARY}
    secret_access_key: {TEMPORARY_SECRET}
    session_token: {TOKEN}
    name: nightly
    scopes: [read]
  - access_key_id: {EXPIRED}
    secret_access_key: {SECRET}
    name: former
    scopes: [predict]
    expires: 2026-01-31T00:00:00Z
  - access_key_id: {ADMIN}
    secret_access_key: {SECRET}
    name: operations
    scopes: [admin]
callers:
  - arn: arn:aws:sts::111122223333:assumed-role/checkout/*
    name: checkout
    scopes: [predict]
gateway_secrets:
  - {GATEWAY_SECRET}
"""
"""A list of access as an operator writes it; checkout may predict and read."""


def sign(  # noqa: PLR0913 - each is one thing to sign otherwise
    method: str,
    url: str,
    body: bytes = b"",
    *,
    key: str = KEY,
    secret: str = SECRET,
    token: str | None = None,
    region: str = REGION,
    service: str = SERVICE,
    headers: dict[str, str] | None = None,
) -> dict[str, str]:
    """Sign with botocore at the present time; return the headers to send, host included."""
    request = AWSRequest(method, url, data=body, headers=headers or {})
    SigV4Auth(Credentials(key, secret, token), service, region).add_auth(request)
    host = url.split("/")[2]
    return {**{name: str(value) for name, value in request.headers.items()}, "Host": host}


def signed(  # noqa: PLR0913 - as above
    method: str = "POST",
    url: str = "https://api.example.com/v1/predictions",
    body: bytes = b'{"transaction_id":"tx_1"}',
    *,
    key: str = KEY,
    secret: str = SECRET,
    token: str | None = None,
    region: str = REGION,
    service: str = SERVICE,
    headers: dict[str, str] | None = None,
) -> Request:
    """The same as a request that came over the wire."""
    found = sign(
        method,
        url,
        body,
        key=key,
        secret=secret,
        token=token,
        region=region,
        service=service,
        headers=headers,
    )
    place, _, query = url.split("/", 3)[3].partition("?")
    named = [(name.lower(), value) for name, value in found.items()]
    return Request(method, f"/{place}", query, named, body)


def without(request: Request, name: str) -> Request:
    return replace(request, headers=[each for each in request.headers if each[0] != name])


def with_header(request: Request, name: str, value: str) -> Request:
    return replace(request, headers=[*without(request, name).headers, (name, value)])


def with_authorization(request: Request, old: str, new: str) -> Request:
    """*request* with another Authorization header, in which *old* was."""
    (value,) = [value for name, value in request.headers if name == "authorization"]
    assert old in value
    return with_header(request, "authorization", value.replace(old, new))
