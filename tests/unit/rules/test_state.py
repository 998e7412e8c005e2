"""What an operator is told of the rules that a worker decides by."""

import pytest

from consumer.rules.specification import Mode
from consumer.rules.state import RulesState


@pytest.mark.parametrize(
    ("state", "note"),
    [
        (RulesState(), ""),
        (RulesState(refused=True), "the version before: the files are refused"),
        (RulesState(copy="last good copy", refused=True), "the last good copy"),
        (RulesState(tripped="ab12"), "the version before: ab12 tripped"),
        (RulesState(mode=Mode.OFF), "scores alone: the rules are off"),
    ],
)
def test_what_is_not_simply_the_files_is_said(state: RulesState, note: str) -> None:
    assert state.note() == note
