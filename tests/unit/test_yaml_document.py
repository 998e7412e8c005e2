"""YAML that would end a parser in a traceback, or a process in its memory, is one problem."""

import pytest

from consumer.errors import Misconfigured, Problem
from consumer.features.specification import parse_plan
from consumer.rules.specification import parse_rules
from consumer.yaml_document import read_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 8)}]\n" for level in range(1, 9)
)


def problem_of(text: str) -> Problem:
    with pytest.raises(Misconfigured) as caught:
        read_yaml(text, "some.yaml")
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize("text", ["", "# nothing\n", "--- \n"])
def test_an_empty_file_has_no_value(text: str) -> None:
    assert read_yaml(text, "some.yaml").value is None


def test_anchors_and_merges_are_read_as_yaml_has_them() -> None:
    text = "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: [*a, *a]\n"
    both = {"x": 1, "y": 2}
    expected = {"a": both, "b": {"x": 1, "y": 3}, "c": [both, both]}
    assert read_yaml(text, "some.yaml").value == expected


@pytest.mark.parametrize(
    "value",
    [
        "!!timestamp x",
        '!!int ""',
        "!!bool x",
        "!!float x",
        "2026-02-30",
        "!!python/name:os.system x",
    ],
)
def test_a_value_that_its_type_does_not_fit_is_told_with_its_place(value: str) -> None:
    problem = problem_of(f"a: 1\nb: {value}\n")
    assert problem.source == "some.yaml:2:4"
    assert problem.expected == "a value of that type, or quotes around it"


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
@pytest.mark.parametrize("depth", [33, 50_000])
def test_nesting_ends_before_the_stack_does(opening: str, depth: int) -> None:
    assert problem_of(opening * depth).expected == "at most 32 levels"


def test_nesting_by_aliases_ends_too() -> None:
    chain = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 100))
    assert problem_of(chain).expected == "at most 32 levels"


def test_aliases_that_would_fill_the_memory_are_refused() -> None:
    assert "characters with aliases written out" in problem_of(LAUGHS).expected


def test_a_value_that_contains_itself_is_refused() -> None:
    assert problem_of("a: &a [*a]\n").found == "a value that contains itself"


def test_a_key_that_stands_twice_is_told_with_both_lines() -> None:
    problem = problem_of("a: 1\nb:\n  when: x\n  then: y\n  when: z\n")
    assert (problem.source, problem.found) == ("some.yaml:5:3", "the key when again")
    assert problem.expected == "each key once; it stands on line 3"


@pytest.mark.parametrize("number", ["0x" + "f" * 20_000, "9223372036854775808", "-1" + "0" * 30])
def test_a_number_that_does_not_fit_64_bits_is_refused(number: str) -> None:
    assert problem_of(f"a: {number}\n").expected == "at most 9223372036854775807"


def test_half_a_surrogate_pair_is_refused() -> None:
    assert problem_of('a: "\\ud83d"\n').found == "half of a surrogate pair"


@pytest.mark.parametrize("text", ["!!timestamp x", "[" * 5_000, LAUGHS, 'a: "\\ud800"'])
def test_rules_and_features_are_read_with_the_same_care(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"rules\.yaml:"):
        parse_rules(text, "rules.yaml")
    with pytest.raises(Misconfigured, match=r"features\.yaml:"):
        parse_plan(text, source="features.yaml")
