import json

import pytest

from consumer.features.layout import Layout, read_layout
from consumer.features.specification import parse_plan
from tests.properties.observations import COARSE, FINE, RICH, RICH_ONE_BY_ONE, SHIPPED


def layouts_of(text: str, horizon_s: int = 90_000) -> list[Layout]:
    return [Layout.of(entity, horizon_s) for entity in parse_plan(text, source="p").entities]


@pytest.mark.parametrize("text", [SHIPPED, FINE, COARSE, *RICH_ONE_BY_ONE])
def test_a_description_tells_the_whole_layout(text: str) -> None:
    for layout in layouts_of(text):
        assert read_layout(layout.describe()) == layout
        assert read_layout(layout.describe()).digest == layout.digest  # type: ignore[union-attr]


def test_another_horizon_window_or_section_is_another_layout() -> None:
    texts = [FINE, FINE.replace("[1m, 3h, 1d]", "[1m, 3h, 2d]"), COARSE, RICH]
    found = [layouts_of(text)[0] for text in texts]
    assert len({layout.digest for layout in [*found, *layouts_of(FINE, 90_001)]}) == 5


def test_the_answers_asked_of_a_state_do_not_make_its_layout() -> None:
    assert layouts_of(FINE) == layouts_of(FINE.replace("aggregation: mean", "aggregation: sum"))


@pytest.mark.parametrize(
    "changed",
    [
        {"version": 2},
        {"key": "iban"},
        {"distinct": [["shoe_size", 3600]]},
        {"colour": "red"},
        {"hot": [1, 2]},
    ],
)
def test_what_this_version_does_not_know_is_no_layout(changed: dict[str, object]) -> None:
    document = json.loads(layouts_of(RICH)[0].describe()) | changed
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    assert read_layout(text) is None


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", '{"version":1}'])
def test_what_is_no_description_is_no_layout(text: str) -> None:
    assert read_layout(text) is None
