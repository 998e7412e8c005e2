"""What rules leave behind: in the document, its row, and the metrics."""

import threading
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry

from consumer.document import DocumentFormat, build_document
from consumer.errors import Problem, Unavailable
from consumer.health import describe
from consumer.heartbeat import Heartbeat, read_heartbeats
from consumer.metrics import Metrics
from consumer.model import Assessment, Decision, Outcome, Ruled, RuleHit
from consumer.row import build_row
from consumer.rules.specification import Mode
from consumer.telemetry import WorkerTelemetry
from tests.builders import an_assessment
from tests.fakes.clock import FakeClock
from tests.rulebook import a_rule, a_set

FORM = DocumentFormat(("amount", "card_count"), "f" * 64, "EUR")
BLOCK = RuleHit("blocked_card", 3, Outcome.DECLINE, 0.0, "blocked_card", "It is blocked.")
ODD = RuleHit("odd", 1, None, 0.25, "odd", "It is odd.")
RULED = Ruled((BLOCK,), (ODD,), ("guilty",), "a" * 64, "b" * 64)


def assessed() -> Assessment:
    decision = Decision(Outcome.DECLINE, ("blocked_card",), ("It is blocked.",), 0.35)
    return an_assessment(1, decision=decision, rules=RULED)


def test_a_document_says_which_rules_hit_in_which_version() -> None:
    document = orjson.loads(build_document(assessed(), FORM))
    assert document["rules"] == {
        "hash": "a" * 16,
        "lists_hash": "b" * 16,
        "hits": ["blocked_card@3"],
        "shadow": ["odd@1"],
        "errors": ["guilty"],
    }
    assert document["decision"] == {
        "outcome": "decline",
        "reasons": ["blocked_card"],
        "texts": ["It is blocked."],
        "risk": 0.35,
    }


def test_a_document_that_no_rule_touched_is_short() -> None:
    document = orjson.loads(build_document(an_assessment(1, rules=Ruled()), FORM))
    assert document["rules"] == {"hash": "", "lists_hash": ""}
    assert document["decision"] == {"outcome": "approve", "reasons": []}


def test_a_row_carries_rules_and_hashes() -> None:
    row = orjson.loads(build_row(build_document(assessed(), FORM)))
    assert (row["rules"], row["shadow_rules"], row["rule_errors"]) == (
        ["blocked_card@3"],
        ["odd@1"],
        ["guilty"],
    )
    assert (row["risk"], row["rules_hash"], row["lists_hash"]) == (0.35, "a" * 16, "b" * 16)


class Told:
    """A worker's telemetry with a registry to look into."""

    def __init__(self, folder: Path) -> None:
        self.registry = CollectorRegistry()
        self.clock = FakeClock()
        self.folder = folder
        heartbeat = Heartbeat(folder, self.clock)
        self.telemetry = WorkerTelemetry(Metrics(self.registry), heartbeat, self.clock, ["card"])

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"fraudstream_{name}", labels)


def test_hits_and_errors_are_counted_by_rule(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.telemetry._ruled(RULED)
    assert told.value("rule_hits_total", rule="blocked_card", mode="live") == 1.0
    assert told.value("rule_hits_total", rule="odd", mode="shadow") == 1.0
    assert told.value("rule_errors_total", rule="guilty") == 1.0


def test_the_version_in_force_shows_with_its_age(tmp_path: Path) -> None:
    told = Told(tmp_path)
    first, second = a_set(a_rule("one", "true")), a_set(a_rule("two", "true"))
    told.telemetry.rules_active(first)
    told.clock.sleep(5.0)
    told.telemetry.rules_active(second)
    assert told.value("rules_info", rules=first.specification.hash[:16]) == 0.0
    assert told.value("rules_info", rules=second.specification.hash[:16]) == 1.0
    now_s = told.clock.now_ms() / 1000
    assert told.value("rules_active_since_timestamp_seconds") == now_s


def test_what_is_refused_tripped_or_out_of_reach_is_counted(tmp_path: Path) -> None:
    told = Told(tmp_path)
    told.telemetry.rules_refused([Problem("rules.yaml:3:1", "rule a", "x", "y")])
    told.telemetry.rules_unreachable(Unavailable("s3", "get_object: NoSuchBucket"))
    told.telemetry.rules_tripped(a_set(), 51, 600)
    assert told.value("rules_refused_total") == 1.0
    assert told.value("rules_tripped_total") == 1.0
    assert told.value("dependency_errors_total", dependency="s3", cause="rules") == 1.0


def test_what_a_worker_decides_by_is_in_its_heartbeat_until_it_is_the_files_again(
    tmp_path: Path,
) -> None:
    told = Told(tmp_path)
    telemetry = told.telemetry

    def note() -> str:
        (state,) = read_heartbeats(tmp_path)
        return str(describe(state, 0.0)["rules"])

    telemetry.rules_active(a_set(mode=Mode.OFF))
    assert note() == "scores alone: the rules are off"
    assert told.value("rules_mode", mode="off") == 1.0
    telemetry.rules_refused([Problem("rules.yaml:3:1", "rule a", "x", "y")])
    assert note().endswith("are off; the version before: the files are refused")
    telemetry.rules_active(a_set())
    assert note() == "the version before: the files are refused"
    assert (told.value("rules_mode", mode="off"), told.value("rules_mode", mode="live")) == (0, 1)
    telemetry.rules_usable()
    assert note() == ""
    every = a_set(a_rule("every", "true"))
    telemetry.rules_tripped(every, 51, 600)
    assert note() == f"the version before: {every.specification.hash[:16]} tripped"
    telemetry.rules_active(a_set())
    assert note() == ""


def test_two_threads_may_tell_the_heartbeat_at_once(tmp_path: Path) -> None:
    told = Told(tmp_path)
    problems = [Problem("rules.yaml:3:1", "rule a", "x", "y")]

    def refuse() -> None:
        for _ in range(500):
            told.telemetry.rules_refused(problems)
            told.telemetry.rules_usable()

    looking = threading.Thread(target=refuse)
    looking.start()
    while looking.is_alive():
        told.telemetry.stage("decode")
        (state,) = read_heartbeats(tmp_path)
        assert state.stage == "decode"
    looking.join()
    assert read_heartbeats(tmp_path)[0].rules == ""
