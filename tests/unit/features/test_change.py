"""What a change of the list of features means."""

from math import inf

from consumer.features.change import EVENTS, Change, compare
from consumer.features.plan import Plan
from consumer.features.specification import parse_plan
from consumer.features.warmth import Record, needs_of, requirements_of

DAY, HORIZON = 86_400, 90_000
ENTITIES = "{card: {key: card_id}, shop: {key: merchant_id}}"
COUNTS = '{name: "n_{window}", entity: card, aggregation: count, windows: [1h, 30d]}'
SHOP = "{name: shop, entity: shop, aggregation: count, windows: [1d]}"
AMOUNT = "{name: amount, field: amount}"


def a_plan(*features: str, entities: str = ENTITIES) -> Plan:
    lines = "\n".join(f"  - {feature}" for feature in features)
    text = f"version: 1\nentities: {entities}\nfeatures:\n{lines}\n"
    return parse_plan(text, source="list")


BEFORE = a_plan(AMOUNT, COUNTS, SHOP)


def to(*features: str, entities: str = ENTITIES, record: Record | None = None) -> Change:
    return compare(BEFORE, a_plan(*features, entities=entities), HORIZON, record)


def test_the_same_list_changes_nothing() -> None:
    change = to(AMOUNT, COUNTS, SHOP)
    assert (change.added, change.removed, change.changed, change.moved) == ((), (), (), False)
    assert not change.retrains
    assert not any(each.converted for each in change.entities)
    assert change.warms_s == {}


def test_another_order_is_another_input_of_the_models() -> None:
    change = to(COUNTS, AMOUNT, SHOP)
    assert (change.added, change.removed, change.changed) == ((), (), ())
    assert change.moved
    assert change.retrains


def test_a_feature_over_what_state_holds_is_full_at_once() -> None:
    mean = "{name: mean, entity: card, aggregation: mean, windows: [1h]}"
    change = to(AMOUNT, COUNTS, SHOP, mean)
    assert change.added == ("mean",)
    assert change.warms_s == {}
    assert not any(each.converted for each in change.entities)


def test_a_deviation_widens_the_state_and_warms_for_its_window() -> None:
    change = to(AMOUNT, COUNTS, SHOP, "{name: sd, entity: card, aggregation: std, windows: [1d]}")
    card, shop = change.entities
    assert card.converted
    assert not shop.converted
    assert card.before is not None
    assert card.after is not None
    assert all(old < new for old, new in zip(card.before, card.after, strict=True))
    assert len(card.after) == len(EVENTS)
    assert change.warms_s == {"sd": DAY + 1_440}


def test_a_name_that_means_something_else_is_changed_and_so_is_what_follows_from_it() -> None:
    ratio = "{name: part, ratio: [amount, shop]}"
    before = a_plan(AMOUNT, SHOP, ratio, entities="{shop: {key: merchant_id}}")
    other = SHOP.replace("[1d]", "[7d]")
    after = a_plan(AMOUNT, other, ratio, entities="{shop: {key: merchant_id}}")
    change = compare(before, after, HORIZON, None)
    assert change.changed == ("shop", "part")
    assert set(change.warms_s) == {"shop", "part"}


def test_a_new_entity_begins_empty_and_a_dropped_one_ends() -> None:
    change = to(
        AMOUNT,
        COUNTS,
        "{name: devices, entity: device, aggregation: count, windows: [1h]}",
        entities="{card: {key: card_id}, device: {key: device_id}}",
    )
    card, device, shop = change.entities
    assert (card.entity, card.converted) == ("card", False)
    assert (device.entity, device.before) == ("device", None)
    assert (shop.entity, shop.after) == ("shop", None)
    assert change.removed == ("shop",)
    assert change.warms_s == {"devices": 3_660}


def test_another_key_under_the_same_name_is_told() -> None:
    entities = "{card: {key: card_id}, shop: {key: terminal_id}}"
    change = to(AMOUNT, COUNTS, SHOP, entities=entities)
    assert change.entities[1].rekeyed == ("merchant_id", "terminal_id")
    assert change.changed == ("shop",)


def test_what_live_state_is_too_young_for_is_counted_from_its_newest_event() -> None:
    young = Record(0, 2 * DAY, dict.fromkeys(requirements_of(needs_of(BEFORE))))
    change = to(AMOUNT, COUNTS, SHOP, record=young)
    # Two of thirty days and the grid of half a day have passed.
    assert change.warms_s == {"n_30d": 28.5 * DAY}


def test_nothing_is_ever_full_without_state_to_begin_from() -> None:
    assert inf not in to(AMOUNT, COUNTS, SHOP).warms_s.values()
