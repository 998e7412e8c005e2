"""Rules and scores together: which one wins, and what is told of it."""

import pytest

from consumer.decision import TEXTS, build_policy, decide
from consumer.model import Decision, Outcome, Ruled, RuleHit, Scores
from consumer.settings import DecisionSettings

POLICY = build_policy(DecisionSettings(fraud_review=0.5, fraud_decline=0.9, anomaly_review=2.0), {})


def a_hit(code: str, outcome: Outcome | None, add: float = 0.0) -> RuleHit:
    return RuleHit(f"rule_{code}", 1, outcome, add, code, f"Text of {code}.")


ALLOW = a_hit("trusted", Outcome.APPROVE)
BLOCK = a_hit("blocked", Outcome.DECLINE)
LOOK = a_hit("busy", Outcome.REVIEW)


def decided(*hits: RuleHit, fraud: float | None = 0.0, anomaly: float | None = 0.0) -> Decision:
    degraded = () if fraud is not None and anomaly is not None else ("x:timeout",)
    return decide(Scores(fraud, anomaly, degraded), POLICY, 1_250, Ruled(live=hits))


def test_a_rule_that_approves_comes_before_everything() -> None:
    decision = decided(BLOCK, ALLOW, LOOK, fraud=1.0, anomaly=None)
    assert (decision.outcome, decision.reasons) == (Outcome.APPROVE, ("trusted",))
    assert (decision.texts, decision.bands) == (("Text of trusted.",), POLICY.bands)


def test_declining_comes_before_reviewing_and_rules_before_scores() -> None:
    decision = decided(LOOK, BLOCK, fraud=0.95, anomaly=3.0)
    assert decision.outcome is Outcome.DECLINE
    assert decision.reasons == ("blocked", "fraud_score_high", "busy", "anomaly_score_high")
    assert decision.texts[:2] == ("Text of blocked.", TEXTS["fraud_score_high"])


def test_a_rule_reviews_what_the_scores_approve() -> None:
    assert decided(LOOK).outcome is Outcome.REVIEW


def test_shadow_hits_decide_nothing() -> None:
    ruled = Ruled(shadow=(BLOCK,))
    decision = decide(Scores(0.0, 0.0), POLICY, 1_250, ruled)
    assert decision == Decision(Outcome.APPROVE, (), bands=POLICY.bands)


@pytest.mark.parametrize(
    ("fraud", "adds", "outcome", "risk"),
    [
        (0.3, (0.1,), Outcome.APPROVE, 0.4),
        (0.3, (0.1, 0.1), Outcome.REVIEW, 0.5),
        (0.85, (0.05,), Outcome.DECLINE, 0.9),
        (0.95, (0.4,), Outcome.DECLINE, 1.0),
        (0.6, (-0.7,), Outcome.APPROVE, 0.0),
    ],
)
def test_what_rules_add_counts_towards_the_fraud_score(
    fraud: float, adds: tuple[float, ...], outcome: Outcome, risk: float
) -> None:
    decision = decided(*[a_hit(f"add_{n}", None, add) for n, add in enumerate(adds)], fraud=fraud)
    assert (decision.outcome, decision.risk) == (outcome, risk)


def test_additions_are_reasons_only_where_the_transaction_is_not_approved() -> None:
    added = a_hit("odd", None, 0.2)
    assert decided(added, fraud=0.4).reasons == ("fraud_score_elevated", "odd")
    assert decided(added, fraud=0.1).reasons == ()


def test_without_a_fraud_score_additions_count_from_zero() -> None:
    decision = decided(a_hit("odd", None, 0.6), fraud=None)
    assert (decision.outcome, decision.risk) == (Outcome.REVIEW, 0.6)
    assert decision.reasons == ("fraud_score_elevated", "odd", "score_missing")


def test_a_reason_that_several_rules_give_is_told_once() -> None:
    other = RuleHit("other", 1, Outcome.REVIEW, 0.0, "busy", "Another text.")
    decision = decided(LOOK, other)
    assert (decision.reasons, decision.texts) == (("busy",), ("Text of busy.",))


def test_a_rule_that_spoke_leaves_nothing_open_to_the_degraded_policy() -> None:
    decision = decided(LOOK, anomaly=None)
    assert (decision.outcome, decision.reasons) == (Outcome.REVIEW, ("busy", "score_missing"))
    assert decided(BLOCK, anomaly=None).outcome is Outcome.DECLINE
