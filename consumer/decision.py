"""Rules and scores to an outcome with its reasons: a pure function, settings included."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from consumer.bands import ModelBands, resolve_bands
from consumer.degraded import decide_degraded
from consumer.model import NO_RULES, Bands, Decision, Outcome, Ruled, RuleHit, Scores
from consumer.settings import DecisionSettings

FRAUD_DECLINE = "fraud_score_high"
FRAUD_REVIEW = "fraud_score_elevated"
ANOMALY_REVIEW = "anomaly_score_high"
DEGRADED = "score_missing"

TEXTS = {
    FRAUD_DECLINE: "The transaction looks very much like known fraud.",
    FRAUD_REVIEW: "The transaction resembles known fraud.",
    ANOMALY_REVIEW: "The transaction is unlike what this card and merchant usually do.",
    DEGRADED: "An automatic check did not answer in time.",
}
"""What an agent may read out, for each code that is not a rule's."""

_SCORE_DECIMALS = 12

# Outcome asked for, code, text; in the order of strength within an outcome.
_Reason = tuple[Outcome, str, str]


@dataclass(frozen=True, slots=True)
class Policy:
    """The bands in force, and what to do without scores."""

    bands: Bands
    settings: DecisionSettings


def build_policy(settings: DecisionSettings, models: Mapping[str, ModelBands]) -> Policy:
    """
    The policy of *settings*, with the bands of *models*, by score, where they say ``model``.

    Raises Misconfigured where those are missing.
    """
    return Policy(resolve_bands(settings, models), settings)


def decide(
    scores: Scores,
    policy: Policy,
    base_amount_minor: int,
    ruled: Ruled = NO_RULES,
) -> Decision:
    """
    The strongest outcome that a rule or a score asks for, reasons strongest first.

    A live rule that approves ends it: allow lists come before everything. Then come rules
    that decline and the band of the fraud score that does, then what asks for review.
    Thresholds are inclusive; what rules add counts towards the fraud score, from 0 where that
    is missing. A missing score asks for nothing by itself; only when nothing else speaks
    against the transaction does the policy for degraded decisions apply, which may look at
    *base_amount_minor*.
    """
    allowed = [hit for hit in ruled.live if hit.outcome is Outcome.APPROVE]
    if allowed:
        told = [(hit.code, hit.text) for hit in allowed]
        return _decision(Outcome.APPROVE, told, None, policy.bands)
    risk = _risk(scores.fraud, ruled.live)
    fraud = scores.fraud if risk is None else risk
    reasons = list(_reasons(fraud, scores.anomaly, policy.bands, ruled.live))
    declining = [reason for reason in reasons if reason[0] is Outcome.DECLINE]
    reviewing = [reason for reason in reasons if reason[0] is Outcome.REVIEW]
    outcome = Outcome.APPROVE
    if reasons:
        outcome = Outcome.DECLINE if declining else Outcome.REVIEW
    told = [(code, text) for _, code, text in declining + reviewing]
    if reasons and risk is not None:
        told += [(hit.code, hit.text) for hit in ruled.live if hit.outcome is None]
    if scores.degraded:
        if outcome is Outcome.APPROVE:
            outcome = decide_degraded(policy.settings, base_amount_minor)
        told.append((DEGRADED, TEXTS[DEGRADED]))
    return _decision(outcome, told, risk, policy.bands)


def _reasons(
    fraud: float | None, anomaly: float | None, bands: Bands, hits: Iterable[RuleHit]
) -> Iterator[_Reason]:
    for hit in hits:
        if hit.outcome is not None:
            yield hit.outcome, hit.code, hit.text
    if fraud is not None and fraud >= bands.fraud_decline:
        yield Outcome.DECLINE, FRAUD_DECLINE, TEXTS[FRAUD_DECLINE]
    elif fraud is not None and fraud >= bands.fraud_review:
        yield Outcome.REVIEW, FRAUD_REVIEW, TEXTS[FRAUD_REVIEW]
    if anomaly is not None and anomaly >= bands.anomaly_review:
        yield Outcome.REVIEW, ANOMALY_REVIEW, TEXTS[ANOMALY_REVIEW]


def _risk(fraud: float | None, hits: Iterable[RuleHit]) -> float | None:
    """The fraud score with what *hits* add, within [0, 1]; None where none adds."""
    adds = [hit.add for hit in hits if hit.outcome is None]
    if not adds:
        return None
    return round(min(max((fraud or 0.0) + sum(adds), 0.0), 1.0), _SCORE_DECIMALS)


def _decision(
    outcome: Outcome, told: list[tuple[str, str]], risk: float | None, bands: Bands
) -> Decision:
    """Several rules may give one reason; it is told once."""
    texts = dict(reversed(told))
    codes = tuple(dict.fromkeys(code for code, _ in told))
    return Decision(outcome, codes, tuple(texts[code] for code in codes), risk, bands)
