from consumer.features.specification import parse_plan
from consumer.rules.feature_facts import describe_features

FEATURES = """\
version: 1
entities:
  card: {key: card_id}
features:
  - {name: amount, field: amount}
  - {name: card_count_1d, entity: card, aggregation: count, windows: [1d]}
  - {name: card_mean_1d, entity: card, aggregation: mean, windows: [1d]}
  - {name: since, entity: card, aggregation: time_since_last}
  - {name: share, ratio: [amount, card_mean_1d]}
  - {name: hour, calendar: hour_of_day}
  - {name: weekend, calendar: weekend}
"""


def test_each_feature_has_a_name_for_rules_and_a_unit() -> None:
    facts = describe_features(parse_plan(FEATURES, source="features.yaml"), "EUR")
    assert [(fact.name, fact.unit) for fact in facts] == [
        ("f.amount", "EUR, major units"),
        ("f.card_count_1d", "purchases"),
        ("f.card_mean_1d", "EUR, major units"),
        ("f.since", "seconds"),
        ("f.share", "ratio"),
        ("f.hour", "hour, 0 to 23"),
        ("f.weekend", "1 or 0"),
    ]
