import re

import pytest

from consumer.errors import Misconfigured
from consumer.features.library import build_library
from consumer.features.specification import parse_plan

TEXT = """
version: 1
entities: {card: {key: card_id}}
features: [{name: c, entity: card, aggregation: count, windows: [1h]}]
"""
PLAN = parse_plan(TEXT, source="p")


def test_the_library_and_its_functions_carry_the_hash_of_the_text() -> None:
    library = build_library(PLAN, horizon_s=90_000)
    assert re.fullmatch(r"fraudstream_[0-9a-f]{8}", library.name)
    assert library.text.startswith(f"#!lua name={library.name}\n")
    assert [handler.observe for handler in library.handlers] == [f"{library.name}_card"]
    assert build_library(PLAN, horizon_s=90_000) == library


def test_another_plan_or_horizon_makes_another_library() -> None:
    other = parse_plan(TEXT.replace("1h", "2h"), source="p")
    libraries = [
        build_library(PLAN, horizon_s=90_000),
        build_library(PLAN, horizon_s=90_001),
        build_library(other, horizon_s=90_000),
    ]
    assert len({library.name for library in libraries}) == 3


def test_a_horizon_below_an_hour_is_refused() -> None:
    with pytest.raises(Misconfigured, match="id_horizon_s"):
        build_library(PLAN, horizon_s=3_599)


def test_an_entity_that_counts_labels_has_a_second_function() -> None:
    text = TEXT.replace(
        "windows: [1h]}",
        "windows: [1h]}, {name: r, entity: card, aggregation: "
        "fraud_rate, delay: 7d, windows: [1d]}",
    )
    library = build_library(parse_plan(text, source="p"), horizon_s=90_000)
    assert [handler.label for handler in library.handlers] == [f"{library.name}_card_label"]
    assert [handler.label for handler in build_library(PLAN, horizon_s=90_000).handlers] == [None]
