"""The traps of the expression library, pinned."""

from datetime import UTC, datetime

import pytest

from consumer.rules.cel import Failure, Language, NotCompiled, Type
from consumer.rules.compilation import MOST_BITS

LANGUAGE = Language({"a": Type.TEXT, "n": Type.NUMBER, "t": Type.TIME, "x": Type.ANY})


def evaluate(source: str, **values: object) -> int | Failure:
    return LANGUAGE.compile(source).evaluate(LANGUAGE.bind(values))


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("n > 1.0", {}),
        ("n > 1.0", {"n": "text"}),
        ("a == 'x'", {"a": object()}),
        ("a == 'x'", {"a": "\ud800"}),
        ("a.matches('(')", {"a": "x"}),
        ("x > 5", {"x": "text"}),
        ("x == 5", {"x": 2**70}),
        ("t.getHours() > 1", {"t": datetime(1, 1, 1, tzinfo=UTC)}),
        ("1 / 0 == 1", {}),
    ],
)
def test_what_gives_no_value_is_a_failure_and_never_an_exception(
    source: str, values: dict[str, object]
) -> None:
    assert isinstance(evaluate(source, **values), Failure)


def test_either_side_of_or_and_and_may_fail_where_the_other_decides() -> None:
    assert evaluate("n > 1.0 || a == 'x'", n=2.0) == 1
    assert evaluate("n > 1.0 && a == 'x'", n=0.0) == 0


def test_an_integer_holds_the_bits_of_a_group() -> None:
    assert evaluate(f"{1 << MOST_BITS - 1} + {1 << MOST_BITS - 2}") == 3 << MOST_BITS - 2


@pytest.mark.parametrize(
    ("source", "line", "column", "message"),
    [
        ("n > 1000", 1, 3, "write numbers with a decimal point"),
        ("1.0 <\n n &&", 2, 6, "Syntax error"),
        ("(" * 33 + "n" + ")" * 33, 1, 1, "recursion"),
    ],
)
def test_a_mistake_has_its_line_and_column(
    source: str, line: int, column: int, message: str
) -> None:
    with pytest.raises(NotCompiled, match=message) as refused:
        LANGUAGE.compile(source)
    assert (refused.value.line, refused.value.column) == (line, column)
