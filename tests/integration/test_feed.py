"""The alerts feed and the files of the page over HTTP, for clients that are no browser."""

import asyncio
import hashlib
import http.client
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from consumer.alert_log import START
from consumer.api.alert_ring import AlertRing
from consumer.api.live import Live, Message
from consumer.api.page_files import PageFiles
from consumer.clock import SystemClock
from consumer.local.redis_server import RedisServer
from consumer.model import Outcome
from tests.page_server import PageServer, serve_page

WAIT_S = 30.0


class Client:
    """Somebody signed in by a cookie."""

    def __init__(self, server: PageServer) -> None:
        self._server = server
        told = {"Content-Type": "application/json", "Origin": server.url}
        body = json.dumps({"token": server.new_token()})
        status, headers, _ = self.ask("/v1/session", told, "POST", body)
        assert status == 200
        self.cookie = headers["set-cookie"].partition(";")[0]

    def ask(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        line = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=WAIT_S)
        line.request(method, path, body, self._headers(headers))
        answer = line.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        content = answer.read()
        line.close()
        return answer.status, found, content

    def read(self, path: str) -> Any:
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)

    @contextmanager
    def stream(self, path: str, last: str | None = None) -> Iterator[http.client.HTTPResponse]:
        line = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=WAIT_S)
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        line.request("GET", path, headers=self._headers(headers))
        answer = line.getresponse()
        assert answer.status == 200, answer.read()
        yield answer
        line.close()

    def _headers(self, further: dict[str, str] | None) -> dict[str, str]:
        cookie = getattr(self, "cookie", "")
        return {**({"Cookie": cookie} if cookie else {}), **(further or {})}


def events(answer: http.client.HTTPResponse, name: str) -> Iterator[tuple[str, Any]]:
    """The events called *name*: id and data."""
    fields: dict[str, str] = {}
    while line := answer.readline().decode():
        if line == "\n":
            if fields.get("event") == name:
                yield fields.get("id", ""), json.loads(fields["data"])
            fields = {}
        else:
            key, _, value = line.rstrip("\n").partition(": ")
            fields[key] = value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    with (
        RedisServer(directory=tmp_path_factory.mktemp("redis")) as redis,
        serve_page(redis.url) as server,
    ):
        server.bank.decide_for(seconds=20, per_second=10)
        yield server


@pytest.fixture
def client(server: PageServer) -> Client:
    return Client(server)


def test_the_page_is_for_everybody_and_lets_nothing_from_elsewhere_in(server: PageServer) -> None:
    anybody = Client.__new__(Client)
    anybody._server = server
    for name in PageFiles().names:
        path = "/" if name == "index.html" else f"/ui/{name}"
        status, headers, body = anybody.ask(path)
        assert (status, len(body) > 0) == (200, True), path
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        status, _, body = anybody.ask(path, {"If-None-Match": headers["etag"]})
        assert (status, body) == (304, b"")
    assert anybody.ask("/ui/nothing.js")[0] == 404
    assert anybody.ask("/ui/../feed.py")[0] == 404


@pytest.mark.parametrize("path", ["/v1/alerts", "/v1/live", "/v1/evidence/tx_1"])
def test_what_holds_data_needs_somebody(server: PageServer, path: str) -> None:
    anybody = Client.__new__(Client)
    anybody._server = server
    status, headers, _ = anybody.ask(path)
    assert (status, headers["content-type"]) == (401, "application/problem+json")


