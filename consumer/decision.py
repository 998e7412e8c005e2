"""Scores to an outcome with its reasons: a pure function of scores and settings."""

from consumer.degraded import decide_degraded
from consumer.model import Decision, Outcome, Scores
from consumer.settings import DecisionSettings

FRAUD_DECLINE = "fraud_score_high"
FRAUD_REVIEW = "fraud_score_elevated"
ANOMALY_REVIEW = "anomaly_score_high"
DEGRADED = "score_missing"


def decide(scores: Scores, policy: DecisionSettings, base_amount_minor: int) -> Decision:
    """
    The strongest outcome that any score asks for, reasons strongest first.

    Thresholds are inclusive. A missing score asks for nothing by itself; only
    when nothing else speaks against the transaction does the policy for
    degraded decisions apply, which may look at *base_amount_minor*.
    """
    reasons = []
    outcome = Outcome.APPROVE
    if scores.fraud is not None and scores.fraud >= policy.fraud_decline:
        outcome = Outcome.DECLINE
        reasons.append(FRAUD_DECLINE)
    elif scores.fraud is not None and scores.fraud >= policy.fraud_review:
        outcome = Outcome.REVIEW
        reasons.append(FRAUD_REVIEW)
    if scores.anomaly is not None and scores.anomaly >= policy.anomaly_review:
        outcome = Outcome.DECLINE if outcome is Outcome.DECLINE else Outcome.REVIEW
        reasons.append(ANOMALY_REVIEW)
    if scores.degraded:
        if outcome is Outcome.APPROVE:
            outcome = decide_degraded(policy, base_amount_minor)
        reasons.append(DEGRADED)
    return Decision(outcome=outcome, reasons=tuple(reasons))
