"""The last good rules over restarts of workers: the real files, Redis and commands."""

import platform
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import orjson
import pytest
from prometheus_client import CollectorRegistry

from consumer.__main__ import main
from consumer.adapters.redis.connection import connect
from consumer.bands_watch import BandsWatch
from consumer.clock import SystemClock
from consumer.configuration import load
from consumer.errors import Misconfigured
from consumer.feature_hash import Deployment
from consumer.features.specification import load_plan
from consumer.heartbeat import Heartbeat, read_heartbeats
from consumer.local.redis_server import RedisServer
from consumer.metrics import Metrics
from consumer.model import Outcome, Scores
from consumer.outside import Surroundings
from consumer.patience import Patience
from consumer.rules.book import RuleBook
from consumer.rules.facts import Case
from consumer.settings import Settings
from consumer.start_check import look_at_rules
from consumer.telemetry import WorkerTelemetry
from consumer.wiring import build_judge
from tests.builders import a_transaction

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the embedded Redis exists for Linux x86-64 only",
)

RULE = """
version: 1
rules:
- id: {id}
  when: {when}
  outcome: decline
  reason: {{code: {id}, text: Because.}}
  examples: {{hits: [{{tx.amount: {hit}}}], misses: [{{tx.amount: {miss}}}]}}
"""


class Silent:
    """A control plane that nobody needs to ask."""

    def describe(self, name: str) -> Deployment:
        raise AssertionError(name)

    def read_tag(self, deployment: Deployment, key: str) -> str | None:
        raise AssertionError(deployment, key)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(modules=False) as running:
        yield running


class Installation:
    """Settings of one installation, whose workers come and go."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.config = folder / "fraudstream.yaml"
        self.registry = CollectorRegistry()
        self.environment = {
            "FRAUDSTREAM_REDIS__URL": url,
            "FRAUDSTREAM_SUPERVISOR__RUN_DIR": str(folder / "run"),
            "FRAUDSTREAM_RULES__WATCH_TRANSACTIONS": "4",
            "FRAUDSTREAM_RULES__POLL_S": "0.05",
            "FRAUDSTREAM_KCL__WORKER_ID": "host-1",
            # Nobody listens there.
            "FRAUDSTREAM_AWS__ENDPOINT_URL": "http://127.0.0.1:1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }

    @property
    def settings(self) -> Settings:
        return load(self.config, self.environment).settings

    def write(self, rule: str, when: str, hit: float = 1, miss: float = 0) -> None:
        """*hit* and *miss* are the amounts of the rule's examples."""
        text = RULE.format(id=rule, when=when, hit=hit, miss=miss)
        (self.folder / "rules.yaml").write_text(text)

    @contextmanager
    def worker(self) -> Iterator[RuleBook]:
        """A worker's book; closing it stores what became of its sets."""
        settings, clock = self.settings, SystemClock()
        plan = load_plan(settings.features.path, settings.events.base_currency)
        self.registry = CollectorRegistry()
        with ExitStack() as stack:
            heartbeat = stack.enter_context(Heartbeat(settings.supervisor.run_dir, clock))
            telemetry = WorkerTelemetry(Metrics(self.registry), heartbeat, clock, [])
            patience = Patience(clock, lambda _s: None, 1.0, telemetry.waiting)
            around = Surroundings(settings, plan, telemetry, patience, clock)
            bands = BandsWatch(Silent(), settings, lambda _score: None)
            yield build_judge(around, bands, stack)

    def decide(self, book: RuleBook, *amounts: int) -> list[Outcome]:
        plan = load_plan(self.settings.features.path, "EUR")
        values = (0.0,) * len(plan.names)
        cases = [
            Case(
                a_transaction(1, amount_minor=amount, base_amount_minor=amount),
                values,
                Scores(0.0, 0.0),
                1_780_000_000,
            )
            for amount in amounts
        ]
        return [book.decide(case)[0].outcome for case in cases]

    def rules(self, book: RuleBook) -> list[str]:
        return [each.rule.rule_id for each in book.active.rules]

    def count(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)


