from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.features.grid import Window
from consumer.features.plan import Distinct, EntityPlan
from consumer.features.specification import load_plan, parse_plan

SHIPPED = Path(__file__).parents[3] / "config" / "features.yaml"
SMALL = """
version: 1
entities: {card: {key: card_id}}
features:
  - {name: amount, field: amount}
  - {name: "card_count_{window}", entity: card, aggregation: count, windows: [1m, 2h]}
  - {name: "card_max_{window}", entity: card, aggregation: max, windows: [1d]}
  - {name: card_gap, entity: card, aggregation: time_since_last}
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(Misconfigured) as caught:
        parse_plan(text, source="f.yaml")
    return [str(problem) for problem in caught.value.problems]


def with_feature(feature: str) -> str:
    return f"version: 1\nentities: {{card: {{key: card_id}}}}\nfeatures:\n  - {feature}\n"


def test_the_shipped_specification_has_about_thirty_features_of_four_entities() -> None:
    plan = load_plan(SHIPPED, "EUR")
    assert plan.entity_names == ("card", "merchant", "terminal", "device")
    assert len(plan.names) == len(set(plan.names)) == 30
    assert plan.longest_window_s == 30 * 86_400


def test_a_family_becomes_a_feature_a_window_in_the_order_of_the_file() -> None:
    plan = parse_plan(SMALL, source="f.yaml")
    assert plan.names == (
        "amount",
        "card_count_1m",
        "card_count_2h",
        "card_max_1d",
        "card_gap",
    )
    card = EntityPlan(
        "card",
        "card_id",
        windows=(Window.of(60), Window.of(7_200)),
        max_windows=(Window.of(86_400),),
        since_cap_s=86_400,
    )
    assert plan.entities == (card,)


def test_the_hash_follows_the_definition_and_not_its_spelling() -> None:
    plan = parse_plan(SMALL, source="f.yaml")
    commented = SMALL.replace("version: 1", "# why\nversion:   1")
    assert parse_plan(commented, source="other").hash == plan.hash
    assert parse_plan(SMALL.replace("2h", "3h"), source="f.yaml").hash != plan.hash
    assert parse_plan(SMALL, source="f.yaml", exponent=0).hash != plan.hash


def test_the_base_currency_says_how_many_decimals_money_has() -> None:
    assert load_plan(SHIPPED, "JPY").exponent == 0
    assert load_plan(SHIPPED, "KWD").exponent == 3


def test_an_unknown_base_currency_is_refused() -> None:
    with pytest.raises(Misconfigured, match=r"events\.base_currency: found XXX"):
        load_plan(SHIPPED, "XXX")


def test_a_missing_file_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nowhere\.yaml: features\.path"):
        load_plan(tmp_path / "nowhere.yaml", "EUR")


def _numbered(lines: list[str], word: str) -> list[tuple[int, str]]:
    """The first line with *word* and its number from 1."""
    return [(n, line) for n, line in enumerate(lines, start=1) if word in line][:1]


def test_every_mistake_of_a_file_is_reported_at_once() -> None:
    text = """
version: 2
entities: {card: {key: card_number}, Shop: {key: merchant_id}}
features:
  - {name: amount, field: total}
  - {name: c, entity: till, aggregation: median, windows: [1m]}
  - {name: "c_{window}", entity: card, aggregation: count, windows: [30s, 31d, 7, 1h], unit: x}
