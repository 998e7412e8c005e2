import pytest

from consumer.decision import build_policy, decide
from consumer.model import Outcome, Scores
from consumer.settings import DecisionSettings

POLICY = build_policy(DecisionSettings(fraud_review=0.5, fraud_decline=0.9, anomaly_review=2.0), {})
AMOUNT = 1_250


@pytest.mark.parametrize(
    ("fraud", "anomaly", "outcome", "reasons"),
    [
        (0.49, 1.99, Outcome.APPROVE, ()),
        (0.5, 0.0, Outcome.REVIEW, ("fraud_score_elevated",)),
        (0.9, 0.0, Outcome.DECLINE, ("fraud_score_high",)),
        (0.0, 2.0, Outcome.REVIEW, ("anomaly_score_high",)),
        (0.6, 2.0, Outcome.REVIEW, ("fraud_score_elevated", "anomaly_score_high")),
        (1.0, 9.0, Outcome.DECLINE, ("fraud_score_high", "anomaly_score_high")),
    ],
)
def test_the_strongest_outcome_any_score_asks_for_stands(
    fraud: float, anomaly: float, outcome: Outcome, reasons: tuple[str, ...]
) -> None:
    decision = decide(Scores(fraud, anomaly), POLICY, AMOUNT)
    assert (decision.outcome, decision.reasons) == (outcome, reasons)


@pytest.mark.parametrize(
    ("policy", "outcome"), [("rules_only", Outcome.APPROVE), ("review", Outcome.REVIEW)]
)
def test_a_missing_score_that_leaves_the_decision_open_follows_the_policy(
    policy: str, outcome: Outcome
) -> None:
    settings = build_policy(DecisionSettings.model_validate({"degraded": policy}), {})
    decision = decide(Scores(None, 0.1, ("fraud:timeout",)), settings, AMOUNT)
    assert decision.outcome is outcome
    assert decision.reasons == ("score_missing",)


def test_a_missing_score_never_weakens_what_the_other_one_says() -> None:
    policy = build_policy(DecisionSettings(degraded="rules_only"), {})
    decision = decide(Scores(0.95, None, ("anomaly:status_500",)), policy, AMOUNT)
    assert decision.outcome is Outcome.DECLINE
    assert decision.reasons == ("fraud_score_high", "score_missing")


def test_without_any_score_the_policy_decides() -> None:
    scores = Scores(None, None, ("fraud:timeout", "anomaly:timeout"))
    assert decide(scores, build_policy(DecisionSettings(), {}), AMOUNT).outcome is Outcome.REVIEW
