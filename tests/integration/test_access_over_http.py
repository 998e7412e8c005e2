"""Authentication over real HTTP: clients that sign, forgers, sessions and bodies."""

import gzip
import hashlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from consumer.adapters.private_file import PrivateFile
from consumer.api.access_list import parse_access
from consumer.api.canonical_request import Request
from consumer.metrics import API_NOT_LET_IN
from consumer.settings import ApiAuth
from tests.access_server import MAX_BODY_BYTES, AccessServer, Answer, serve
from tests.forged_answers import BEGIN, END, PAGE, render_table
from tests.forged_requests import build_detours, build_forgeries, moment, sign_at
from tests.signing import (
    ADMIN,
    GATEWAY_SECRET,
    KEY,
    REGION,
    SECRET,
    TEMPORARY,
    TEMPORARY_SECRET,
    TOKEN,
    sign,
    signed,
    with_header,
    without,
)

BODY = b'{"transaction_id":"tx_1"}'
FORGED = [*build_forgeries("h"), *build_detours("h")]
# Never handed on by the HTTP server, which answers by itself.
NO_HTTP = {"a line break in a header", "a line break in the path", "a line break in the method"}
ARN = "arn:aws:sts::111122223333:assumed-role/checkout/web"


@pytest.fixture(scope="module")
def server() -> Iterator[AccessServer]:
    with serve() as running:
        yield running


@pytest.fixture(scope="module")
def gateway() -> Iterator[AccessServer]:
    with serve(auth=ApiAuth(kind="gateway")) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/v1/predictions"),
        ("POST", "/v1/predictions:batch"),
        ("GET", "/v1/transactions?sort=-amount&card=c%201&from=2026-06-01T12:00:00Z"),
        ("GET", "/v1/transactions/tx%2F1%20a"),
        ("GET", "/v1/entities/card/caf%C3%A9?a"),
        ("DELETE", "/"),
    ],
)
def test_a_request_that_botocore_signs_is_let_in(
    server: AccessServer, method: str, target: str
) -> None:
    body = BODY if method == "POST" else b""
    headers = sign(method, f"http://{server.host}{target}", body, headers={"X-A": "  b   c "})
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    line.request(method, target, body, headers)
    answer = line.getresponse()
    told = answer.read()
    line.close()
    assert (answer.status, b'"via":"sigv4"' in told) == (200, True), told
    assert hashlib.sha256(body).hexdigest().encode() in told


CURL = shutil.which("curl")


def curl(server: AccessServer, target: str, *more: str, user: str = f"{KEY}:{SECRET}") -> Answer:
    """Ask with curl, which signs."""
    if CURL is None:
        pytest.skip("no curl")
    signing = ["--user", user, "--aws-sigv4", f"aws:amz:{REGION}:execute-api"]
    command = [CURL, "-sS", "-w", "%{stderr}%{http_code}", *signing, *more]
    command.append(f"http://{server.host}{target}")
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    return Answer(int(done.stderr), {}, done.stdout)


@pytest.mark.parametrize(
    "target",
    [
        "/v1/transactions",
        "/v1/predictions:batch",
        "/v1/transactions?sort=-amount&card=c%201&b=a%2Bb",
        "/v1/transactions/tx%2F1%20a",
        "/v1/transactions?card=caf%C3%A9",
    ],
)
def test_a_request_that_curl_signs_is_let_in(server: AccessServer, target: str) -> None:
    answer = curl(server, target)
    assert (answer.status, answer.fields["name"]) == (200, "checkout"), answer.body


def test_curl_posts_a_body(server: AccessServer) -> None:
    json = ("-H", "Content-Type: application/json", "-d", BODY.decode())
    assert curl(server, "/v1/predictions", *json).fields["body"] == hashlib.sha256(BODY).hexdigest()


def test_curl_brings_the_token_of_a_temporary_key(server: AccessServer) -> None:
    user = f"{TEMPORARY}:{TEMPORARY_SECRET}"
    more = ("-H", f"x-amz-security-token: {TOKEN}")
    assert curl(server, "/v1/transactions", *more, user=user).fields["name"] == "nightly"
    assert curl(server, "/v1/transactions", user=user).status == 401


