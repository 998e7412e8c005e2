"""What to do with a transaction that lacks a score and that nothing else speaks against."""

from consumer.model import Outcome
from consumer.settings import DecisionSettings


def decide_degraded(policy: DecisionSettings, base_amount_minor: int) -> Outcome:
    """
    Return the outcome for a purchase of *base_amount_minor*, in the base currency.

    ``rules_only`` is content with what could speak and did not: it approves.
    ``approve_below`` takes the risk of small amounts and has people look at the
    rest; ``review`` has them look at everything.
    """
    small = base_amount_minor < policy.degraded_approve_below_minor
    if policy.degraded == "rules_only" or (policy.degraded == "approve_below" and small):
        return Outcome.APPROVE
    return Outcome.REVIEW
