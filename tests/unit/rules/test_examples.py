"""Examples: what they may name, and what is said of one that is wrong."""

import pytest

from consumer.rules.examples import run_examples
from tests.rulebook import CATALOGUE, a_rule, a_specification, some_lists

LISTS = some_lists(blocked=["card_1"])


def found(when: str, example: object, **changes: object) -> str:
    rule = a_rule("one", when, examples={"hits": [example], "misses": [{}]}, **changes)
    first, _ = run_examples(a_specification(rule), LISTS, CATALOGUE)
    return first.found


@pytest.mark.parametrize(
    ("when", "example"),
    [
        ("f.amount == 3.0", {"f.amount": 3}),
        ("tx.amount == 3.5 && tx.base_amount == 3.5", {"tx.amount": 3.5}),
        ("tx.base_amount == 4.0", {"tx.amount": 3, "tx.base_amount": 4}),
        ("tx.amount == 500.0", {"tx.amount": 500, "tx.currency": "JPY"}),
        ("tx.country == 'DE'", {"tx.country": "DE"}),
        ("tx.latitude > 50.0", {"tx.latitude": 52}),
        ("tx.kind == 'refund'", {"tx.kind": "refund"}),
        ("tx.loyalty == 'gold'", {"tx.loyalty": "gold"}),
        ("scores.fraud > 0.4", {"scores.fraud": 0.5}),
        ("tx.card_id in lists.blocked", {"lists.blocked": ["card_1"]}),
        ("tx.event_time.getFullYear() == 2027", {"tx.event_time": "2027-01-01T00:00:00Z"}),
    ],
)
def test_an_example_sets_what_it_names(when: str, example: dict[str, object]) -> None:
    if "tx.event_time" in example:
        example = {"tx.event_time": pytest.importorskip("yaml").safe_load("2027-01-01T00:00:00Z")}
    assert found(when, example) == "hits"


def test_what_an_example_does_not_name_is_absent_or_zero() -> None:
    when = "f.amount == 0.0 && !has(tx.country) && !has(scores.fraud)"
    assert found(when, {}) == "hits"
    assert found("tx.card_id in lists.blocked", {}) == "misses"


def test_a_rule_in_shadow_or_off_is_tried_like_any_other() -> None:
    assert found("true", {}, mode="shadow") == "hits"
    assert found("true", {}, mode="off") == "hits"


def test_a_rule_without_a_value_neither_hits_nor_misses() -> None:
    absent = "gives no value: tx.country is absent there: ask with has(tx.country) first"
    assert found("tx.country == 'DE'", {}) == absent
    assert found("f.amount == 3.0 && 1 / 0 == 1", {"f.amount": 3}) == (
        "gives no value: divide by zero"
    )
    assert found("tx.country == 'DE'", {}, on_error="review").startswith("gives no value")


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"f.nothing": 1}, "names f.nothing, which does not exist"),
        ({"tx.nothing": 1}, "names tx.nothing, which does not exist"),
        ({"f.amont": 1}, "names f.amont, which does not exist: did you mean f.amount?"),
        ({"scores.nothing": 1}, "names scores.nothing, which does not exist"),
        ({"lists.nothing": ["a"]}, "names lists.nothing, which does not exist"),
        ({"lists.blocked": "card_1"}, "lists.blocked: expected a list of values"),
        ({"f.amount": "much"}, "f.amount: 'much' where a number is expected"),
        ({"f.amount": True}, "f.amount: True where a number is expected"),
        ({"tx.card_id": 5}, "tx.card_id: 5 where a text is expected"),
        ({"tx.currency": "XXQ"}, "tx.currency: XXQ is no ISO 4217 code"),
        ({"tx.kind": "gift"}, "'gift' is not a valid Kind"),
        ({"tx.event_time": "noon"}, "tx.event_time: 'noon' where a time such as"),
        ({5: 1}, "names 5, which does not exist"),
    ],
)
def test_an_example_that_cannot_be_is_said_to_be_wrong(
    example: dict[object, object], message: str
) -> None:
    assert message in found("true", example)