def test_alerts_page_by_page_are_all_in_order(client: Client) -> None:
    everything = client.read("/v1/alerts?limit=1000")
    found, cursor = [], ""
    while True:
        page = client.read(f"/v1/alerts?limit=3{cursor and f'&cursor={cursor}'}")
        if not page["alerts"]:
            break
        found += page["alerts"]
        cursor = page["cursor"]
    assert found == everything["alerts"]
    assert cursor == everything["cursor"]
    assert client.read("/v1/alerts?tail=true&limit=2")["alerts"] == found[-2:]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("cursor=x", "cursor"),
        ("cursor=", "cursor"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=%D9%A1", "limit"),
        ("tail=yes", "tail"),
        ("tail=true&cursor=1-0", "tail"),
        ("curser=1-0", "curser"),
        ("limit=1&limit=2", "limit"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(client: Client, query: str, field: str) -> None:
    status, headers, body = client.ask(f"/v1/alerts?{query}")
    assert (status, headers["content-type"]) == (422, "application/problem+json")
    assert json.loads(body)["errors"][0]["field"] == field


def test_a_stream_begins_now_and_goes_on_where_it_was_left(
    client: Client, server: PageServer
) -> None:
    with client.stream("/v1/alerts") as answer:
        found = events(answer, "alert")
        # Once this one is there the stream has begun; earlier ones may have come before that.
        writer = _keep_deciding(server)
        last, _ = next(found)
        writer.set()
    missed = [server.bank.decide(Outcome.DECLINE) for _ in range(5)]
    with client.stream("/v1/alerts", last) as answer:
        known: list[str] = []
        for cursor, alert in events(answer, "alert"):
            known.append(alert["transaction_id"])
            last = cursor
            if known[-1] == missed[-1]:
                break
    assert known[-5:] == missed
    assert len(known) == len(set(known))
    with client.stream(f"/v1/alerts?cursor={last}") as answer:
        fresh = server.bank.decide(Outcome.REVIEW)
        assert next(events(answer, "alert"))[1]["transaction_id"] == fresh


def _keep_deciding(server: PageServer) -> threading.Event:
    stop = threading.Event()

    def decide() -> None:
        while not stop.wait(0.1):
            server.bank.decide(Outcome.REVIEW)

    threading.Thread(target=decide, daemon=True).start()
    return stop


def test_a_viewer_that_was_away_for_long_gets_all_from_the_stream_itself(
    client: Client, server: PageServer
) -> None:
    first = client.read("/v1/alerts?limit=1")["cursor"]
    wanted = client.read(f"/v1/alerts?limit=1000&cursor={first}")["alerts"]
    with client.stream("/v1/live") as answer:
        next(events(answer, "summary"))
        with client.stream("/v1/alerts", first) as other:
            found = events(other, "alert")
            assert [next(found)[0] for _ in wanted] == [each["cursor"] for each in wanted]


def test_a_summary_tells_every_second_once_it_changed(client: Client, server: PageServer) -> None:
    with client.stream("/v1/live") as answer:
        told = events(answer, "summary")
        seconds: dict[int, list[Any]] = {}
        ends_s = time.monotonic() + WAIT_S
        for _, summary in told:
            seconds |= {row[0]: row for row in summary["seconds"]}
            if sum(sum(row[1:4]) for row in seconds.values()) >= 200 or time.monotonic() > ends_s:
                break
        assert summary["latency"]["p50"] >= 6
        assert summary["daemons"][0]["shards"][1]["lag_ms"] == 3_400
        assert summary["problems"] == {}
        before = sum(sum(row[1:4]) for row in seconds.values())
        server.bank.decide()
        for _, summary in told:
            assert len(summary["seconds"]) < 100
            seconds |= {row[0]: row for row in summary["seconds"]}
            if sum(sum(row[1:4]) for row in seconds.values()) > before:
                break


def test_more_streams_than_may_be_are_refused(client: Client, server: PageServer) -> None:
    live = server.feed.live
    most, live._most_viewers = live._most_viewers, 1
    try:
        with client.stream("/v1/live") as answer:
            next(events(answer, "summary"))
            status, headers, _ = client.ask("/v1/live")
            assert (status, headers["retry-after"]) == (429, "1")
    finally:
        live._most_viewers = most


def test_evidence_of_nothing_and_of_card_numbers_is_a_problem(client: Client) -> None:
    assert client.ask("/v1/evidence/nothing")[0] == 404
    status, _, body = client.ask("/v1/evidence/4111111111111111")
    assert status == 422
    assert b"4111" not in body.replace(b'"instance":"/v1/evidence/4111111111111111"', b"")
    assert client.ask("/v1/evidence/a%00b")[0] == 422


def test_evidence_is_what_was_stored(client: Client, server: PageServer) -> None:
    identity = server.bank.decide(Outcome.DECLINE, card_id="card_evidence")
    found = client.read(f"/v1/evidence/{identity}")
    assert found["decision"]["outcome"] == "decline"
    assert found["features"]["compared"][0]["feature"] == "card_mean_30d"
    assert found["neighbours"]["card"]["items"][0]["transaction_id"] == identity
    assert found["neighbours"]["merchant"]["total"] > 1


def test_redis_out_of_reach_is_told_and_passes(tmp_path: Path) -> None:
    port = free_port()
    with RedisServer(directory=tmp_path / "one", port=port) as redis, serve_page(redis.url) as own:
        client = Client(own)
        with client.stream("/v1/live") as answer:
            told = events(answer, "summary")
            next(told)
            redis.stop()
            assert any("alerts" in summary["problems"] for _, summary in told)
            status, headers, _ = client.ask("/v1/alerts")
            assert (status, headers["retry-after"]) == (503, "1")
            with RedisServer(directory=tmp_path / "two", port=port):
                assert any("alerts" not in summary["problems"] for _, summary in told)


def test_streams_end_when_the_service_drains(tmp_path: Path) -> None:
    with RedisServer(directory=tmp_path) as redis, serve_page(redis.url) as own:
        client = Client(own)
        with client.stream("/v1/live") as answer:
            next(events(answer, "summary"))
            own.drain()
            ends = list(events(answer, "summary"))
            assert len(ends) < 10


def test_the_vendored_files_are_those_that_the_manifest_names() -> None:
    vendored = files("consumer.api").joinpath("page", "vendor")
    manifest = json.loads(vendored.joinpath("manifest.json").read_text("utf-8"))
    named = {name: sha for each in manifest.values() for name, sha in each["sha256"].items()}
    found = {
        each.name: hashlib.sha256(each.read_bytes()).hexdigest()
        for each in vendored.iterdir()
        if each.name.endswith((".js", ".css"))
    }
    assert found == named


def test_a_viewer_that_is_slow_misses_nothing_and_nothing_is_kept_for_him(tmp_path: Path) -> None:
    with RedisServer(directory=tmp_path) as redis, serve_page(redis.url) as own:
        wanted = asyncio.run(_look_slowly(own))
    assert wanted[0] == wanted[1]


async def _look_slowly(own: PageServer) -> tuple[list[str], list[str]]:
    """What was decided, and what one sees who looks away until the shared part has moved on."""
    live = Live(own.sources, SystemClock())
    number = AlertRing.size + 300
    try:
        async with aclosing(live.follow(START, figures=False)) as messages:  # type: ignore[type-var]
            wanted = [own.bank.decide(Outcome.REVIEW)]
            seen = [await _next_alert(messages)]
            wanted += await asyncio.to_thread(
                lambda: [own.bank.decide(Outcome.REVIEW) for _ in range(number)]
            )
            while len(seen) < len(wanted):
                seen.append(await _next_alert(messages))
            return wanted, seen
    finally:
        await live.close()


async def _next_alert(messages: AsyncIterator[Message | None]) -> str:
    async with asyncio.timeout(WAIT_S):
        while True:
            message = await anext(messages)
            if message is not None and message.name == "alert":
                return str(json.loads(message.data)["transaction_id"])
