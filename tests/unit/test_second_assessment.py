"""What was decided without a score is assessed again, and the decision stays."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from consumer.errors import Unavailable
from consumer.model import (
    Assessment,
    Decision,
    Observation,
    Outcome,
    Scores,
    TransactionId,
)
from consumer.second_assessment import SecondAssessor, SecondDesk, compare
from consumer.settings import SecondAssessmentSettings
from tests.builders import an_assessment
from tests.fakes.clock import FakeClock
from tests.fakes.endpoints import FakeEndpoint
from tests.rulebook import a_book, a_rule

LOST = Scores(None, 0.7, ("fraud:timeout",))
REVIEWED = Decision(Outcome.REVIEW, ("score_missing",))


def degraded(number: int = 1, fraud: float = 0.1, **changes: Any) -> Assessment:
    """Decided without its fraud score, which its endpoint, asked again, says is *fraud*."""
    assessment = an_assessment(
        number,
        scores=LOST,
        decision=REVIEWED,
        observation=Observation((fraud, 1.0), ()),
        decided_ms=FakeClock().now_ms(),
    )
    return replace(assessment, **changes)


@dataclass
class Bench:
    """An assessor between fakes, stepped by hand, and what came of it."""

    fraud: FakeEndpoint = field(default_factory=lambda: FakeEndpoint("fraud"))
    anomaly: FakeEndpoint = field(default_factory=lambda: FakeEndpoint("anomaly"))
    clock: FakeClock = field(default_factory=FakeClock)
    well: bool = True
    refuse: Callable[[TransactionId], bool | None] = lambda _id: True
    written: dict[TransactionId, dict[str, Any]] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def write(self, transaction_id: TransactionId, assessment: bytes, alert: bytes | None) -> bool:
        accepted = self.refuse(transaction_id)
        if accepted is None:
            raise Unavailable("redis", "away")
        if accepted:
            self.written[transaction_id] = json.loads(assessment)
            if alert is not None:
                self.alerts.append(json.loads(alert))
        return accepted

    def assessor(self, **changes: Any) -> SecondAssessor:
        book = a_book(a_rule("tiny", "f.amount < 0.0001", outcome="decline"))
        desk = SecondDesk(
            endpoints=(self.fraud, self.anomaly),
            well=lambda: self.well,
            judge=book.look,
            write=self.write,
            count=lambda outcome, number: self.counts.update({outcome: number}),
        )
        return SecondAssessor(desk, SecondAssessmentSettings(**changes), self.clock)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_only_the_missing_score_is_asked_for_and_a_worse_outcome_alerts(bench: Bench) -> None:
    assessor = bench.assessor()
    assessor.observe([an_assessment(2), degraded(1, 0.95)])
    bench.clock.sleep(60)
    assert assessor.step() < 1
    assert bench.written == {
        "tx_1": {
            "scores": {"fraud": 0.95, "anomaly": 0.7},
            "outcome": "decline",
            "reasons": ["fraud_score_high"],
            "assessed_ms": bench.clock.now_ms(),
        }
    }
    (alert,) = bench.alerts
    assert (alert["outcome"], alert["decided"]) == ("decline", "review")
    assert (alert["fraud_score"], alert["decided_ms"]) == (0.95, bench.clock.now_ms())
    assert bench.counts == {"worse": 1}
    assert bench.fraud.requests == [([b"0.95,1"], "second-" + "0" * 32)]
    assert bench.anomaly.requests == []


def test_rules_judge_again_and_the_policy_for_missing_scores_does_not(bench: Bench) -> None:
    assessor = bench.assessor()
    assessor.observe([degraded(1, 0.2), degraded(2, 0.00001), degraded(3, 0.6)])
    assessor.step()
    assert {name: each["outcome"] for name, each in bench.written.items()} == {
        "tx_1": "approve",
        "tx_2": "decline",
        "tx_3": "review",
    }
    assert bench.counts == {"milder": 1, "worse": 1, "same": 1}
    assert len(bench.alerts) == 1


def test_both_scores_are_asked_for_where_both_are_missing(bench: Bench) -> None:
    assessor = bench.assessor()
    bench.anomaly.plan(lambda rows: [4.5 for _ in rows])
    assessor.observe([degraded(1, scores=Scores(None, None, ("fraud:timeout", "anomaly:timeout")))])
    assessor.step()
    assert bench.written[TransactionId("tx_1")]["scores"] == {"fraud": 0.1, "anomaly": 4.5}


def test_nothing_is_sent_while_an_endpoint_is_left_alone(bench: Bench) -> None:
    assessor = bench.assessor()
    bench.well = False
    assessor.observe([degraded(1)])
    assessor.step()
    assert bench.fraud.requests == []
    bench.well = True
    assessor.step()
    assert bench.counts == {"milder": 1}


def test_a_failed_request_is_repeated_one_by_one_after_ever_longer_pauses(bench: Bench) -> None:
    assessor = bench.assessor()
    bench.fraud.plan("status_500", "status_424")
    assessor.observe([degraded(number) for number in (1, 2, 3, 4)])
    assert [assessor.step() for _ in range(2)] == [1.0, 2.0]
    assert bench.written == {}
    assert assessor.step() < 1
    # The one that failed by itself has gone behind the others.
    assert list(bench.written) == ["tx_2"]
    assessor.step()
    assert list(bench.written) == ["tx_2", "tx_3", "tx_4"]
    assessor.step()
    assert [len(lines) for lines, _ in bench.fraud.requests] == [4, 1, 1, 2, 1]
    assert bench.counts == {"milder": 4}


def test_redis_away_repeats_from_where_it_stopped(bench: Bench) -> None:
    assessor = bench.assessor()
    bench.refuse = lambda name: None if name == "tx_2" else True
    assessor.observe([degraded(number) for number in (1, 2, 3)])
    assert assessor.step() == 1.0
    assert list(bench.written) == ["tx_1"]
    bench.refuse = lambda _: True
    assessor.step()
    assert list(bench.written) == ["tx_1", "tx_2", "tx_3"]
    assert bench.counts == {"milder": 3}


def test_a_document_that_is_gone_or_assessed_before_counts_as_unwritten(bench: Bench) -> None:
    assessor = bench.assessor()
    bench.refuse = lambda _: False
    assessor.observe([degraded(1, 0.95)])
    assessor.step()
    assert bench.counts == {"unwritten": 1}
    assert bench.alerts == []


def test_the_oldest_give_way_and_what_waited_too_long_is_dropped(bench: Bench) -> None:
    assessor = bench.assessor(waiting=2, give_up_s=10)
    assessor.observe([degraded(number) for number in (1, 2, 3)])
    assert bench.counts == {"dropped": 1}
    bench.clock.sleep(11)
    assessor.observe([degraded(4, decided_ms=bench.clock.now_ms())])
    assessor.step()
    assert list(bench.written) == ["tx_4"]
    assert bench.counts == {"dropped": 3, "milder": 1}


def test_a_vector_that_cannot_be_sent_is_not_waited_for(bench: Bench) -> None:
    assessor = bench.assessor()
    causes = ("fraud:not_finite", "anomaly:not_finite")
    assessor.observe([degraded(1, scores=Scores(None, None, causes))])
    assessor.step()
    assert bench.counts == {"dropped": 1}
    assert bench.fraud.requests == []


def test_requests_respect_the_limits_of_the_endpoint(bench: Bench) -> None:
    bench.fraud.max_rows = 10
    assessor = bench.assessor()
    assessor.observe([degraded(number) for number in range(60)])
    for _ in range(3):
        assessor.step()
    sizes = [len(lines) for lines, _ in bench.fraud.requests]
    assert sizes == [10, 10, 5, 10, 10, 5, 10]
    assert len(bench.written) == 60


def test_a_thread_works_until_it_is_closed_and_the_rest_is_dropped(bench: Bench) -> None:
    assessor = bench.assessor()
    assessor.observe([degraded(number) for number in range(30)])
    assessor.start()
    bench.fraud.await_request()
    bench.fraud.await_request()
    bench.well = False
    assessor.observe([degraded(99)])
    assessor.close()
    assert bench.counts == {"milder": 30, "dropped": 1}


@pytest.mark.parametrize("first", Outcome)
def test_outcomes_are_compared_by_how_hard_they_are(first: Outcome) -> None:
    assert compare(first, first) == "same"
    assert compare(Outcome.DECLINE, Outcome.REVIEW) == "worse"
    assert compare(Outcome.APPROVE, Outcome.DECLINE) == "milder"