@pytest.fixture
def place(
    server: RedisServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Installation:
    client = connect(server.url, connect_timeout_s=5, timeout_s=5)
    client.flushall()
    client.close()
    folder = tmp_path / "config"
    assert main(["init", str(folder)]) == 0
    installation = Installation(folder, server.url)
    for name, value in installation.environment.items():
        monkeypatch.setenv(name, value)
    installation.write("large", "tx.amount > 1000.0", hit=2000)
    return installation


def test_a_worker_that_starts_on_broken_rules_goes_on_with_the_last_good_ones(
    place: Installation,
) -> None:
    with place.worker():
        pass
    (place.folder / "rules.yaml").write_text("rules: [")
    with place.worker() as book:
        assert place.rules(book) == ["large"]
        assert place.decide(book, 200_000, 100) == [Outcome.DECLINE, Outcome.APPROVE]
        assert place.count("fraudstream_rules_restored") == 1
        assert place.count("fraudstream_rules_refused_total") == 1
        (state,) = read_heartbeats(place.settings.supervisor.run_dir)
        assert state.rules.startswith("the last good copy of ")
        assert state.rules.endswith(" by host-1")
        place.write("small", "tx.amount < 0.5", hit=0, miss=1)
        while place.rules(book) != ["small"]:
            book.turn()
        assert place.count("fraudstream_rules_restored") == 0
        (state,) = read_heartbeats(place.settings.supervisor.run_dir)
        assert state.rules == ""


def test_without_a_copy_a_worker_does_not_start_on_broken_rules(place: Installation) -> None:
    (place.folder / "rules.yaml").write_text("rules: [")
    with pytest.raises(Misconfigured, match=r"rules.yaml:1:9"), place.worker():
        pass


def test_a_change_over_a_restart_is_watched_and_accepted_by_hand_at_last(
    place: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    with place.worker():
        pass
    place.write("every", "tx.amount > 0.0")
    with place.worker() as book:
        assert place.rules(book) == ["every"]
        assert place.decide(book, 100, 100) == [Outcome.DECLINE, Outcome.APPROVE]
        assert place.count("fraudstream_rules_tripped_total") == 1
    with place.worker() as book:
        # Attacked, it would decline no more than the version before: it passes, and is not kept.
        assert place.decide(book, *[200_000] * 5) == [Outcome.DECLINE] * 5
        assert place.rules(book) == ["every"]
    with place.worker() as book:
        assert place.decide(book, 100, 100) == [Outcome.DECLINE, Outcome.APPROVE]
        assert main(["rules", "accept", "--config", str(place.config)]) == 0
        assert "as the last good ones, with their lists" in capsys.readouterr().out
        while place.rules(book) != ["every"]:
            book.turn()
    with place.worker() as book:
        assert place.decide(book, 100, 100, 100) == [Outcome.DECLINE] * 3


def test_the_preflight_goes_on_loudly_and_check_fails(
    place: Installation, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    with place.worker():
        pass
    (place.folder / "rules.yaml").write_text("rules: [")
    settings = place.settings
    plan = load_plan(settings.features.path, settings.events.base_currency)
    with ExitStack() as stack:
        look_at_rules(settings, plan, stack)
    capsysbinary.readouterr()
    assert main(["check", "--json", "--config", str(place.config)]) == 1
    body = orjson.loads(capsysbinary.readouterr().out)
    rules = [each for each in body["checks"] if each["subject"] == "rules"]
    assert [each["level"] for each in rules] == ["FAIL", "FAIL"]
    assert "rules.yaml:1:9: the file: " in rules[0]["text"]
    assert rules[1]["text"].startswith("a start would decide by the last good copy of ")


def test_rules_that_are_wrong_are_not_accepted(
    place: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write("bad", "f.nothing > 1.0")
    assert main(["rules", "accept", "--config", str(place.config)]) == 1
    assert "f.nothing" in capsys.readouterr().out
