from dataclasses import replace

import pytest

from consumer.checkup import (
    DOCUMENT_BYTES,
    ExplainerFacts,
    Finding,
    IndexFacts,
    Level,
    ServerFacts,
    exit_code,
    from_problems,
    judge_clock,
    judge_endpoint,
    judge_explainer,
    judge_index,
    judge_java,
    judge_memory,
    judge_server,
)
from consumer.errors import Problem

GB = 1_000_000_000
SERVER = ServerFacts(
    version=(8, 2, 3),
    modules=frozenset({"rejson", "search"}),
    policy="noeviction",
    persistent=True,
    replicas=0,
    used_bytes=1_500_000,
    max_bytes=0,
    machine_bytes=8 * GB,
    time_ms=0,
)
INDEX = IndexFacts(documents=10, failures=0, missing=(), document_bytes=None)


def levels(findings: list[Finding]) -> list[Level]:
    return [each.level for each in findings]


def test_a_sound_server_is_one_line() -> None:
    (finding,) = judge_server("redis", SERVER, documents=True)
    assert finding == Finding("redis", Level.OK, "8.2.3, noeviction, persistent, 1.5 MB used")


@pytest.mark.parametrize(
    ("changes", "level", "word"),
    [
        ({"version": (7, 0, 15)}, Level.FAIL, "7.2"),
        ({"modules": frozenset({"rejson"})}, Level.FAIL, "Redis Stack"),
        ({"policy": "allkeys-lru"}, Level.FAIL, "noeviction"),
        ({"persistent": False}, Level.WARN, "appendonly"),
    ],
)
def test_each_fault_of_a_server_has_its_remedy(
    changes: dict[str, object], level: Level, word: str
) -> None:
    server = replace(SERVER, **changes)  # type: ignore[arg-type]
    (finding,) = judge_server("redis", server, documents=True)
    assert finding.level is level
    assert word in finding.remedy


def test_a_server_of_entity_state_alone_needs_no_modules() -> None:
    server = replace(SERVER, modules=frozenset())
    assert levels(judge_server("redis", server, documents=False)) == [Level.OK]


def test_memory_is_rate_times_lifetime_times_bytes() -> None:
    finding = judge_memory([SERVER], INDEX, rate=1, ttl_s=3_600)
    assert finding.level is Level.OK
    assert "18 MB" in finding.text
    assert DOCUMENT_BYTES * 3_600 == 18_000_000
    assert "assumed" in finding.text


def test_what_was_measured_is_believed_over_what_was_assumed() -> None:
    finding = judge_memory([SERVER], replace(INDEX, document_bytes=2_000), rate=1, ttl_s=3_600)
    assert "2 KB a document (measured) is 7.2 MB" in finding.text


@pytest.mark.parametrize(
    ("max_bytes", "level"),
    [(100 * GB, Level.OK), (25 * GB, Level.WARN), (17 * GB, Level.FAIL), (0, Level.FAIL)],
)
def test_memory_that_does_not_suffice_is_told(max_bytes: int, level: Level) -> None:
    server = replace(SERVER, max_bytes=max_bytes)
    finding = judge_memory([server], None, rate=1_000, ttl_s=3_600)
    assert finding.level is level
    assert bool(finding.remedy) == (level is not Level.OK)


def test_the_smallest_primary_of_a_cluster_is_full_first() -> None:
    servers = [replace(SERVER, max_bytes=size * GB) for size in (100, 5, 100)]
    finding = judge_memory(servers, None, rate=1_000, ttl_s=3_600)
    assert finding.level is Level.FAIL
    assert "of 15 GB (3 primaries of 5 GB)" in finding.text


def test_an_index_of_another_version_or_with_failures_is_a_warning() -> None:
    assert judge_index(INDEX).level is Level.OK
    assert "on 3 primaries" in judge_index(replace(INDEX, primaries=3)).text
    assert "device" in judge_index(replace(INDEX, missing=("device",))).text
    assert judge_index(replace(INDEX, failures=3)).level is Level.WARN


@pytest.mark.parametrize(
    ("skew_s", "level"), [(-1.9, Level.OK), (2.5, Level.WARN), (-301.0, Level.FAIL)]
)
def test_clocks_may_differ_by_two_seconds(skew_s: float, level: Level) -> None:
    finding = judge_clock({"redis": 0.0, "AWS": skew_s})
    assert finding.level is level
    assert f"{skew_s:+.1f} s to AWS" in finding.text


@pytest.mark.parametrize(
    ("banner", "level"),
    [
        ('openjdk version "21.0.2" 2024-01-16', Level.OK),
        ('openjdk version "25" 2025-09-16', Level.OK),
        ('openjdk version "24-ea" 2025-03-18', Level.OK),
        ('java version "1.8.0_392"', Level.FAIL),
        ('openjdk version "11.0.22" 2024-01-16 LTS', Level.OK),
        ("", Level.FAIL),
    ],
)
def test_java_is_11_or_newer(banner: str, level: Level) -> None:
    assert judge_java("/usr/bin/java", banner).level is level


def test_an_endpoint_answers_within_the_deadline() -> None:
    assert judge_endpoint("endpoint a", None, 0.02, 250).level is Level.OK
    assert judge_endpoint("endpoint a", None, 0.3, 250).level is Level.WARN
    assert judge_endpoint("endpoint a", "status_400", 0.3, 250).level is Level.FAIL


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (None, "no ExplainerConfig"),
        (ExplainerFacts("InService", ("amount", "hour")), "other columns"),
        (ExplainerFacts("InService", ("hour",)), "other columns"),
        (ExplainerFacts("InService", max_rows=19), "takes 19 rows"),
        (ExplainerFacts("InService", logit=True), "log-odds"),
        (ExplainerFacts("Creating"), "is Creating"),
    ],
)
def test_what_keeps_an_endpoint_from_explaining_is_a_warning_with_its_remedy(
    facts: ExplainerFacts | None, said: str
) -> None:
    found = judge_explainer("explained", facts, ["hour", "amount"], 20)
    assert found.level is Level.WARN
    assert said in found.text
    assert found.text.startswith("explained ")
    assert found.remedy


def test_an_endpoint_that_explains_these_columns_is_sound() -> None:
    for facts in (
        ExplainerFacts("InService"),
        ExplainerFacts("InService", ("hour", "amount"), max_rows=20),
    ):
        assert judge_explainer("explained", facts, ["hour", "amount"], 20).level is Level.OK


def test_only_a_failure_is_an_exit_code() -> None:
    warning = Finding("a", Level.WARN, "b", "c")
    (failure,) = from_problems("a", [Problem("settings", "k", "f", "e")])
    assert failure == Finding("a", Level.FAIL, "k: f", "expected e")
    assert exit_code([warning]) == 0
    assert exit_code([warning, failure]) == 1
