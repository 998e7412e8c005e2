"""Two sets of rules on the same decisions."""

from typing import Any

import pytest

from consumer.decision import Policy
from consumer.model import Bands, LabelValue, Outcome, Scores
from consumer.rules.backtest import (
    Backtest,
    Shift,
    Truth,
    changed_rules,
    run_backtest,
    shift_of,
    to_json,
)
from consumer.rules.compilation import RuleSet, compile_rules
from consumer.rules.facts import Case
from consumer.rules.specification import Mode
from consumer.settings import DecisionSettings
from tests.builders import a_transaction
from tests.rulebook import CATALOGUE, a_rule, a_specification, some_lists

FRAUD, LEGITIMATE = LabelValue.FRAUD, LabelValue.LEGITIMATE
POLICY = Policy(Bands(0.5, 0.9, 2.0), DecisionSettings())


def a_set(*rules: dict[str, Any]) -> RuleSet:
    return compile_rules(a_specification(*rules), some_lists(), CATALOGUE)


LARGE = a_rule("large", "f.amount > 100.0")
HUGE = a_rule("huge", "f.amount > 1000.0", outcome="review")
SHADOW = a_rule("busy", "f.card_count > 5.0", mode="shadow")


def a_case(number: int, amount: float, *, count: float = 1, fraud: float | None = 0.0) -> Case:
    transaction = a_transaction(number, base_amount_minor=round(amount * 100))
    return Case(transaction, (amount, count), Scores(fraud, 0.0), 1_780_000_000 + number)


def tried(backtest: Backtest, *cases: tuple[Case, LabelValue | None]) -> Backtest:
    for case, label in cases:
        backtest.take(case, label, POLICY)
    return backtest


def test_matches_are_split_by_what_transactions_turned_out_to_be() -> None:
    found = tried(
        Backtest(a_set(LARGE), None),
        (a_case(1, 200), FRAUD),
        (a_case(2, 300), LEGITIMATE),
        (a_case(3, 400), None),
        (a_case(4, 50), FRAUD),
    )
    matches = found.rules["large"].matches
    assert [matches.count[each] for each in Truth] == [1, 1, 1]
    assert [matches.minor[each] for each in Truth] == [20_000, 30_000, 40_000]
    assert matches.precision == 0.5
    assert found.transactions.total == 4
    assert [found.outcomes[each].total for each in Outcome] == [1, 0, 3]


def test_alone_is_what_no_other_rule_and_no_score_does() -> None:
    found = tried(
        Backtest(a_set(LARGE, HUGE), None),
        (a_case(1, 200), FRAUD),
        (a_case(2, 2_000), FRAUD),
        (a_case(3, 200, fraud=0.95), FRAUD),
    )
    assert (found.rules["large"].matches.total, found.rules["large"].alone.total) == (3, 2)
    # A review beside a decline changes nothing.
    assert (found.rules["huge"].matches.total, found.rules["huge"].alone.total) == (1, 0)


def test_a_rule_in_shadow_matches_and_decides_nothing() -> None:
    found = tried(Backtest(a_set(SHADOW), None), (a_case(1, 10, count=9), FRAUD))
    assert found.rules["busy"].shadow
    assert found.rules["busy"].matches.total == 1
    assert found.outcomes[Outcome.APPROVE].total == 1


def test_what_both_sets_decide_otherwise_is_counted_by_direction() -> None:
    live = a_set(LARGE)
    new = a_set(a_rule("large", "f.amount > 150.0"), a_rule("busy", "f.card_count > 5.0"))
    found = tried(
        Backtest(new, live),
        (a_case(1, 120), FRAUD),
        (a_case(2, 10, count=9), LEGITIMATE),
        (a_case(3, 200), FRAUD),
        (a_case(4, 10), LEGITIMATE),
    )
    assert found.shifts[Shift.MISSED].count[Truth.FRAUD] == 1
    assert found.shifts[Shift.DECLINED].count[Truth.LEGITIMATE] == 1
    assert found.changed == {"large", "busy"}
    assert found.former[Outcome.DECLINE].total == found.outcomes[Outcome.DECLINE].total == 2


