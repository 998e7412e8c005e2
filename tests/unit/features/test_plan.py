import pytest

from consumer.features.aggregation import Aggregation
from consumer.features.grid import Window
from consumer.features.plan import Distinct, EntityPlan
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


MINUTE, HOUR, DAY = Window.of(60), Window.of(3_600), Window.of(86_400)
LATE_DAY = Window.of(86_400, 604_800)


def test_a_reply_holds_the_gap_then_count_and_sum_a_window_then_the_largest() -> None:
    entity = EntityPlan(
        "card", "card_id", windows=(MINUTE, HOUR), max_windows=(HOUR,), since_cap_s=86_400
    )
    assert entity.slot(Aggregation.TIME_SINCE_LAST) == 0
    assert entity.slot(Aggregation.COUNT, HOUR) == entity.slot(Aggregation.SUM, HOUR) == 3
    assert entity.slot(Aggregation.MAX, HOUR) == 5
    assert entity.slots == 6


def test_a_reply_with_everything_in_it() -> None:
    entity = EntityPlan(
        "card",
        "card_id",
        windows=(MINUTE,),
        lagged=(HOUR, LATE_DAY),
        max_windows=(DAY,),
        min_windows=(HOUR, DAY),
        distinct=(Distinct("device_id", (HOUR, DAY)), Distinct("merchant_id", (DAY,))),
        since_cap_s=86_400,
        age_cap_s=86_400,
        squares=True,
        labels=True,
        places=True,
    )
    assert entity.slot(Aggregation.FIRST_SEEN) == 1
    assert entity.slot(Aggregation.STD, MINUTE) == 2
    assert entity.slot(Aggregation.FRAUD_RATE, HOUR) == 6
    assert entity.slot(Aggregation.SUM, LATE_DAY) == 11
    assert entity.slot(Aggregation.MAX, DAY) == 16
    assert entity.slot(Aggregation.MIN, DAY) == 18
    assert entity.slot(Aggregation.DISTINCT, DAY, "device_id") == 20
    assert entity.slot(Aggregation.DISTINCT, DAY, "merchant_id") == 21
    assert entity.slot(Aggregation.SPEED) == 22
    assert entity.slots == len(entity.empty) == 25
    assert entity.empty[-1] == -1
    with pytest.raises(ValueError, match="does not count the values of country"):
        entity.slot(Aggregation.DISTINCT, DAY, "country")


def test_an_entity_nothing_is_known_of_has_zeros_and_the_longest_gap() -> None:
    entity = EntityPlan(
        "card", "card_id", windows=(MINUTE,), max_windows=(MINUTE,), since_cap_s=86_400
    )
    assert entity.empty == (86_400.0, 0.0, 0.0, 0.0)


def test_the_vector_follows_the_order_of_names_in_major_units() -> None:
    plan = parse_plan(PLAN, source="p")
    values = plan.vector(a_transaction(base_amount_minor=1250), 0, [CARD, (17.0,)])
    assert values == (17.0, 3.333333, 12.5, 20.5, 9.99, 3.0)
    assert len(values) == len(plan.names)


def test_a_currency_without_decimals_is_not_divided() -> None:
    plan = parse_plan(PLAN, source="p", exponent=0)
    assert plan.vector(a_transaction(base_amount_minor=1250), 0, [CARD, (17.0,)])[2] == 1250.0


def test_the_mean_of_no_events_is_zero() -> None:
    plan = parse_plan(PLAN, source="p")
    empty = [entity.empty for entity in plan.entities]
    assert plan.vector(a_transaction(base_amount_minor=0), 0, empty) == (86_400.0, 0, 0, 0, 0, 0)


def test_the_values_of_one_entity_are_named() -> None:
    plan = parse_plan(PLAN, source="p")
    assert plan.entity_values(1, (17.0,)) == {"device_gap": 17.0}


def test_a_field_that_is_absent_or_empty_is_no_key() -> None:
    device = parse_plan(PLAN, source="p").entities[1]
    assert device.key_of(a_transaction()) is None
    assert device.key_of(a_transaction(device_id="")) is None
    assert device.key_of(a_transaction(device_id="phone")) == "phone"


DERIVED = """
version: 1
timezone: Europe/Berlin
entities: {card: {key: card_id}}
features:
  - {name: amount, field: amount}
  - {name: hour, calendar: hour_of_day}
  - {name: day, calendar: day_of_week}
  - {name: weekend, calendar: weekend}
  - {name: night, calendar: night}
  - {name: mean, entity: card, aggregation: mean, windows: [1h]}
  - {name: share, ratio: [amount, mean]}
  - {name: excess, difference: [amount, mean]}
  - {name: km, entity: card, aggregation: distance}
  - {name: kmh, entity: card, aggregation: speed}
"""
SUNDAY_NIGHT_IN_BERLIN = 1_767_483_000  # 2026-01-03 23:30 UTC, 00:30 there


def test_features_that_need_no_state_follow_from_the_transaction_and_its_values() -> None:
    plan = parse_plan(DERIVED, source="p")
    here = a_transaction(base_amount_minor=900, latitude=48.137, longitude=11.575)
    berlin = (2.0, 1200.0, 5_252_000.0, 1_340_500.0, 1800.0)
    values = dict(zip(plan.names, plan.vector(here, SUNDAY_NIGHT_IN_BERLIN, [berlin]), strict=True))
    assert [values[name] for name in ("hour", "day", "weekend", "night")] == [0, 6, 1, 1]
    assert (values["share"], values["excess"]) == (1.5, 3.0)
    assert values["km"] == pytest.approx(504, abs=1)
    assert values["kmh"] == pytest.approx(2 * values["km"], abs=0.01)


def test_in_utc_it_is_still_saturday_evening() -> None:
    plan = parse_plan(DERIVED.replace("Europe/Berlin", "UTC"), source="p")
    values = plan.vector(a_transaction(), SUNDAY_NIGHT_IN_BERLIN, [plan.entities[0].empty])
    assert values[1:5] == (23, 5, 1, 0)


def test_a_ratio_to_nothing_is_zero_and_no_place_is_no_distance() -> None:
    plan = parse_plan(DERIVED, source="p")
    values = plan.vector(a_transaction(), 0, [(2.0, 0.0, 1.0, 1.0, 60.0)])
    assert values[6] == 0
    assert values[8:] == (0, 0)
