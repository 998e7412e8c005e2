"""The REST service against clients that mean it ill: bytes on a socket, numbers of cards."""

import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import orjson
import pytest

from consumer.adapters.redis.connection import command, connect
from consumer.local.redis_server import RedisServer
from tests.rest_service import (
    Answer,
    Service,
    an_event,
    parse_answer,
    running_service,
    stub_aws,
)
from tests.signing import sign

CARD = "4111111111111111"
WAIT_S = 30.0
CONNECTIONS = 12


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with RedisServer(directory=tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("hostile")
    variables = {
        "REDIS__URL": redis_url,
        "API__TIMEOUT_MS": "1000",
        "API__CONNECTION_LIMIT": str(CONNECTIONS),
    }
    with (
        stub_aws(folder) as aws,
        running_service(folder / "serve", {**aws, **variables}) as service,
    ):
        yield service


def connect_to(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), WAIT_S)


def problem_of(answer: Answer) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.fields["type"]).rpartition(":")[2]


def request(
    service: Service,
    method: str,
    path: str,
    body: bytes = b"",
    further: Sequence[str] = ("connection: close",),
) -> bytes:
    """A signed request byte for byte; its length is told unless *further* tells another way."""
    headers = sign(method, service.url + path, body, headers={"Content-Type": "application/json"})
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if not any(each.lower().startswith("transfer-encoding") for each in further):
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, *further, "", ""]).encode() + body


def an_event_bytes(name: str) -> bytes:
    return orjson.dumps(an_event(name))


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: x\n\n",
        b"POST /v1/labels HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST /v1/labels HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/labels HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["TLS", "HTTP/2", "bare line feeds", "two lengths", "a negative length", "two framings"],
)
def test_what_is_no_http_is_told_so_in_a_problem(service: Service, sent: bytes) -> None:
    answer = parse_answer(service.exchange(sent))
    assert (answer.status, problem_of(answer)) == (400, "not-http")


def test_a_body_whose_chunks_break_off_is_answered_once(service: Service) -> None:
    head = request(service, "POST", "/v1/predictions", further=["Transfer-Encoding: chunked"])
    received = service.exchange(head, b'5\r\n{"a"', b"zz\r\n")
    assert received.count(b"HTTP/1.1 400") == 1
    assert problem_of(parse_answer(received)) == "not-http"


def test_a_head_that_is_too_large_is_refused_also_as_one_line_without_end(
    service: Service,
) -> None:
    start = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    many = b"".join(b"X-%d: 1\r\n" % number for number in range(12_000))
    for rest in (many + b"\r\n", b"X: " + b"a" * 66_000):
        with connect_to(service) as line:
            line.sendall(start + rest)
            # Not to the end, which may be a reset: the rest of it is not read any more.
            answer = parse_answer(line.recv(65_536))
        assert (answer.status, problem_of(answer)) == (431, "large-head")


def test_a_head_that_does_not_arrive_ends_the_connection(service: Service) -> None:
    answer = parse_answer(service.exchange(b"GET /healthz HTTP/1.1\r\nHost: x\r\n"))
    assert (answer.status, problem_of(answer)) == (408, "slow-request")


def test_a_body_that_does_not_arrive_ends_the_connection(service: Service) -> None:
    whole = request(service, "POST", "/v1/predictions", an_event_bytes("slow_1"), further=())
    answer = parse_answer(service.exchange(whole[:-10]))
    assert (answer.status, problem_of(answer)) == (408, "slow-request")


def test_requests_in_one_packet_are_answered_in_their_order(service: Service) -> None:
    first = request(service, "POST", "/v1/predictions", an_event_bytes("pipe_1"), further=())
    second = request(service, "GET", "/v1/rules", further=())
    third = request(service, "POST", "/v1/predictions", an_event_bytes("pipe_2"))
    received = service.exchange(first + second + third)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200"] * 3
    assert 0 < received.index(b'"pipe_1"') < received.index(b'"mode"') < received.index(b'"pipe_2"')


def test_what_follows_a_request_is_not_taken_for_its_answer(service: Service) -> None:
    whole = request(service, "POST", "/v1/predictions", an_event_bytes("pipe_3"), further=())
    received = service.exchange(whole + b"\x00nonsense\r\n\r\n")
    assert b"not-http" not in received
    assert service.predict(an_event("pipe_4")).status == 200


def test_a_body_in_chunks_needs_no_length_and_its_trailers_are_no_headers(
    service: Service,
) -> None:
    body = an_event_bytes("chunked_1")
    coding = ["Transfer-Encoding: chunked", "connection: close"]
    whole = request(service, "POST", "/v1/predictions", body, further=coding)
    head = whole[: -len(body)]
    chunks = b"%x\r\n%s\r\n0\r\nContent-Encoding: gzip\r\n\r\n" % (len(body), body)
    assert parse_answer(service.exchange(head, chunks)).status == 200


def test_an_offer_of_another_protocol_is_passed_over(service: Service) -> None:
    lines = ["Upgrade: h2c", "Connection: Upgrade, close"]
    assert (
        parse_answer(service.exchange(request(service, "GET", "/v1/rules", further=lines))).status
        == 200
    )


def test_connections_beyond_their_number_are_told_to_come_again(service: Service) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(connect_to(service)) for _ in range(CONNECTIONS + 4)]
        answer = parse_answer(held[-1].recv(65_536))
    assert (answer.status, problem_of(answer)) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    ends_s = time.monotonic() + WAIT_S
    while not service.exchange(request(service, "GET", "/v1/rules")).startswith(b"HTTP/1.1 200"):
        assert time.monotonic() < ends_s


