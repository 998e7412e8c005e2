"""Rules for tests: a small catalogue, and sets written as one line a rule."""

from collections.abc import Sequence
from typing import Any

import yaml

from consumer.decision import Policy, build_policy
from consumer.errors import Problem, Unavailable
from consumer.model import Scores
from consumer.rules.accepted import Accepted
from consumer.rules.book import RuleBook, WatchLimits
from consumer.rules.cel import Type
from consumer.rules.compilation import RuleSet, compile_rules
from consumer.rules.facts import Case, Catalogue, Fact, build_catalogue
from consumer.rules.lists import Entry, Lists, build_lists
from consumer.rules.specification import Mode, Specification, parse_rules
from consumer.settings import DecisionSettings
from tests.builders import a_transaction

FEATURES = ("amount", "card_count")
CATALOGUE: Catalogue = build_catalogue(
    [Fact(f"f.{name}", Type.NUMBER, "", 1.0) for name in FEATURES], "EUR", ["loyalty"]
)


def a_rule(rule_id: str, when: str, **changes: Any) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": rule_id,
        "version": 1,
        "when": when,
        "outcome": "decline",
        "reason": {"code": f"{rule_id}_code", "text": f"Because of {rule_id}."},
        "examples": {"hits": [{"f.amount": 1}], "misses": [{"f.amount": 0}]},
    }
    return rule | changes


def a_tried_rule(rule_id: str, when: str, hit: Any, miss: Any) -> dict[str, Any]:
    """A rule that does what its examples say, as those that are taken over have to."""
    return a_rule(rule_id, when, examples={"hits": [hit], "misses": [miss]})


LARGE = a_tried_rule("large", "f.amount > 1000.0", {"f.amount": 2000}, {"f.amount": 1})
EVERY = a_tried_rule("every", "f.amount >= 0.0", {"f.amount": 1}, {"f.amount": -1})
NEVER = a_tried_rule("never", "f.amount < 0.0", {"f.amount": -1}, {"f.amount": 1})
LISTED = a_tried_rule("listed", "tx.card_id in lists.blocked", {"lists.blocked": ["card_1"]}, {})


def a_specification(*rules: dict[str, Any], mode: str = "live") -> Specification:
    document = {"version": 1, "mode": mode, "rules": list(rules)}
    return parse_rules(yaml.safe_dump(document, sort_keys=False), "rules.yaml")


def some_lists(**values: Sequence[str | Entry]) -> Lists:
    return build_lists(
        {
            name: [Entry(value) if isinstance(value, str) else value for value in listed]
            for name, listed in values.items()
        }
    )


def a_set(
    *rules: dict[str, Any], lists: Lists | None = None, mode: Mode = Mode.LIVE, whole: str = "live"
) -> RuleSet:
    known = some_lists() if lists is None else lists
    return compile_rules(a_specification(*rules, mode=whole), known, CATALOGUE, mode)


def a_case(
    amount: float = 12.5,
    count: float = 1.0,
    *,
    fraud: float | None = 0.01,
    anomaly: float | None = 0.5,
    time_s: int = 1_780_000_000,
    warming: frozenset[str] = frozenset(),
    **changes: Any,
) -> Case:
    scores = Scores(fraud, anomaly)
    return Case(a_transaction(1, **changes), (amount, count), scores, time_s, warming)


class KeptRuleNews:
    """Telemetry of the book and the poller, kept as words."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.kept: list[Accepted] = []

    def rules_active(self, rules: RuleSet) -> None:
        ids = [each.rule.rule_id for each in rules.rules]
        self.told.append(f"active {' '.join(ids)}".strip())

    def rules_tripped(self, rules: RuleSet, lifted: int, seen: int) -> None:
        self.told.append(f"tripped {lifted} of {seen}")

    def rules_refused(self, problems: Sequence[Problem]) -> None:
        self.told.append(f"refused {len(problems)}")

    def rules_usable(self) -> None:
        """It is told of by what takes over."""

    def rules_kept(self, accepted: Accepted) -> None:
        self.kept.append(accepted)

    def rules_not_kept(self, version: str, cause: str) -> None:
        self.told.append(f"not kept: {cause}")

    def rules_unreachable(self, error: Unavailable) -> None:
        self.told.append(f"unreachable {error.dependency}")


def a_book(
    *rules: dict[str, Any],
    active: RuleSet | None = None,
    share: float = 0.1,
    window: int = 10,
    news: KeptRuleNews | None = None,
) -> RuleBook:
    telemetry = news or KeptRuleNews()
    return RuleBook(active or a_set(*rules), a_policy, WatchLimits(share, window), telemetry)


def a_policy() -> Policy:
    return build_policy(DecisionSettings(), {})
