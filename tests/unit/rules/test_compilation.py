"""Rules as one expression: what each name means, and what an error costs."""

from datetime import UTC, datetime

import pytest

from consumer.errors import Misconfigured, Problem
from consumer.model import Outcome, Ruled
from consumer.rules.compilation import compile_rules, weaker
from consumer.rules.lists import Entry
from consumer.rules.specification import Mode, parse_rules
from tests.rulebook import (
    CATALOGUE,
    a_case,
    a_rule,
    a_set,
    a_specification,
    some_lists,
)


def ids(hits: object) -> list[str]:
    assert isinstance(hits, tuple)
    return [hit.rule_id for hit in hits]


def problems_of(text: str) -> list[Problem]:
    with pytest.raises(Misconfigured) as refused:
        compile_rules(parse_rules(text, "rules.yaml"), some_lists(), CATALOGUE)
    return list(refused.value.problems)


def hit(when: str, **changes: object) -> bool:
    ruled = a_set(a_rule("one", when), lists=some_lists(blocked=["card_1"], empty=[])).evaluate(
        a_case(**changes)  # type: ignore[arg-type]
    )
    assert not ruled.errors
    return bool(ruled.live)


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("f.amount > 12.0 && f.card_count == 1.0", True),
        ("f.amount > 12.5", False),
        ("tx.amount == 12.5 && tx.base_amount == 12.5", True),
        ("tx.card_id in lists.blocked", True),
        ("tx.card_id in lists.empty", False),
        ("tx.merchant_id in lists.blocked", False),
        ("!(tx.card_id in lists.blocked)", False),
        ("tx.country in lists.blocked", False),
        ("has(tx.country)", False),
        ("has(tx.country) && tx.country == 'DE'", False),
        ("has(scores.fraud) && scores.fraud < 0.5", True),
        ("scores.anomaly >= 0.5", True),
        ("tx.event_time.getHours() == 12 // at noon, f.nothing", True),
        ("tx.kind == 'purchase' && 'f.nothing' != \"tx\"", True),
        ("tx.currency in ['EUR', 'USD']", True),
    ],
)
def test_an_expression_sees_fields_features_scores_and_lists(when: str, *, expected: bool) -> None:
    assert hit(when) is expected


def test_optional_and_further_fields_are_read_where_they_are() -> None:
    changes = {"country": "DE", "latitude": 52.5, "extra": {"loyalty": "gold"}}
    assert hit("has(tx.country) && tx.country == 'DE' && tx.latitude > 50.0", **changes)
    assert hit("has(tx.loyalty) && tx.loyalty == 'gold'", **changes)


def test_an_entry_of_a_list_stops_counting_at_its_end() -> None:
    end = datetime(2026, 6, 1, 12, tzinfo=UTC)
    lists = some_lists(blocked=[Entry("card_1", until=end)])
    rules = a_set(a_rule("listed", "tx.card_id in lists.blocked"), lists=lists)
    end_s = int(end.timestamp())
    assert ids(rules.evaluate(a_case(time_s=end_s - 1)).live) == ["listed"]
    assert ids(rules.evaluate(a_case(time_s=end_s)).live) == []


def test_every_rule_that_hits_is_told_in_the_order_of_the_file() -> None:
    rules = a_set(
        a_rule("first", "f.amount > 1.0", outcome="review"),
        a_rule("second", "f.amount > 100.0"),
        a_rule("third", "f.amount > 2.0", outcome={"add": 0.25}),
    )
    first, third = rules.evaluate(a_case()).live
    assert (first.rule_id, first.outcome, first.code) == ("first", Outcome.REVIEW, "first_code")
    assert (third.rule_id, third.outcome, third.add) == ("third", None, 0.25)


def test_more_rules_than_an_integer_has_bits_all_answer() -> None:
    rules = a_set(*[a_rule(f"rule_{n}", f"f.card_count >= {n}.0") for n in range(1, 131)])
    assert len(rules.evaluate(a_case(count=129.0)).live) == 129
    assert len(rules.evaluate(a_case(count=130.0)).live) == 130


def test_rules_nested_as_deeply_as_possible_share_no_expression() -> None:
    deep = "(" * 27 + "f.amount > 1.0" + ")" * 27
    rules = a_set(*[a_rule(f"rule_{n}", deep) for n in range(20)])
    assert len(rules.evaluate(a_case()).live) == 20


