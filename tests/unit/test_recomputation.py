"""Values that were stored, against what the documents of their entities give."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consumer.decided import Decided
from consumer.features.specification import parse_plan
from consumer.local.oracle import Event, Verdict
from consumer.model import Applied
from consumer.recomputation import Comparison, Known, Outcome, Recomputation

HORIZON_S, DAY = 3_600, 86_400
START = 1_790_000_640  # on the grid of an hour's window
PLAN = parse_plan(
    """
version: 1
entities: {card: {key: card_id}, shop: {key: merchant_id}}
features:
  - {name: count_1h, entity: card, aggregation: count, windows: [1h]}
  - {name: count_30d, entity: card, aggregation: count, windows: [30d]}
  - {name: gap, entity: card, aggregation: time_since_last}
  - {name: age, entity: card, aggregation: first_seen}
  - {name: shop_count_1h, entity: shop, aggregation: count, windows: [1h]}
  - {name: shop_cards_1h, entity: shop, aggregation: distinct(card_id), windows: [1h]}
  - {name: shop_frauds_1h, entity: shop, aggregation: fraud_count, windows: [1h]}
""",
    source="recomputation",
)
CAP = 30.0 * DAY


def a_decision(number: int, at_s: int, **changes: object) -> Decided:
    """A purchase *at_s* after START, received at once and decided in 20 ms."""
    received_ms = (START + at_s) * 1000 + 500
    decided = Decided(
        event=Event(f"t{number}", START + at_s, 100, {"card_id": "c", "merchant_id": "m"}),
        event_ms=(START + at_s) * 1000,
        received_ms=received_ms,
        decided_ms=received_ms + 20,
        stored_ms=received_ms + 21,
        shard="a",
        position=(number, 0),
        features={},
        feature_hash=PLAN.hash,
        applied={"card": Applied.APPLIED, "shop": Applied.APPLIED},
        label=None,
    )
    return replace(decided, **changes)  # type: ignore[arg-type]


def at_shard_b(decided: Decided, *, after_ms: int = 0, card: str = "d") -> Decided:
    """The same for another card, by the other shard, received so much later."""
    keys = {**decided.event.keys, "card_id": card}
    return replace(
        decided,
        shard="b",
        event=replace(decided.event, keys=keys),
        received_ms=decided.received_ms + after_ms,
        decided_ms=decided.decided_ms + after_ms,
    )


def compared(
    decided: Decided,
    documents: Sequence[Decided],
    *,
    since_s: int = START - 2 * DAY,
    problem: str = "",
    **online: float,
) -> dict[str, Comparison]:
    """What became of the *online* values of *decided*."""
    decided = replace(decided, features=online)
    known = {
        entity.name: Known(
            [
                each
                for each in sorted(documents, key=lambda each: each.order)
                if each.event.keys.get(entity.key) == decided.event.keys.get(entity.key)
            ],
            since_s,
            problem,
        )
        for entity in PLAN.entities
    }
    found = Recomputation(PLAN, HORIZON_S).compare(decided, known)
    return {each.feature: each for each in found if each.feature in online}


def outcomes(found: dict[str, Comparison]) -> dict[str, str]:
    return {name: str(each.outcome) for name, each in found.items()}


THREE = [a_decision(1, 0), a_decision(2, 600), a_decision(3, 1_200)]


def test_within_a_shard_the_position_tells_what_was_counted() -> None:
    for number, decided in enumerate(THREE):
        found = compared(decided, THREE, count_1h=number + 1, gap=600.0 if number else CAP - 1)
        assert found["count_1h"].outcome is Outcome.EQUAL
        assert found["count_1h"].strict
    assert found["gap"].outcome is Outcome.EQUAL


@pytest.mark.parametrize("wrong", [2.0, 4.0, 3.5])
def test_a_wrong_value_is_found(wrong: float) -> None:
    found = compared(THREE[2], THREE, count_1h=wrong)["count_1h"]
    assert (found.outcome, found.online, found.offline) == (Outcome.DIFFERENT, wrong, 3.0)
    assert found.strict
    assert "state holds other events" in found.remark


def test_an_event_that_is_missing_is_found() -> None:
    found = compared(THREE[2], THREE[1:], count_1h=3.0)["count_1h"]
    assert (found.outcome, found.offline) == (Outcome.DIFFERENT, 2.0)


def test_an_event_that_was_counted_twice_is_found() -> None:
    assert compared(THREE[1], THREE, count_1h=3.0)["count_1h"].outcome is Outcome.DIFFERENT


@pytest.mark.parametrize(
    ("after_ms", "count", "outcome"),
    [
        (-200, 2.0, "equal"),
        (-200, 1.0, "different"),
        (200, 1.0, "equal"),
        (200, 2.0, "different"),
        (-5, 2.0, "equal"),
        (-5, 1.0, "reordered"),
        (5, 1.0, "equal"),
        (5, 2.0, "reordered"),
        (5, 3.0, "different"),
    ],
)
def test_events_of_other_shards_may_come_either_way_while_both_are_under_way(
    after_ms: int, count: float, outcome: str
) -> None:
    decided = a_decision(1, 600)
    other = at_shard_b(a_decision(9, 600), after_ms=after_ms)
    found = compared(decided, [decided, other], shop_count_1h=count)["shop_count_1h"]
    assert found.outcome == outcome
    assert not found.strict
    if outcome == "different":
        assert found.remark == "an event of another shard that arrived meanwhile"


def test_one_order_must_explain_all_values_of_an_entity() -> None:
    decided = a_decision(1, 600)
    others = [at_shard_b(a_decision(8 + n, 600), after_ms=5 + n, card=f"d{n}") for n in range(3)]
    documents = [decided, *others]
    right = compared(decided, documents, shop_count_1h=3.0, shop_cards_1h=3.0)
    assert set(outcomes(right).values()) == {"reordered"}
    wrong = compared(decided, documents, shop_count_1h=3.0, shop_cards_1h=2.0)
    assert "different" in outcomes(wrong).values()


def test_what_was_late_or_refunded_is_not_counted() -> None:
    late = replace(THREE[0], applied=dict.fromkeys(("card", "shop"), Applied.LATE))
    refund = a_decision(
        4,
        1_300,
        event=replace(THREE[0].event, transaction_id="t4", time_s=START + 1_300, purchase=False),
        applied=dict.fromkeys(("card", "shop"), Applied.READ),
    )
    documents = [late, *THREE[1:], refund]
    assert compared(refund, documents, count_1h=2.0)["count_1h"].outcome is Outcome.EQUAL
    assert compared(THREE[2], documents, count_1h=2.0)["count_1h"].outcome is Outcome.EQUAL


def test_a_late_decision_is_read_at_the_horizon() -> None:
    newest = a_decision(2, 3 * HORIZON_S)
    before = a_decision(1, 2 * HORIZON_S - 60)
    late = replace(
        a_decision(3, 0),
        applied=dict.fromkeys(("card", "shop"), Applied.LATE),
        received_ms=newest.decided_ms + 100,
        decided_ms=newest.decided_ms + 120,
    )
    found = compared(late, [before, newest, late], count_1h=1.0, gap=60.0)
    assert set(outcomes(found).values()) == {"equal"}
    found = compared(late, [before, newest, late], count_1h=2.0)
    assert "horizon" in found["count_1h"].remark


def test_a_decision_made_again_may_have_seen_what_was_counted_behind_it() -> None:
    again = [
        replace(each, applied=dict.fromkeys(("card", "shop"), Applied.REPEATED))
        for each in (a_decision(1, 0), a_decision(2, 0))
    ]
    assert compared(again[0], again, count_1h=2.0)["count_1h"].outcome is Outcome.REORDERED
    assert compared(again[0], again, count_1h=1.0)["count_1h"].outcome is Outcome.EQUAL
    assert compared(again[0], again, count_1h=3.0)["count_1h"].outcome is Outcome.DIFFERENT
    first = [again[0], a_decision(2, 0)]
    assert compared(first[0], first, count_1h=2.0)["count_1h"].outcome is Outcome.DIFFERENT


def test_what_documents_cannot_cover_is_named_with_its_reason() -> None:
    since_s = START - 1_000
    found = compared(
        THREE[0], THREE, since_s=since_s, count_1h=9.0, count_30d=9.0, gap=5_000.0, age=9_000.0
    )
    assert set(outcomes(found).values()) == {"uncovered"}
    assert found["count_30d"].remark == "its window begins before the documents"
    assert found["gap"].remark == "nothing before it in the documents"
    assert found["age"].remark == "the entity is older than the documents"
    problem = "card_id is not in the index"
    found = compared(THREE[0], THREE, problem=problem, count_1h=1.0)
    assert (found["count_1h"].outcome, found["count_1h"].remark) == (Outcome.UNCOVERED, problem)


def test_an_entity_as_old_as_its_documents_is_known_completely() -> None:
    found = compared(
        THREE[2], THREE, since_s=START - 60, age=1_200.0, count_30d=3.0, count_1h=3.0, gap=600.0
    )
    assert set(outcomes(found).values()) == {"equal"}
    found = compared(THREE[2], THREE, since_s=START - 60, age=1_200.0, count_30d=4.0)
    assert found["count_30d"].outcome is Outcome.DIFFERENT


# Younger than its oldest document; older, by an event that documents would show.
@pytest.mark.parametrize("age", [600.0, 1_300.0])
def test_an_age_that_documents_contradict_is_different(age: float) -> None:
    found = compared(THREE[2], THREE, since_s=START - 3_600, age=age)["age"]
    assert (found.outcome, found.offline) == (Outcome.DIFFERENT, 1_200.0)


def test_a_gap_to_what_documents_would_show_is_different() -> None:
    found = compared(THREE[0], THREE, since_s=START - 1_000, gap=30.0)["gap"]
    assert (found.outcome, found.offline) == (Outcome.DIFFERENT, 1_000.0)


def test_labels_count_from_a_time_that_no_document_tells() -> None:
    verdict = Verdict(
        "t1", "l", fraud=True, label_time_ms=0, time_s=START, keys=THREE[0].event.keys
    )
    told = replace(verdict, label_time_ms=THREE[1].received_ms)
    documents = [replace(THREE[0], label=told), *THREE[1:]]
    later = THREE[2]
    assert compared(later, documents, shop_frauds_1h=1.0)["shop_frauds_1h"].outcome == "equal"
    assert compared(later, documents, shop_frauds_1h=0.0)["shop_frauds_1h"].outcome == "reordered"
    found = compared(later, documents, shop_frauds_1h=2.0)["shop_frauds_1h"]
    assert found.outcome is Outcome.DIFFERENT
    assert found.remark.startswith("a label")
    assert not found.strict


def test_without_the_key_there_are_no_events() -> None:
    keyless = a_decision(1, 0, event=Event("t1", START, 100, {"card_id": "c"}))
    found = compared(keyless, [keyless], since_s=START + 9, shop_count_1h=0.0)
    assert found["shop_count_1h"].outcome is Outcome.EQUAL
    found = compared(keyless, [keyless], since_s=START + 9, shop_count_1h=1.0)
    assert found["shop_count_1h"].outcome is Outcome.DIFFERENT


def test_distinct_values_of_a_busy_entity_are_promised_on_time_only() -> None:
    busy = [a_decision(n, n) for n in range(200)]
    late = replace(a_decision(300, 100), received_ms=busy[-1].received_ms + 900)
    late = replace(late, decided_ms=late.received_ms + 20)
    found = compared(late, [*busy, late], shop_cards_1h=7.0, shop_count_1h=102.0)
    assert outcomes(found) == {"shop_cards_1h": "uncovered", "shop_count_1h": "equal"}
    on_time = a_decision(300, 201)
    assert compared(on_time, busy, shop_cards_1h=7.0)["shop_cards_1h"].outcome == "different"


def test_a_value_that_the_document_lacks_is_not_covered() -> None:
    known = {entity.name: Known(THREE, START - DAY) for entity in PLAN.entities}
    found = Recomputation(PLAN, HORIZON_S).compare(THREE[0], known)
    assert {each.outcome for each in found} == {Outcome.UNCOVERED}
    assert {each.remark for each in found} == {"the document has no value"}