def test_curl_with_another_secret_is_not_let_in(server: AccessServer) -> None:
    assert curl(server, "/v1/transactions", user=f"{KEY}:{SECRET[:-1]}").status == 401


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_request_is_not_let_in(server: AccessServer, name: str) -> None:
    forged = {**build_forgeries(server.host), **build_detours(server.host)}
    request, flaw = forged[name]
    before = server.registry.get_sample_value(API_NOT_LET_IN, {"flaw": flaw.value}) or 0
    answer = server.send(request)
    if name in NO_HTTP:
        assert answer.status == 400
        return
    assert answer.status == 401
    assert answer.headers["www-authenticate"].startswith("AWS4-HMAC-SHA256 ")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.fields["type"] == "urn:fraudstream:problem:unauthenticated"
    assert server.registry.get_sample_value(API_NOT_LET_IN, {"flaw": flaw.value}) == before + 1
    for _, value in request.headers:
        assert SECRET not in answer.body.decode()
        assert len(value) < 65 or value not in answer.body.decode()


def test_the_page_shows_the_answers_that_forged_requests_get(server: AccessServer) -> None:
    """After a change: python -m tests.forged_answers."""
    _, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    assert rest.partition(END)[0] == render_table(server)


def test_what_is_signed_now_is_let_in_as_the_forgers_sign(server: AccessServer) -> None:
    request = sign_at(signed(url=f"http://{server.host}/v1/predictions"), moment(0))
    assert server.send(request).status == 200


def test_who_lacks_a_scope_is_told_which(server: AccessServer) -> None:
    answer = server.send(signed("POST", f"http://{server.host}/v1/labels", BODY))
    assert (answer.status, answer.fields["detail"]) == (403, "checkout lacks the scope label")
    assert answer.fields["type"] == "urn:fraudstream:problem:forbidden"


def test_open_paths_need_nobody(server: AccessServer) -> None:
    request = Request("GET", "/open", "", [("host", server.host)])
    assert server.send(request).status == 200


def test_a_compressed_body_is_signed_as_it_is_sent(server: AccessServer) -> None:
    packed = gzip.compress(BODY)
    url = f"http://{server.host}/v1/predictions"
    request = signed("POST", url, packed, headers={"Content-Encoding": "gzip"})
    assert server.send(request).fields["body"] == hashlib.sha256(packed).hexdigest()


def test_a_body_beyond_the_limit_is_not_read(server: AccessServer) -> None:
    request = signed("POST", f"http://{server.host}/v1/predictions", b"x")
    lines = [f"{name}: {value}" for name, value in request.headers]
    length = f"content-length: {MAX_BODY_BYTES + 1}"
    head = "\r\n".join(["POST /v1/predictions HTTP/1.1", *lines, length, "", ""])
    with socket.create_connection(("127.0.0.1", server.port), 30) as line:
        line.sendall(head.encode())
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_of_just_the_limit_is_hashed(server: AccessServer) -> None:
    body = b"x" * MAX_BODY_BYTES
    request = signed("POST", f"http://{server.host}/v1/predictions", body)
    assert server.send(request).status == 200
    assert server.send(replace(request, body=body[:-1] + b"y")).status == 401