def test_a_rule_too_deep_for_any_expression_is_refused() -> None:
    deep = "(" * 31 + "f.amount > 1.0" + ")" * 31
    with pytest.raises(Misconfigured, match="recursion"):
        a_set(a_rule("deep", deep))


def test_shadow_hits_are_recorded_and_rules_that_are_off_are_not_evaluated() -> None:
    rules = a_set(
        a_rule("live", "true"),
        a_rule("shadowed", "true", mode="shadow"),
        a_rule("off", "true", mode="off"),
    )
    ruled = rules.evaluate(a_case())
    assert (ids(ruled.live), ids(ruled.shadow)) == (["live"], ["shadowed"])


@pytest.mark.parametrize(
    ("settings", "whole", "live", "shadow"),
    [
        (Mode.LIVE, "live", ["one"], []),
        (Mode.SHADOW, "live", [], ["one"]),
        (Mode.LIVE, "shadow", [], ["one"]),
        (Mode.OFF, "live", [], []),
        (Mode.SHADOW, "off", [], []),
    ],
)
def test_the_whole_set_can_be_switched_by_the_settings_and_by_its_file(
    settings: Mode, whole: str, live: list[str], shadow: list[str]
) -> None:
    ruled = a_set(a_rule("one", "true"), mode=settings, whole=whole).evaluate(a_case())
    assert (ids(ruled.live), ids(ruled.shadow)) == (live, shadow)


def test_the_weaker_of_two_modes_holds() -> None:
    assert weaker(Mode.LIVE, Mode.OFF) is Mode.OFF
    assert weaker(Mode.SHADOW, Mode.LIVE) is Mode.SHADOW


def test_a_set_without_rules_says_nothing() -> None:
    ruled = a_set().evaluate(a_case())
    assert (ruled.live, ruled.shadow, ruled.errors) == ((), (), ())


def test_a_rule_without_a_value_is_named_and_the_others_still_count() -> None:
    rules = a_set(
        a_rule("guilty", "tx.country == 'DE'"),
        a_rule("other", "f.amount > 1.0"),
        a_rule("silent", "f.amount > 100.0"),
    )
    ruled = rules.evaluate(a_case())
    assert (ids(ruled.live), ruled.errors) == (["other"], ("guilty",))


@pytest.mark.parametrize(
    ("on_error", "mode", "live", "shadow"),
    [
        ("review", "live", [Outcome.REVIEW], []),
        ("decline", "live", [Outcome.DECLINE], []),
        ("review", "shadow", [], [Outcome.REVIEW]),
        ("skip", "live", [], []),
    ],
)
def test_what_an_error_asks_for_is_the_rules_own_choice(
    on_error: str, mode: str, live: list[Outcome], shadow: list[Outcome]
) -> None:
    rules = a_set(a_rule("guilty", "scores.fraud > 0.5", on_error=on_error, mode=mode))
    ruled = rules.evaluate(a_case(fraud=None))
    assert [each.outcome for each in ruled.live] == live
    assert [each.outcome for each in ruled.shadow] == shadow
    assert ruled.errors == ("guilty",)
    assert {each.code for each in ruled.live + ruled.shadow} <= {"rule_not_evaluated"}


def test_the_hashes_follow_rules_and_lists() -> None:
    one = a_set(a_rule("one", "true"), lists=some_lists(blocked=["a"])).evaluate(a_case())
    same = a_set(a_rule("one", "true"), lists=some_lists(blocked=["a"])).evaluate(a_case())
    other = a_set(a_rule("one", "false"), lists=some_lists(blocked=["b"])).evaluate(a_case())
    assert (one.rules_hash, one.lists_hash) == (same.rules_hash, same.lists_hash)
    assert one.rules_hash != other.rules_hash
    assert one.lists_hash != other.lists_hash


