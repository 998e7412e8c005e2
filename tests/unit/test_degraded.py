import pytest

from consumer.degraded import decide_degraded
from consumer.model import Outcome
from consumer.settings import DecisionSettings


@pytest.mark.parametrize(
    ("policy", "amount_minor", "outcome"),
    [
        ("rules_only", 1_000_000, Outcome.APPROVE),
        ("review", 1, Outcome.REVIEW),
        ("approve_below", 4_999, Outcome.APPROVE),
        ("approve_below", 5_000, Outcome.REVIEW),
    ],
)
def test_the_policy_decides_what_is_done_without_a_score(
    policy: str, amount_minor: int, outcome: Outcome
) -> None:
    settings = DecisionSettings.model_validate(
        {"degraded": policy, "degraded_approve_below_minor": 5_000}
    )
    assert decide_degraded(settings, amount_minor) is outcome
