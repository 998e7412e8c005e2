from consumer.features.plan import Aggregation, EntityPlan
from consumer.features.specification import parse_plan
from tests.builders import a_transaction

PLAN = """
version: 1
entities: {card: {key: card_id}, device: {key: device_id}}
features:
  - {name: device_gap, entity: device, aggregation: time_since_last}
  - {name: card_mean_1h, entity: card, aggregation: mean, windows: [1h]}
  - {name: amount, field: amount}
  - {name: card_sum_1d, entity: card, aggregation: sum, windows: [1d]}
  - {name: card_max_1d, entity: card, aggregation: max, windows: [1d]}
  - {name: card_count_1h, entity: card, aggregation: count, windows: [1h]}
"""
CARD = (3.0, 1000.0, 7.0, 2050.0, 999.0)


def test_a_reply_holds_the_gap_then_count_and_sum_a_window_then_the_largest() -> None:
    entity = EntityPlan("card", "card_id", (60, 3600), (3600,), 86_400)
    assert entity.slot(Aggregation.TIME_SINCE_LAST, 0) == 0
    assert entity.slot(Aggregation.COUNT, 3600) == entity.slot(Aggregation.MEAN, 3600) == 3
    assert entity.slot(Aggregation.SUM, 3600) == 4
    assert entity.slot(Aggregation.MAX, 3600) == 5
    assert entity.slots == 6


def test_an_entity_nothing_is_known_of_has_zeros_and_the_longest_gap() -> None:
    entity = EntityPlan("card", "card_id", (60,), (60,), 86_400)
    assert entity.empty == (86_400.0, 0.0, 0.0, 0.0)


def test_the_vector_follows_the_order_of_names_in_major_units() -> None:
    plan = parse_plan(PLAN, source="p")
    values = plan.vector(a_transaction(base_amount_minor=1250), [CARD, (17.0,)])
    assert values == (17.0, 3.333333, 12.5, 20.5, 9.99, 3.0)
    assert len(values) == len(plan.names)


def test_a_currency_without_decimals_is_not_divided() -> None:
    plan = parse_plan(PLAN, source="p", exponent=0)
    assert plan.vector(a_transaction(base_amount_minor=1250), [CARD, (17.0,)])[2] == 1250.0


def test_the_mean_of_no_events_is_zero() -> None:
    plan = parse_plan(PLAN, source="p")
    empty = [entity.empty for entity in plan.entities]
    assert plan.vector(a_transaction(base_amount_minor=0), empty) == (86_400.0, 0, 0, 0, 0, 0)


def test_the_values_of_one_entity_are_named() -> None:
    plan = parse_plan(PLAN, source="p")
    assert plan.entity_values(1, (17.0,)) == {"device_gap": 17.0}


def test_a_field_that_is_absent_or_empty_is_no_key() -> None:
    device = parse_plan(PLAN, source="p").entities[1]
    assert device.key_of(a_transaction()) is None
    assert device.key_of(a_transaction(device_id="")) is None
    assert device.key_of(a_transaction(device_id="phone")) == "phone"