def test_a_body_in_pieces_is_limited_as_it_comes(server: AccessServer) -> None:
    request = signed("POST", f"http://{server.host}/v1/predictions", b"")
    lines = [f"{name}: {value}" for name, value in request.headers]
    head = ["POST /v1/predictions HTTP/1.1", *lines, "transfer-encoding: chunked", "", ""]
    with socket.create_connection(("127.0.0.1", server.port), 30) as line:
        line.sendall("\r\n".join(head).encode())
        # Not more than it has to read before it knows: a close would lose the answer else.
        for size in (MAX_BODY_BYTES // 2, MAX_BODY_BYTES // 2, 1):
            line.sendall(b"%x\r\n%s\r\n" % (size, b"x" * size))
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_an_unsigned_request_is_answered_before_its_body_is_there(server: AccessServer) -> None:
    head = f"POST /v1/predictions HTTP/1.1\r\nhost: {server.host}\r\ncontent-length: 90000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 30) as line:
        line.sendall(head.encode())
        assert line.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    with serve(timeout_s=0.2) as server:
        request = signed("POST", f"http://{server.host}/v1/predictions", BODY)
        lines = [f"{name}: {value}" for name, value in request.headers]
        head = "\r\n".join(["POST /v1/predictions HTTP/1.1", *lines, "content-length: 25", "", ""])
        with socket.create_connection(("127.0.0.1", server.port), 30) as line:
            line.sendall(head.encode())
            assert line.recv(100).startswith(b"HTTP/1.1 408 ")


def through_gateway(server: AccessServer, secret: str = GATEWAY_SECRET, arn: str = ARN) -> Request:
    headers = [
        ("host", server.host),
        ("x-fraudstream-gateway", secret),
        ("x-fraudstream-caller", arn),
    ]
    return Request("POST", "/v1/predictions", "", headers, BODY)


def test_behind_a_gateway_its_word_is_taken(gateway: AccessServer) -> None:
    answer = gateway.send(through_gateway(gateway))
    assert (answer.fields["name"], answer.fields["via"]) == ("checkout", "gateway")
    assert answer.fields["scopes"] == ["predict"]


def test_behind_a_gateway_nothing_else_is_believed(gateway: AccessServer) -> None:
    good = through_gateway(gateway)
    secret = ("x-fraudstream-gateway", GATEWAY_SECRET)
    caller = ("x-fraudstream-caller", ARN)
    forged = [
        through_gateway(gateway, secret=GATEWAY_SECRET[:-1]),
        through_gateway(gateway, secret=""),
        without(good, "x-fraudstream-gateway"),
        without(good, "x-fraudstream-caller"),
        replace(good, headers=[*good.headers, secret]),
        replace(good, headers=[*good.headers, caller]),
        through_gateway(gateway, arn="arn:aws:sts::111122223333:assumed-role/other/web"),
        through_gateway(gateway, arn="arn:aws:sts::999922223333:assumed-role/checkout/web"),
        through_gateway(gateway, arn=f"{ARN}/more"),
        signed(url=f"http://{gateway.host}/v1/predictions"),
    ]
    for request in forged:
        answer = gateway.send(request)
        assert answer.status == 401, request
        assert GATEWAY_SECRET not in answer.body.decode()


def test_a_signature_stands_with_headers_of_a_gateway_that_say_nothing(
    server: AccessServer,
) -> None:
    request = signed(url=f"http://{server.host}/v1/predictions")
    claimed = with_header(request, "x-fraudstream-gateway", GATEWAY_SECRET)
    answer = server.send(with_header(claimed, "x-fraudstream-caller", ARN))
    assert answer.fields["via"] == "sigv4"


def ask(server: AccessServer, method: str, path: str, *headers: tuple[str, str]) -> Answer:
    return server.send(Request(method, path, "", [("host", server.host), *headers]))


def sign_in(server: AccessServer, token: str) -> Answer:
    headers = [
        ("host", server.host),
        ("origin", f"http://{server.host}"),
        ("content-type", "application/json"),
    ]
    body = b'{"token": "%s"}' % token.encode()
    return server.send(Request("POST", "/v1/session", "", headers, body))


def test_a_page_signs_in_reads_labels_and_signs_out(server: AccessServer) -> None:
    token = server.access.sessions.issue_token("analyst")
    opened = sign_in(server, token)
    assert (opened.status, opened.fields["name"]) == (200, "analyst")
    assert opened.headers["cache-control"] == "no-store"
    cookie = ("cookie", opened.headers["set-cookie"].partition(";")[0])
    code = ("x-fraudstream-csrf", str(opened.fields["csrf"]))
    origin = ("origin", f"http://{server.host}")
    assert ask(server, "GET", "/v1/session", cookie).fields == opened.fields
    assert ask(server, "GET", "/v1/transactions", cookie).fields["via"] == "session"
    assert ask(server, "POST", "/v1/labels", cookie, code, origin).status == 200
    assert ask(server, "POST", "/v1/labels", cookie, origin).status == 401
    assert ask(server, "POST", "/v1/labels", cookie, code).status == 401
    assert (
        ask(server, "GET", "/v1/admin", cookie).fields["detail"] == "analyst lacks the scope admin"
    )
    ended = ask(server, "DELETE", "/v1/session", cookie, code, origin)
    assert (ended.status, ended.body) == (204, b"")
    assert ask(server, "GET", "/v1/transactions", cookie).status == 401
    assert sign_in(server, token).status == 401


def test_a_signature_beside_a_session_stands_alone(server: AccessServer) -> None:
    opened = sign_in(server, server.access.sessions.issue_token())
    cookie = opened.headers["set-cookie"].partition(";")[0]
    forged = signed("GET", f"http://{server.host}/v1/transactions", b"", secret="guess")
    assert server.send(with_header(forged, "cookie", cookie)).status == 401


@pytest.mark.parametrize(
    ("media_type", "body", "status"),
    [
        ("text/plain", b"{}", 415),
        ("application/json", b"", 422),
        ("application/json", b'{"token": 1}', 422),
        ("application/json", b'{"token": "a", "name": "b"}', 422),
        ("application/json", b'{"token": "\\ud800"}', 422),
        ("application/json", b'{"token": "%s"}' % (b"x" * 2_000), 413),
    ],
)
def test_what_does_not_sign_in_is_told_why(
    server: AccessServer, media_type: str, body: bytes, status: int
) -> None:
    headers = [
        ("host", server.host),
        ("origin", f"http://{server.host}"),
        ("content-type", media_type),
    ]
    answer = server.send(Request("POST", "/v1/session", "", headers, body))
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"


def invite(server: AccessServer, body: bytes, key: str = ADMIN, method: str = "POST") -> Answer:
    url = f"http://{server.host}/v1/session/tokens"
    headers = {"Content-Type": "application/json"}
    return server.send(signed(method, url, body, key=key, headers=headers))


def test_an_administrator_invites_somebody_to_sign_in(server: AccessServer) -> None:
    invited = invite(server, b'{"name": "anna"}')
    assert (invited.status, invited.fields["name"]) == (201, "anna")
    assert invited.fields["link"] == f"/#token={invited.fields['token']}"
    assert sign_in(server, str(invited.fields["token"])).fields["name"] == "anna"


def test_nobody_else_invites(server: AccessServer) -> None:
    assert invite(server, b'{"name": "anna"}', key=KEY).status == 403
    assert invite(server, b'{"name": "an\\nna"}').status == 422
    assert invite(server, b'{"name": "anna\\n"}').status == 422
    assert invite(server, b"").status == 422
    assert invite(server, b"", method="GET").status == 405


def test_sessions_have_no_other_methods(server: AccessServer) -> None:
    answer = ask(server, "PUT", "/v1/session")
    assert (answer.status, answer.headers["allow"]) == (405, "DELETE, GET, POST")


def example(language: str, word: str) -> str:
    """The block of the page in *language* that holds *word*."""
    blocks = PAGE.read_text("utf-8").split(f"```{language}\n")[1:]
    (found,) = [block.partition("```")[0] for block in blocks if word in block]
    return found.replace("us-east-1", REGION)


@pytest.mark.parametrize(
    ("language", "word", "command"),
    [("sh", "--aws-sigv4", ["sh", "-e", "-c"]), ("python", "SigV4Auth", [sys.executable, "-c"])],
)
def test_the_examples_of_the_page_are_let_in(
    server: AccessServer, language: str, word: str, command: list[str]
) -> None:
    text = example(language, word).replace("127.0.0.1:8080", server.host)
    known = {**os.environ, "KEY_ID": KEY, "SECRET": SECRET, "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([*command, text], env=known, capture_output=True, timeout=60, check=False)
    assert b'"name":"checkout"' in done.stdout, done.stderr


def test_the_example_of_a_new_key_makes_a_list(tmp_path: Path) -> None:
    script = example("sh", "openssl")
    subprocess.run(["sh", "-e", "-c", script], cwd=tmp_path, check=True, timeout=60)
    path = tmp_path / "access.yaml"
    (key,) = parse_access(PrivateFile(path).read(), str(path)).keys.values()
    assert (key.name, len(key.key_id), len(key.secret.secret_key)) == ("checkout", 20, 40)
