"""Both dashboards: as they are built, and every query of them answered by a real server."""

import json
import runpy
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from yaml import safe_load

from consumer.adapters.timeseries import TimeSeriesSink
from consumer.clock import SystemClock
from consumer.local.ports import listen, port_of
from consumer.metrics import (
    CHECKPOINT_AGE_SECONDS,
    AccessMetrics,
    ApiMetrics,
    Metrics,
    SupervisorMetrics,
)
from consumer.model import Decision, Outcome
from consumer.settings import TimeSeries
from tests.builders import a_transaction, an_assessment

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
BUILT = runpy.run_path(str(GRAFANA / "build.py"))
PATIENCE_S = 60.0


def dashboard(name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((GRAFANA / "dashboards" / name).read_text())
    return read


def queries(name: str) -> list[str]:
    found = [
        target["expr"] for panel in dashboard(name)["panels"] for target in panel.get("targets", [])
    ]
    # What Grafana fills in for the time shown.
    return [text.replace("$__range", "1h").replace("$__interval", "1h") for text in found]


@pytest.mark.parametrize("name", BUILT["DASHBOARDS"])
def test_the_dashboards_are_those_that_are_built(name: str) -> None:
    written = (GRAFANA / "dashboards" / name).read_text()
    assert written == BUILT["build"](*BUILT["DASHBOARDS"][name])


@pytest.mark.parametrize("name", BUILT["DASHBOARDS"])
def test_every_panel_has_a_title_a_place_and_a_source_that_is_provisioned(name: str) -> None:
    sources = safe_load((GRAFANA / "provisioning/datasources/fraudstream.yaml").read_text())
    known = {each["uid"] for each in sources["datasources"]}
    panels = [each for each in dashboard(name)["panels"] if each["type"] != "row"]
    assert len(panels) > 10
    places = [tuple(each["gridPos"][axis] for axis in "xy") for each in panels]
    assert len(set(places)) == len(places)
    for panel in panels:
        assert panel["title"]
        assert panel["datasource"]["uid"] in known


@contextmanager
def started(command: list[str], url: str, health: str, folder: Path) -> Iterator[str]:
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            with suppress(OSError):
                fetched(url + health)
                break
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own
        body: bytes = answer.read()
    return body


def free_port() -> int:
    probe = listen(0, "server")
    port = port_of(probe)
    probe.close()
    return port


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: {name})")
    return found


def unanswered(url: str, texts: list[str]) -> list[str]:
    """Those of *texts* that have no data."""
    empty = []
    for text in texts:
        parameters = urllib.parse.urlencode({"query": text})
        read = json.loads(fetched(f"{url}/api/v1/query?{parameters}"))
        if not read["data"]["result"]:
            empty.append(text)
    return empty


def eventually_none(look: Callable[[], list[str]]) -> list[str]:
    deadline_s = time.monotonic() + PATIENCE_S
    while (empty := look()) and time.monotonic() < deadline_s:
        time.sleep(0.5)
    return empty


class Exporter(ThreadingHTTPServer):
    """The real metrics of a daemon and a service, each of them moving with every scrape."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = CollectorRegistry()
        everything = (
            Metrics(self.registry),
            SupervisorMetrics(self.registry, "1"),
            ApiMetrics(self.registry),
            AccessMetrics(self.registry),
        )
        age = Gauge(CHECKPOINT_AGE_SECONDS, "Age", ["shard"], registry=self.registry)
        self.metrics = [metric for each in everything for metric in vars(each).values()] + [age]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def move(self) -> None:
        for metric in self.metrics:
            # A value for each label that dashboards choose by, else any.
            names = metric._labelnames
            values = ["live" if name == "mode" else f"any-{name}" for name in names]
            child = metric.labels(*values) if names else metric
            if hasattr(child, "inc"):
                child.inc()
            elif hasattr(child, "observe"):
                child.observe(0.02)


class _Handler(BaseHTTPRequestHandler):
    server: Exporter

    def do_GET(self) -> None:
        self.server.move()
        body = generate_latest(self.server.registry)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002


def test_every_query_of_operations_is_answered_by_prometheus(tmp_path: Path) -> None:
    program, port = tool("prometheus"), free_port()
    with Exporter() as exporter:
        config = {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [
                {
                    "job_name": "fraudstream",
                    "static_configs": [{"targets": [f"127.0.0.1:{exporter.server_port}"]}],
                }
            ],
        }
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        command = [program, "--config.file=prometheus.yml", "--storage.tsdb.path=data"]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        with started(command, f"http://127.0.0.1:{port}", "/-/ready", tmp_path) as url:
            assert eventually_none(lambda: unanswered(url, queries("operations.json"))) == []
        exporter.shutdown()


def test_every_query_of_fraud_is_answered_by_the_time_series(tmp_path: Path) -> None:
    program, port = tool("victoria-metrics"), free_port()
    command = [program, f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={tmp_path}/data"]
    with started(command, f"http://127.0.0.1:{port}", "/health", tmp_path) as url:
        settings = TimeSeries.model_validate({"url": f"{url}/write", "flush_s": 0.05})
        now = datetime.now(UTC)
        decisions = (
            Decision(Outcome.APPROVE, ()),
            Decision(Outcome.REVIEW, ("amount_unusual",)),
            Decision(Outcome.DECLINE, ("fraud_score_high",)),
        )
        sink = TimeSeriesSink(settings, "EUR", SystemClock(), lambda _outcome, _number: None)
        with closing(sink):
            sink.start()
            for number in range(90):
                transaction = a_transaction(
                    1,
                    transaction_id=f"tx_{number}",
                    event_time=now - timedelta(seconds=number),
                    country="DE",
                    merchant_category="5411",
                )
                assessment = replace(an_assessment(1), transaction=transaction)
                sink.observe([replace(assessment, decision=decisions[number % 3])])
        fetched(f"{url}/internal/force_flush")
        assert eventually_none(lambda: unanswered(url, queries("fraud.json"))) == []
