"""Rules on features that are not full: recorded, never deciding."""

import orjson
import pytest

from consumer.document import DocumentFormat, build_document
from consumer.engine import Engine, Incoming
from consumer.evidence import decode_evidence
from consumer.features.specification import parse_plan
from consumer.features.warming import WarmingFeatures
from consumer.model import Decision, Outcome, Ruled, RuleHit
from consumer.row import build_row
from consumer.rules.book import RuleBook, WatchLimits
from consumer.show_command import render
from tests.builders import a_transaction, an_assessment, an_origin
from tests.fakes.clock import FakeClock
from tests.fakes.documents import FakeDocuments
from tests.fakes.entities import FakeEntities
from tests.fakes.warmth import FakeWarmth
from tests.rulebook import KeptRuleNews, a_book, a_case, a_policy, a_rule, a_set
from tests.unit.test_worker import FakeScoring, Silence

COUNTED = a_rule("counted", "f.card_count >= 1.0")
LARGE = a_rule("large", "f.amount >= 1.0", outcome="review")
WARMING = frozenset({"card_count"})


def names(hits: tuple[RuleHit, ...]) -> list[str]:
    return [hit.rule_id for hit in hits]


def test_a_rule_on_a_warming_feature_is_in_shadow_and_others_decide() -> None:
    decision, ruled = a_book(COUNTED, LARGE).decide(a_case(warming=WARMING))
    assert (names(ruled.live), names(ruled.shadow), names(ruled.warming)) == (
        ["large"],
        ["counted"],
        ["counted"],
    )
    assert (decision.outcome, decision.reasons) == (Outcome.REVIEW, ("large_code",))


def test_it_decides_as_soon_as_the_feature_is_full() -> None:
    decision, ruled = a_book(COUNTED).decide(a_case())
    assert (decision.outcome, ruled.warming) == (Outcome.DECLINE, ())


@pytest.mark.parametrize("outcome", ["approve", "decline", {"add": 0.9}])
def test_no_outcome_counts_while_warming(outcome: object) -> None:
    rule = a_rule("counted", "f.card_count >= 1.0", outcome=outcome)
    decision, _ = a_book(rule, LARGE).decide(a_case(warming=WARMING))
    assert (decision.outcome, decision.risk) == (Outcome.REVIEW, None)


def test_a_rule_without_value_asks_for_nothing_while_warming() -> None:
    text = '"x" == tx.country && f.card_count >= 1.0'
    rule = a_rule("broken", text, on_error="decline")
    decision, ruled = a_book(rule).decide(a_case(warming=WARMING))
    assert (decision.outcome, ruled.errors) == (Outcome.APPROVE, ("broken",))
    assert names(ruled.warming) == names(ruled.shadow) == ["broken"]


def test_a_rule_that_is_in_shadow_anyway_is_not_marked() -> None:
    rule = a_rule("counted", "f.card_count >= 1.0", mode="shadow")
    _, ruled = a_book(rule).decide(a_case(warming=WARMING))
    assert (names(ruled.shadow), ruled.warming) == (["counted"], ())


def test_scores_decide_as_ever_while_warming() -> None:
    decision, _ = a_book(COUNTED).decide(a_case(fraud=0.95, warming=WARMING))
    assert decision.reasons == ("fraud_score_high",)


def test_who_knows_better_lets_them_decide() -> None:
    limits = WatchLimits(0.1, 10)
    book = RuleBook(a_set(COUNTED), a_policy, limits, KeptRuleNews(), warming="live")
    for decision, ruled in (f(a_case(warming=WARMING)) for f in (book.decide, book.look)):
        assert decision.outcome is Outcome.DECLINE
        assert (names(ruled.live), ruled.warming) == (["counted"], ())


def test_a_second_look_is_as_careful_as_the_first() -> None:
    decision, ruled = a_book(COUNTED).look(a_case(warming=WARMING))
    assert (decision.outcome, names(ruled.warming)) == (Outcome.APPROVE, ["counted"])


def test_document_row_and_show_say_why_it_was_in_shadow() -> None:
    hit = RuleHit("counted", 2, Outcome.DECLINE, 0.0, "counted", "Counted.")
    odd = RuleHit("odd", 1, Outcome.REVIEW, 0.0, "odd", "Odd.")
    ruled = Ruled((), (odd, hit), (), "a" * 64, "b" * 64, (hit,))
    assessed = an_assessment(1, decision=Decision(Outcome.APPROVE, ()), rules=ruled)
    form = DocumentFormat(("amount", "card_count"), "f" * 64, "EUR")
    document = build_document(assessed, form)
    rules = orjson.loads(document)["rules"]
    assert (rules["shadow"], rules["warming"]) == (["odd@1", "counted@2"], ["counted@2"])
    assert orjson.loads(build_row(document))["shadow_rules"] == ["odd@1", "counted@2"]
    lines = list(render(decode_evidence(document)))
    assert any("odd@1, counted@2 (a feature of it was warming)" in line for line in lines)


def test_a_rule_goes_live_by_itself_at_the_event_that_finds_its_feature_full() -> None:
    plan = parse_plan(
        """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: amount, field: amount}
  - {name: card_count, entity: card, aggregation: count, windows: [1h]}
""",
        source="rules",
    )
    features = WarmingFeatures(FakeEntities(), FakeWarmth(), plan, horizon_s=90_000)
    engine = Engine(
        features=features,
        scoring=FakeScoring(),
        documents=FakeDocuments(DocumentFormat(plan.names, plan.hash, "EUR")),
        judge=a_book(COUNTED),
        clock=FakeClock(),
        timing=Silence(),
    )
    full = 3_600 + 60
    seconds = (0, full - 1, full, full + 9)
    chunk = [Incoming(a_transaction(second), an_origin(second)) for second in seconds]
    found = engine.assess(engine.dispatch(chunk))
    assert [each.decision.outcome for each in found] == ["approve", "approve", "decline", "decline"]
    assert [names(each.rules.warming) for each in found] == [["counted"], ["counted"], [], []]
    again = engine.assess(engine.dispatch(chunk[1:2]))
    assert again[0].decision.outcome is Outcome.APPROVE, "a redelivery decides alike"
