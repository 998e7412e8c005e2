import json
from typing import Any

import pytest

from consumer.adapters.clarify import parse
from consumer.errors import Unavailable
from tests.sagemaker_server import explanations

NAMES = ("amount", "count", "sum", "age", "nights", "days")


def an_answer(**changes: Any) -> bytes:
    """One row explained, with *changes* at the top."""
    return json.dumps(json.loads(explanations([[0.1] * 6], NAMES)) | changes).encode()


def a_feature(attributions: Any, **further: Any) -> bytes:
    row = [{"feature_type": "numerical", "attributions": attributions, **further}]
    return an_answer(explanations={"kernel_shap": [row]})


def test_the_five_largest_come_first_in_size() -> None:
    answer = explanations([[0.1, -0.4, 0.0, 0.3, 0.02, -0.2]], NAMES)
    assert parse(answer, 1, NAMES) == [[(1, -0.4), (3, 0.3), (5, -0.2), (0, 0.1), (4, 0.02)]]


def test_rows_keep_their_order() -> None:
    answer = explanations([[0.1, 0.2], [0.4, 0.3], [-1, 0]], NAMES[:2])
    assert parse(answer, 3, NAMES[:2]) == [
        [(1, 0.2), (0, 0.1)],
        [(0, 0.4), (1, 0.3)],
        [(0, -1.0), (1, 0.0)],
    ]


def test_columns_without_names_go_by_their_place() -> None:
    assert parse(a_feature([{"attribution": [0.3]}]), 1, ["amount"]) == [[(0, 0.3)]]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (explanations([[0.1] * 6] * 2, NAMES), "2 rows explained, not 1"),
        (explanations([], NAMES), "0 rows explained, not 1"),
        (explanations([[0.1] * 5], NAMES[:5]), "5 features explained, not 6"),
        (explanations([[0.1] * 6], NAMES[::-1]), "'days' explained in place of 'amount'"),
        (an_answer(version="2.0"), "schema 1.0"),
        (an_answer(explanations={}), "kernel_shap"),
        (b'{"predictions": [{"score": 0.5}]}', "missing required field"),
        (b"0.5", "Expected `object`"),
        (b"", "truncated"),
        (b"[" * 10_000, "schema 1.0"),
        (b"\xff{}", "schema 1.0"),
    ],
)
def test_an_answer_that_does_not_fit_explains_nothing(answer: bytes, expected: str) -> None:
    with pytest.raises(Unavailable, match=expected):
        parse(answer, 1, NAMES)


@pytest.mark.parametrize(
    "attributions",
    [
        [],
        None,
        [{"attribution": []}],
        [{"attribution": [0.1, 0.9]}],
        [{"attribution": ["0.1"]}],
        [{"attribution": [float("nan")]}],
        [{"attribution": [0.1]}, {"attribution": [0.2], "description": {"partial_text": "a"}}],
    ],
)
def test_a_feature_has_one_number(attributions: Any) -> None:
    with pytest.raises(Unavailable):
        parse(a_feature(attributions), 1, ["amount"])


def test_a_number_beyond_all_floats_is_refused() -> None:
    answer = a_feature([{"attribution": [0.25]}]).replace(b"0.25", b"1e999")
    with pytest.raises(Unavailable):
        parse(answer, 1, ["amount"])
