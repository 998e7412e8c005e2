"""Points of decisions in a real VictoriaMetrics, asked as dashboards ask."""

import json
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from consumer.adapters.timeseries import TimeSeriesSink
from consumer.clock import SystemClock
from consumer.local.ports import listen, port_of
from consumer.model import Decision, Outcome
from consumer.settings import TimeSeries
from tests.builders import a_transaction, an_assessment

PATIENCE_S = 60.0
POINTS = 600


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own
        body: bytes = answer.read()
    return body


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("victoria-metrics")
    if program is None:
        pytest.skip("victoria-metrics is not installed (Debian: victoria-metrics)")
    probe = listen(0, "database")
    port = port_of(probe)
    probe.close()
    folder = tmp_path_factory.mktemp("victoria")
    command = [program, f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={folder}/data"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            with suppress(OSError):
                fetched(f"{url}/health")
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def asked(url: str, query: str) -> dict[str, float]:
    """The first label's value of each series → its value now."""
    parameters = urllib.parse.urlencode({"query": query, "nocache": 1})
    read: Any = json.loads(fetched(f"{url}/api/v1/query?{parameters}"))
    return {
        next(iter(each["metric"].values()), ""): float(each["value"][1])
        for each in read["data"]["result"]
    }


def test_decisions_are_found_by_outcome_country_and_amount(database: str) -> None:
    counts: Counter[str] = Counter()

    def on_points(outcome: str, number: int) -> None:
        counts[outcome] += number

    settings = TimeSeries.model_validate(
        {"url": f"{database}/write", "flush_s": 0.05, "batch": 100}
    )
    begin = datetime.now(UTC) - timedelta(minutes=30)
    with closing(TimeSeriesSink(settings, "EUR", SystemClock(), on_points)) as sink:
        sink.start()
        for number in range(POINTS):
            transaction = a_transaction(
                1,
                transaction_id=f"tx_{number}",
                event_time=begin + timedelta(seconds=number),
                country="DE" if number % 3 else "FR",
                merchant_category="5411",
            )
            declined = number % 10 == 0
            decision = (
                Decision(Outcome.DECLINE, ("fraud_score_high",))
                if declined
                else Decision(Outcome.APPROVE, ())
            )
            sink.observe([replace(an_assessment(1), transaction=transaction, decision=decision)])
    assert counts == {"sent": POINTS}
    fetched(f"{database}/internal/force_flush")
    name = "fraudstream_decisions"
    assert asked(database, f"sum(count_over_time({name}_amount[1h])) by (outcome)") == {
        "approve": POINTS * 0.9,
        "decline": POINTS * 0.1,
    }
    assert asked(database, f"sum(count_over_time({name}_amount[1h])) by (country)") == {
        "DE": 400,
        "FR": 200,
    }
    caught = asked(database, f'sum(sum_over_time({name}_amount{{outcome="decline"}}[1h]))')
    assert caught == {"": pytest.approx(POINTS * 0.1 * 12.5)}
    assert asked(database, f"sum(count_over_time({name}_fraud[1h])) by (reason)")[
        "fraud_score_high"
    ] == pytest.approx(POINTS * 0.1)
    assert not asked(database, 'count({card_id=~".+"})')


def test_the_settings_lead_where_the_documentation_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "monitoring.md").read_text()
    assert "FRAUDSTREAM_TIMESERIES__URL" in page