"""
    found = problems_of(text)
    assert [line.split(": ")[1] for line in found] == [
        "version",
        "entities.card.key",
        "entities.Shop",
        "features[0].field",
        "features[1].entity",
        "features[1].aggregation",
        "features[2]",
        "features[2].windows[0]",
        "features[2].windows[1]",
        "features[2].windows[2]",
    ]
    lines = text.split("\n")
    words = "2", "card_number", "{key: merchant_id", "total", "till", "median", "unit", "30s", "31d"
    at = [(n, line.index(word) + 1) for word in words for n, line in _numbered(lines, word)]
    at.append((7, lines[6].index("7,") + 1))
    assert [line.split(": ")[0] for line in found] == [f"f.yaml:{n}:{c}" for n, c in at]
    assert "found '31d', expected a window from 1m to 30d, such as 15m, 1h or 7d" in found[8]


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ("{entity: card, aggregation: count, windows: [1h]}", "features[0].name"),
        ("{name: Total, entity: card, aggregation: count, windows: [1h]}", "features[0].name"),
        ("{name: c, entity: card, aggregation: count, windows: [1h, 1d]}", "features[0].name"),
        ("{name: c, entity: card, aggregation: count}", "features[0].windows"),
        (
            "{name: c, entity: card, aggregation: time_since_last, windows: [1h]}",
            "features[0].windows",
        ),
        ("{name: 'c_{window}', entity: card, aggregation: time_since_last}", "features[0].name"),
        (
            "{name: f, entity: card, aggregation: max, windows: [1h], delay: 7d}",
            "features[0].delay: found '7d', expected none: max cannot be delayed",
        ),
        (
            "{name: f, entity: card, aggregation: fraud_rate, windows: [1h], delay: 40d}",
            "features[0].delay",
        ),
        (
            "{name: f, entity: card, aggregation: count, windows: [1h], grid: 24m}",
            "features[0].grid",
        ),
        (
            "{name: f, entity: card, aggregation: count, windows: [1d], grid: 7m}",
            "features[0].grid",
        ),
        ("{name: f, entity: card, aggregation: distinct, windows: [1h]}", "features[0].aggreg"),
        (
            "{name: f, entity: card, aggregation: distinct(card_id), windows: [1h]}",
            "features[0].aggregation: found 'distinct(card_id)', expected distinct of merchant_id",
        ),
        ("{name: f, entity: card, aggregation: speed, windows: [1h]}", "features[0].windows"),
        ("{name: f, entity: card, aggregation: first_seen, delay: 7d}", "features[0].delay"),
        ("{name: f, calendar: easter}", "features[0].calendar"),
        ("{name: f, ratio: [amount, f]}", "features[0].ratio"),
        ("{name: f, difference: [amount]}", "features[0].difference"),
        ("just words", "features[0]"),
    ],
)
def test_a_feature_that_says_too_little_or_too_much_is_refused(feature: str, expected: str) -> None:
    assert any(
        line.startswith("f.yaml:4:") and line.partition(" ")[2].startswith(expected)
        for line in problems_of(with_feature(feature))
    )


def test_a_misspelt_key_is_told_where_it_stands_with_the_one_that_was_meant() -> None:
    feature = "{name: c, entity: card, agregation: count, windows: [1h]}"
    first, second = problems_of(with_feature(feature))
    assert first.startswith(
        "f.yaml:4:29: features[0]: found the key 'agregation', expected aggregation? one of"
    )
    assert second.startswith("f.yaml:4:5: features[0].aggregation: found nothing, expected one of")


def test_a_time_zone_that_does_not_exist_is_refused() -> None:
    assert "timezone: found 'Mars/Base'" in problems_of("timezone: Mars/Base\n" + SMALL)[0]


def test_an_entity_keeps_what_its_features_need() -> None:
    text = """
version: 1
entities: {card: {key: card_id}, shop: {key: merchant_id}}
features:
  - {name: "c_{window}", entity: card, aggregation: count, windows: [1d], delay: 7d}
  - {name: "r_{window}", entity: card, aggregation: fraud_rate, windows: [1d]}
  - {name: "d_{window}", entity: card, aggregation: distinct(country), windows: [1h, 1d]}
  - {name: age, entity: card, aggregation: first_seen}
  - {name: km, entity: card, aggregation: distance}
  - {name: s, entity: shop, aggregation: std, windows: [30d], grid: 24m}
  - {name: low, entity: shop, aggregation: min, windows: [1d]}
  - {name: share, ratio: [c_1d, s]}
  - {name: hour, calendar: hour_of_day}
"""
    plan = parse_plan(text, source="f.yaml")
    card, shop = plan.entities
    assert card.lagged == (Window.of(86_400), Window.of(86_400, 604_800))
    assert (card.labels, card.places, card.age_cap_s) == (True, True, 2_592_000)
    assert card.distinct == (Distinct("country", (Window.of(3_600), Window.of(86_400))),)
    assert shop.squares
    assert shop.windows == (Window(2_592_000, 0, 1_440),)
    assert shop.min_windows == (Window.of(86_400),)
    assert (plan.longest_window_s, plan.retention_s) == (2_592_000, 3_196_800)
    assert plan.reads_labels
    assert parse_plan(text.replace("24m", "2h"), source="f.yaml").hash != plan.hash


def test_a_name_that_occurs_twice_is_refused() -> None:
    text = SMALL + "  - {name: amount, field: amount}\n"
    assert problems_of(text) == [
        "f.yaml:9:12: features[4].name: found 'amount', expected names that occur once"
    ]


def test_an_entity_nobody_asks_about_is_refused() -> None:
    text = SMALL.replace("{card:", "{merchant: {key: merchant_id}, card:")
    assert "entities.merchant" in problems_of(text)[0]


def test_a_file_that_is_no_yaml_is_refused_with_its_line() -> None:
    assert problems_of("version: 1\nentities: {card: [\n")[0].startswith("f.yaml:3:1: ")


@pytest.mark.parametrize("text", ["", "[]", "words", "version: 1"])
def test_a_file_without_features_is_refused(text: str) -> None:
    assert problems_of(text)