def test_what_is_no_request_is_counted_and_fills_no_log(service: Service) -> None:
    before = service.log.read_bytes().count(b"\n")
    for _ in range(20):
        service.exchange(b"nonsense\r\n\r\n")
    assert service.log.read_bytes().count(b"\n") - before < 5
    counted = service.exchange(b"GET /metrics HTTP/1.0\r\n\r\n").decode()
    assert re.search(r'answers_total\{method="other",route="\(none\)",status="400"\} \d', counted)


def test_bytes_of_a_header_that_are_no_text_are_answered(service: Service) -> None:
    head = b"POST /v1/session HTTP/1.1\r\nHost: \xff\r\nContent-Type: application/json\r\n"
    body = b'{"token":"a"}'
    end = b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
    assert parse_answer(service.exchange(head, end, body)).status == 401


def test_transactions_that_stand_twice_in_a_batch_are_refused(service: Service) -> None:
    for name in (b"transactions", b"tr\\u0061nsactions"):
        twice = b'{"%s": [], "transactions": [%s]}' % (name, an_event_bytes("twice_1"))
        answer = service.post("/v1/predictions:batch", twice)
        assert answer.status == 422
        assert answer.fields["errors"][0]["expected"] == "once"


def canaries(service: Service) -> Iterator[bytes]:
    """Requests with a card number in every place that a client can put one."""
    closing = "connection: close"
    for path in (
        f"/v1/entities/card/{CARD}",
        f"/v1/entities/card/%34{CARD[1:]}",
        f"/v1/entities/card/{CARD[:4]}%20{CARD[4:]}",
        f"/v1/entities/{CARD}/x",
        f"/v1/transactions/{CARD}",
        f"/v2/{CARD}",
        f"/ui/{CARD}",
        *(f"/v1/transactions?{name}={CARD}" for name in ("card", "reason", "sort", "cursor", CARD)),
        f"/v1/alerts?cursor={CARD}-0",
    ):
        yield request(service, "GET", path)
    event = an_event("canary_1")
    bodies: list[tuple[str, object]] = [
        *(
            ("/v1/predictions", event | {name: value})
            for name in ("transaction_id", "card_id", "merchant_id", "device_id", "currency", CARD)
            for value in (CARD, int(CARD), f"{CARD[:4]} {CARD[4:]}")
        ),
        ("/v1/predictions:batch", {"transactions": [event | {"card_id": CARD}, {CARD: 1}, CARD]}),
        ("/v1/predictions:batch", {CARD: []}),
        ("/v1/labels", {"type": "label", "transaction_id": CARD, "label": CARD, "source": CARD}),
        ("/v1/session/tokens", {"name": CARD}),
        ("/v1/session", {"token": CARD}),
    ]
    for path, body in bodies:
        yield request(service, "POST", path, orjson.dumps(body))
    yield request(service, "POST", "/v1/predictions", f'{{"{CARD}":1,"{CARD}":2}}'.encode())
    yield request(service, "POST", "/v1/predictions", f"not JSON {CARD}".encode())
    for line in (
        f"x-amz-{CARD}: 1",
        f"X-Number: {CARD}",
        f"Cookie: fraudstream-session={CARD}.{CARD}",
        f"Content-Encoding: {CARD}",
        f"Authorization: {CARD}",
    ):
        yield request(service, "GET", "/v1/rules", further=[line, closing])
    plain = request(service, "GET", "/v1/rules")
    yield plain.replace(b"SignedHeaders=", b"SignedHeaders=%s;" % CARD.encode())
    yield plain.replace(b"Credential=", b"Credential=%s" % CARD.encode())
    yield re.sub(rb"(?m)^Host: .*\r$", b"Host: %s\r" % CARD.encode(), plain)
    head = f"POST /v1/session HTTP/1.1\r\nHost: {CARD}\r\nOrigin: http://{CARD}\r\n{closing}\r\n"
    yield f"{head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    yield f"{CARD} /v1/rules HTTP/1.1\r\n\r\n".encode()
    yield f"GET /{CARD} HTTP/9\r\n\r\n".encode()


def test_a_card_number_leaves_no_trace_wherever_a_client_puts_it(
    service: Service, redis_url: str
) -> None:
    client = connect(redis_url, connect_timeout_s=5, timeout_s=10)
    command(client, "CONFIG", "SET", "slowlog-log-slower-than", "0")
    command(client, "CONFIG", "SET", "slowlog-max-len", "100000")
    answers = [service.exchange(each) for each in canaries(service)]
    answers.append(service.exchange(b"GET /metrics HTTP/1.0\r\n\r\n"))
    seen = {
        "answers": b"\n".join(answers),
        "log": service.log.read_bytes(),
        "commands of Redis": repr(command(client, "SLOWLOG", "GET", "-1")).encode(),
        "keys": repr(command(client, "KEYS", "*")).encode(),
        "values": b"".join(command(client, "DUMP", key) for key in command(client, "KEYS", "*")),
    }
    client.close()
    form = re.compile(CARD[:4] + r"\D{0,3}" + CARD[4:])
    found = {place: form.search(text.decode("latin-1")) for place, text in seen.items()}
    context = {
        place: hit.string[max(0, hit.start() - 80) :][:160] for place, hit in found.items() if hit
    }
    assert context == {}
    assert {parse_answer(each).status for each in answers if each} <= {200, 400, 401, 404, 422}
    assert b"[pan]" in seen["answers"]
