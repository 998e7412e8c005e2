"""Rules and alerts as Prometheus reads them, over metrics that really are there."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from yaml import safe_load

from consumer.__main__ import main
from consumer.local.ports import listen, port_of
from consumer.local.redis_server import RedisServer
from consumer.metrics import (
    CHECKPOINT_AGE_SECONDS,
    AccessMetrics,
    ApiMetrics,
    Metrics,
    SupervisorMetrics,
)
from tests.rest_service import an_event, running_service, stub_aws

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RUNBOOK = (DEPLOY / "RUNBOOK.md").read_text()
PATIENCE_S = 60.0
_SERIES = re.compile(r"\bfraudstream_[a-z0-9_]+")
_ACTIONS = "list|show|send|lint|backtest|rollback"
_COMMAND = re.compile(rf"\bfraudstream ([a-z]+(?: (?:{_ACTIONS}))?)")
_LABELLED = re.compile(r"\b(fraudstream_[a-z0-9_]+)\{([^}]*)\}")


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: prometheus)")
    return found


def rules(name: str) -> list[dict[str, Any]]:
    read = safe_load((PROMETHEUS / name).read_text())
    return [rule for group in read["groups"] for rule in group["rules"]]


ALERTS = rules("alerts.yml")
USING = [
    *PROMETHEUS.glob("*.yml"),
    DEPLOY / "RUNBOOK.md",
    DEPLOY / "grafana/dashboards/operations.json",
]


def exported() -> dict[str, set[str]]:
    """Every series that a daemon or service shows, with its labels."""
    registry = CollectorRegistry()
    kept = [Metrics(registry), SupervisorMetrics(registry, "1"), ApiMetrics(registry)]
    kept += [AccessMetrics(registry)]
    found: dict[str, set[str]] = {CHECKPOINT_AGE_SECONDS: {"shard"}}
    for each in kept:
        for metric in vars(each).values():
            name, labels = metric._name, set(metric._labelnames)
            endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}
            for ending in endings.get(metric._type, ["", "_info"]):
                found[name + ending] = labels | ({"le"} if ending == "_bucket" else set())
    return found


def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    promtool = tool("promtool")
    shutil.copytree(PROMETHEUS, tmp_path / "prometheus")
    subprocess.run(
        [promtool, "check", "config", "prometheus.yml"], cwd=tmp_path / "prometheus", check=True
    )


def test_alerts_fire_where_they_should_and_nowhere_else() -> None:
    subprocess.run([tool("promtool"), "test", "rules", "tests.yml"], cwd=PROMETHEUS, check=True)


def test_every_alert_has_its_section_in_the_runbook() -> None:
    sections = re.findall(r"^## (\S+)$", RUNBOOK, re.MULTILINE)
    assert sections == [rule["alert"] for rule in ALERTS]
    for rule in ALERTS:
        assert rule["annotations"]["runbook_url"] == f"deploy/RUNBOOK.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]


@pytest.mark.parametrize("section", re.split(r"^## ", RUNBOOK, flags=re.MULTILINE)[1:])
def test_a_section_says_what_it_means_and_what_to_do(section: str) -> None:
    assert "**Means**" in section
    assert "**Do**" in section


def test_the_runbook_names_commands_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    named = set(_COMMAND.findall(" ".join(RUNBOOK.split())))
    assert len(named) > 6
    for words in named:
        with pytest.raises(SystemExit) as end:
            main([*words.split(), "--help"])
        assert end.value.code == 0, words
    capsys.readouterr()


@pytest.mark.parametrize("path", USING, ids=lambda path: path.name)
def test_every_metric_that_is_used_is_one_that_is_exported(path: Path) -> None:
    known, text = exported(), path.read_text()
    assert {name for name in _SERIES.findall(text) if name not in known} == set()
    for name, labels in _LABELLED.findall(text.replace('\\"', '"')):
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels))
        assert used - {"instance", "job"} <= known[name], f"{name} in {path}"


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """A real Prometheus with our rules that scrapes port *target*; its address."""
    probe = listen(0, "prometheus")
    port = port_of(probe)
    probe.close()
    shutil.copytree(PROMETHEUS, folder / "config")
    config = safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        del job["dns_sd_configs"], job["file_sd_configs"]
        job["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    (folder / "config" / "prometheus.yml").write_text(json.dumps(config))
    process = subprocess.Popen(
        [
            tool("prometheus"),
            "--config.file=config/prometheus.yml",
            f"--web.listen-address=127.0.0.1:{port}",
            "--storage.tsdb.path=data",
        ],
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def asked(url: str, query: str) -> list[dict[str, Any]]:
    parameters = urllib.parse.urlencode({"query": query})
    with urllib.request.urlopen(f"{url}/api/v1/query?{parameters}", timeout=10) as answer:  # noqa: S310
        result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return result


def await_result(url: str, query: str) -> list[dict[str, Any]]:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        with suppress(OSError):
            if found := asked(url, query):
                return found
        time.sleep(0.2)
    raise AssertionError(f"no data: {query}")


def test_a_real_prometheus_scrapes_a_running_service_and_works_the_rules(tmp_path: Path) -> None:
    tool("prometheus")
    with (
        RedisServer(directory=tmp_path / "redis") as redis,
        stub_aws(tmp_path) as variables,
        running_service(tmp_path / "serve", {**variables, "REDIS__URL": redis.url}) as service,
        prometheus(tmp_path, service.port) as url,
    ):
        for number in range(30):
            service.predict(an_event(f"tx_{number}"))
            time.sleep(0.1)
        (up,) = await_result(url, 'up{job="fraudstream-api"} == 1')
        assert up["value"][1] == "1"
        recorded = ["fraudstream:decisions:rate5m", "fraudstream:api_answers:rate5m"]
        recorded += ["fraudstream:receive_to_decision_seconds:p99_5m"]
        for name in recorded:
            assert await_result(url, name)
        with urllib.request.urlopen(f"{url}/api/v1/rules", timeout=10) as answer:  # noqa: S310
            groups = json.load(answer)["data"]["groups"]
        health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
        assert set(health.values()) == {"ok"}
        assert len(health) == len(ALERTS) + len(rules("rules.yml"))
