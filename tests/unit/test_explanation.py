import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from consumer.errors import Unavailable
from consumer.explanation import Explainer
from consumer.model import Decision, Outcome, TransactionId
from consumer.model_process import ModelProcess
from tests.builders import an_assessment

# Answers the columns of a vector with its values, as if each were its own contribution.
ECHO = """
import json, sys
for line in sys.stdin:
    rows = json.loads(line)
    print(json.dumps([[[i, v] for i, v in enumerate(row)] for row in rows]), flush=True)
"""
NAMES = ("amount", "count")
DECLINED = an_assessment(decision=Decision(Outcome.DECLINE, ("fraud_score_high",)))


@dataclass
class Desk:
    """What an explainer wrote and counted."""

    written: dict[TransactionId, bytes] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    failing: bool = False
    held: threading.Event = field(default_factory=threading.Event)
    explainers: list[Explainer] = field(default_factory=list)

    def write(self, transaction_id: TransactionId, explanation: bytes) -> None:
        self.held.wait(10)
        if self.failing:
            raise Unavailable("redis", "away")
        self.written[transaction_id] = explanation

    def explainer(self, program: str = ECHO) -> Explainer:
        command = [sys.executable, "-c", program]
        explainer = Explainer(
            ModelProcess(command),
            NAMES,
            self.write,
            lambda outcome, n: self.counts.update({outcome: n}),
        )
        self.explainers.append(explainer)
        return explainer


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    desk.held.set()
    yield desk
    desk.held.set()
    for explainer in desk.explainers:
        explainer.close()


def test_reviews_and_declines_are_explained_by_name_and_value(desk: Desk) -> None:
    explainer = desk.explainer()
    explainer.observe([an_assessment(2), DECLINED])
    explainer.close()
    (explanation,) = desk.written.values()
    assert json.loads(explanation) == [
        {"feature": "amount", "value": 12.5, "contribution": 12.5},
        {"feature": "count", "value": 1.0, "contribution": 1.0},
    ]
    assert desk.counts == {"written": 1}


def test_a_full_queue_drops_and_counts_instead_of_waiting(desk: Desk) -> None:
    desk.held.clear()
    explainer = desk.explainer()
    explainer.observe([DECLINED] * 600)
    assert desk.counts["dropped"] > 0


def test_more_than_a_batch_is_explained(desk: Desk) -> None:
    explainer = desk.explainer()
    explainer.observe([DECLINED] * 100)
    explainer.close()
    assert desk.counts == {"written": 100}


@pytest.mark.parametrize("program", ["", "print('nonsense')", "print('[]')"])
def test_a_process_that_fails_costs_explanations_only(desk: Desk, program: str) -> None:
    explainer = desk.explainer(program)
    explainer.observe([DECLINED])
    explainer.close()
    assert desk.written == {}
    assert desk.counts == {"dropped": 1}


def test_a_process_that_ended_is_not_started_again_at_once(desk: Desk) -> None:
    explainer = desk.explainer("")
    for turn in range(1, 4):
        explainer.observe([DECLINED])
        while desk.counts["dropped"] < turn:
            pass
    assert desk.written == {}


def test_redis_away_costs_explanations_only(desk: Desk) -> None:
    desk.failing = True
    explainer = desk.explainer()
    explainer.observe([DECLINED])
    while not desk.counts:
        pass
    desk.failing = False
    explainer.observe([DECLINED])
    explainer.close()
    assert desk.counts == {"dropped": 1, "written": 1}
