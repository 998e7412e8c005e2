"""Points of decisions: their line, and what becomes of them when nobody takes them."""

import gzip
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from consumer.adapters.timeseries import PointForm, TimeSeriesSink, build_point
from consumer.clock import SystemClock
from consumer.model import Decision, Outcome, Scores
from consumer.settings import TimeSeries
from tests.builders import NOON, a_transaction, an_assessment

FORM = PointForm("decisions", 100)
NOON_MS = int(NOON.timestamp() * 1_000)


def test_a_point_says_what_was_decided_on_whom_it_does_not_say() -> None:
    assessment = an_assessment(1)
    line = build_point(assessment, FORM)
    head, fields, time_ns = line.rsplit(" ", 2)
    assert head == "decisions,degraded=false,outcome=approve"
    assert fields == "amount=12.5,count=1i,fraud=0.01,anomaly=0.7"
    assert int(time_ns) // 1_000_000 == round(assessment.transaction.event_time.timestamp() * 1e3)
    assert assessment.transaction.card_id not in line
    assert assessment.transaction.transaction_id not in line


def test_tags_are_escaped_and_absent_ones_left_out() -> None:
    transaction = a_transaction(1, merchant_category="5,4 1=1", country="DE", channel=None)
    assessment = replace(
        an_assessment(1),
        transaction=transaction,
        scores=Scores(None, 1.5, ("fraud:timeout",)),
        decision=Decision(Outcome.REVIEW, ("amount_unusual", "spend_high")),
    )
    line = build_point(assessment, FORM)
    assert line.startswith(
        r"decisions,category=5\,4\ 1\=1,country=DE,degraded=true,outcome=review,"
        "reason=amount_unusual amount=12.5,count=1i,anomaly=1.5 "
    )


def test_an_id_is_a_text_where_it_is_wanted() -> None:
    transaction = a_transaction(1, transaction_id='a"b\\c')
    line = build_point(
        replace(an_assessment(1), transaction=transaction), replace(FORM, transaction_ids=True)
    )
    assert r'transaction_id="a\"b\\c"' in line


def test_points_of_one_moment_are_apart_and_one_that_comes_again_is_not() -> None:
    first, second = (
        replace(
            an_assessment(1),
            transaction=a_transaction(1, transaction_id=name, event_time=NOON),
        )
        for name in ("tx_a", "tx_b")
    )
    times = [int(build_point(each, FORM).rsplit(" ", 1)[1]) for each in (first, second, first)]
    assert times[0] == times[2] != times[1]
    assert {time // 1_000_000 for time in times} == {NOON_MS}


class Database(ThreadingHTTPServer):
    """Answers with *statuses* in turn, then 204."""

    daemon_threads = True

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)
        self.lines: list[str] = []
        self.tokens: set[str | None] = set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/write"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Database

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        if status == 204:
            self.server.lines += gzip.decompress(body).decode().split("\n")
            self.server.tokens.add(self.headers["Authorization"])
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002


@pytest.fixture
def counts() -> Counter[str]:
    return Counter()


def sink_to(url: str, counts: Counter[str], **changes: object) -> TimeSeriesSink:
    settings = TimeSeries.model_validate(
        {"url": url, "flush_s": 0.01, "timeout_s": 1.0, "give_up_s": 0.2, **changes}
    )

    def on_points(outcome: str, number: int) -> None:
        counts[outcome] += number

    return TimeSeriesSink(settings, "EUR", SystemClock(), on_points)


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as server:
        yield server
        server.shutdown()


def test_what_is_decided_arrives_once(database: Database, counts: Counter[str]) -> None:
    with closing(sink_to(database.url, counts, batch=3, token=SecretStr("t"))) as sink:
        sink.start()
        for number in range(10):
            sink.observe([an_assessment(number + 1)])
    assert len(set(database.lines)) == len(database.lines) == 10
    assert counts == {"sent": 10}
    assert database.tokens == {"Token t"}


def test_a_database_that_is_away_for_a_moment_gets_all(
    database: Database, counts: Counter[str]
) -> None:
    database.statuses = [503, 429]
    with closing(sink_to(database.url, counts, give_up_s=60)) as sink:
        sink.start()
        sink.observe([an_assessment(1)])
        while not counts:
            threading.Event().wait(0.01)
    assert counts == {"sent": 1}


@pytest.mark.parametrize(
    ("status", "outcome"), [(400, "refused"), (401, "refused"), (503, "unavailable")]
)
def test_what_nobody_takes_is_counted_and_dropped(
    database: Database, counts: Counter[str], status: int, outcome: str
) -> None:
    database.statuses = [status] * 20
    with closing(sink_to(database.url, counts)) as sink:
        sink.start()
        sink.observe([an_assessment(1), an_assessment(2)])
        while not counts:
            threading.Event().wait(0.01)
    assert counts == {outcome: 2}
    assert database.lines == []


def test_without_a_database_nothing_waits_and_the_buffer_stays_bounded(
    counts: Counter[str],
) -> None:
    sink = sink_to("http://127.0.0.1:9/write", counts, buffer=100)
    for _ in range(30):
        sink.observe([an_assessment(1)] * 10)
    assert counts == {"full": 200}
    with closing(sink):
        sink.start()
    assert counts == {"full": 200, "unavailable": 100}