RULES = """\
version: 1
rules:
  - id: inline
    when: f.amount > 1000
    outcome: review
    reason: {code: a, text: A.}
    examples: {hits: [{}], misses: [{}]}
  - id: block
    when: |
      f.amount > 1.0
        && f.nothing > 1.0
    outcome: review
    reason: {code: a, text: A.}
    examples: {hits: [{}], misses: [{}]}
  - id: folded
    when: >
      f.amount > 1.0 &&
      tx.amount >
    outcome: review
    reason: {code: a, text: A.}
    examples: {hits: [{}], misses: [{}]}
  - id: quoted
    when: "f.amount + 1.0"
    outcome: review
    reason: {code: a, text: A.}
    examples: {hits: [{}], misses: [{}]}
"""


def test_every_mistake_is_told_at_its_line_and_column() -> None:
    inline, block, folded, quoted = problems_of(RULES)
    assert (inline.source, inline.key) == ("rules.yaml:4:20", "rule inline")
    assert "write numbers with a decimal point: 1000.0" in inline.found
    assert block.source == "rules.yaml:11:12"
    assert block.found == ("f.nothing, a name that does not exist (there is amount, card_count)")
    assert folded.source == "rules.yaml:16"
    assert folded.key.startswith("rule folded, line ")
    assert (quoted.source, quoted.found) == (
        "rules.yaml:23:12",
        "an expression that is neither true nor false",
    )


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("tx.contry == 'DE'", "tx.contry, a name that does not exist (did you mean tx.country?)"),
        ("scores.x > 0.1", "scores.x, a name that does not exist (there is anomaly, fraud)"),
        ("tx.card_id in lists.bloked", "a list that does not exist (did you mean lists.blocked?)"),
        ("1 / 0 == 1", "an expression that never has a value: divide by zero"),
        ("tx.card_id.matches('[')", "invalid regular expression: missing ]: ["),
        ('matches(tx.card_id, r"a(")', "invalid regular expression: missing ): a("),
        ("has(tx.contry)", "tx.contry, a name that does not exist"),
        ("has(f.amount)", "has() of a feature"),
        (
            "scores.frod > 0.1",
            "scores.frod, a name that does not exist (did you mean scores.fraud?)",
        ),
        ("tx.card_id in lists.nobody", "lists.nobody, a list that does not exist"),
        ("tx.nobody in lists.blocked", "tx.nobody, a name that does not exist"),
        ("'card_1' in lists.blocked", "lists.blocked elsewhere than in"),
        ("tx['card_id'] == 'a'", "tx without a name behind it"),
        ("size(f) > 1", "f without a name behind it"),
        ("f.amount > 'a'", "no matching overload"),
        ("amount > 1.0", "undeclared reference"),
    ],
)
def test_a_name_or_type_that_cannot_be_is_refused_with_a_clear_word(
    when: str, message: str
) -> None:
    with pytest.raises(Misconfigured) as refused:
        compile_rules(a_specification(a_rule("one", when)), some_lists(blocked=[]), CATALOGUE)
    assert message in refused.value.problems[0].found


def test_a_bad_pattern_is_told_where_it_stands() -> None:
    when = "f.amount > 1.0\n  && tx.card_id.matches('[')"
    text = (
        f"version: 1\nrules:\n- id: one\n  when: |\n    {when.replace(chr(10), chr(10) + '    ')}"
    )
    text += "\n  outcome: review\n  reason: {code: a, text: A.}\n"
    text += "  examples: {hits: [{}], misses: [{}]}\n"
    (problem,) = problems_of(text)
    assert problem.source == f"rules.yaml:6:{5 + 2 + 3 + len('tx.card_id.matches(')}"


@pytest.mark.parametrize(
    "when",
    [
        "tx.card_id.matches('^card_[0-9]+$')",
        "tx.card_id != '.matches(\"[\")'",
        "tx.card_id == 'a' // .matches('[')",
    ],
)
def test_patterns_that_match_and_what_only_looks_like_one_are_fine(when: str) -> None:
    a_set(a_rule("one", when))


def test_a_result_without_rules_names_no_version() -> None:
    assert Ruled().rules_hash == ""


def test_the_first_rule_without_a_value_explains_itself() -> None:
    unguarded = a_rule("unguarded", "tx.country == 'DE'")
    rules = a_set(a_rule("well", "f.amount > 1.0"), unguarded, lists=some_lists())
    assert "country" in rules.explain(a_case())
    assert rules.explain(a_case(country="DE")) == ""