@pytest.mark.parametrize(
    ("before", "after", "shift"),
    [
        (Outcome.APPROVE, Outcome.APPROVE, None),
        (Outcome.APPROVE, Outcome.DECLINE, Shift.DECLINED),
        (Outcome.REVIEW, Outcome.DECLINE, Shift.DECLINED),
        (Outcome.DECLINE, Outcome.REVIEW, Shift.MISSED),
        (Outcome.DECLINE, Outcome.APPROVE, Shift.MISSED),
        (Outcome.APPROVE, Outcome.REVIEW, Shift.REVIEWED),
        (Outcome.REVIEW, Outcome.APPROVE, Shift.RELEASED),
    ],
)
def test_every_change_of_outcome_has_a_name(
    before: Outcome, after: Outcome, shift: Shift | None
) -> None:
    assert shift_of(before, after) is shift


def test_samples_are_of_what_changed_and_drawn_by_the_seed() -> None:
    live, new = a_set(HUGE), a_set(HUGE, LARGE)
    cases = [(a_case(number, 200), None) for number in range(100)]

    def drawn(seed: int) -> list[str]:
        found = tried(Backtest(new, live, samples=5, seed=seed), (a_case(999, 10), None), *cases)
        return [each.case.transaction.transaction_id for each in found.drawn]

    assert len(drawn(1)) == 5
    assert drawn(1) == drawn(1) != drawn(2)
    assert "tx_999" not in drawn(1)


def test_a_rule_that_decides_as_before_is_not_changed() -> None:
    same = a_rule("large", "f.amount > 100.0", version=2)
    assert changed_rules(a_set(same), a_set(LARGE)) == frozenset()
    assert changed_rules(a_set(HUGE), a_set(LARGE)) == {"huge"}
    assert changed_rules(a_set(LARGE), None) == {"large"}


def test_errors_of_rules_are_counted() -> None:
    optional = a_rule("abroad", "tx.country != 'DE'", on_error="skip")
    found = tried(Backtest(a_set(optional), None), (a_case(1, 10), None))
    assert to_json(found, 2)["rules"]["abroad"]["errors"] == 1


def test_everything_is_told_to_machines_in_major_units() -> None:
    found = tried(Backtest(a_set(LARGE), a_set(HUGE)), (a_case(1, 200.5), FRAUD))
    told = to_json(found, 2)
    assert told["transactions"]["fraud_amount"] == 200.5
    assert told["rules"]["large"]["matches"]["precision"] == 1.0
    assert told["shifts"]["newly_declined"]["fraud"] == 1
    assert told["outcomes"]["decline"]["precision"] == 1.0
    assert told["outcomes_against"]["approve"]["fraud"] == 1
    assert told["outcomes_against"]["approve"]["precision"] is None
    assert told["samples"][0] | {"reasons": ()} == {
        "why": "newly declined",
        "transaction_id": "tx_1",
        "event_time": "2026-06-01T12:00:01+00:00",
        "card_id": "card_1",
        "merchant_id": "merchant_1",
        "base_amount": 200.5,
        "label": "fraud",
        "fraud_score": 0.0,
        "anomaly_score": 0.0,
        "before": "approve",
        "after": "decline",
        "reasons": (),
        "rules": ("large",),
    }


def test_progress_is_told_now_and_then_and_at_the_end() -> None:
    backtest, heard = Backtest(a_set(LARGE), None), list[int]()
    cases = [(a_case(number, 200), None, POLICY) for number in range(5)]
    run_backtest(backtest, cases, heard.append, every=2)
    assert heard == [2, 4, 5]
    assert backtest.transactions.total == 5


def test_rules_put_together_have_a_hash_of_their_own() -> None:
    small, both = a_specification(LARGE), a_specification(LARGE, HUGE)
    joined = small.with_rules(both.rules, Mode.LIVE)
    assert joined.hash == both.hash != small.hash
    assert joined.source == small.source
