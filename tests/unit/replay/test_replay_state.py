"""The saved state of a replay: replaced whole, refused where it belongs to another."""

from pathlib import Path

import msgspec
import pytest

from consumer.errors import Misconfigured
from consumer.replay.state import (
    FileState,
    State,
    check_identity,
    decode_state,
    encode_state,
)

STATE = State(identity={"history": "a", "target": "features"}, begun_ms=5, ordinal=7)


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    place = FileState(tmp_path / "folder" / "state.json")
    assert place.read() is None
    place.write(encode_state(STATE))
    data = place.read()
    assert data is not None
    assert decode_state(data, place.name) == STATE
    assert [path.name for path in place.path.parent.iterdir()] == ["state.json"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"ordinal": "x"}'])
def test_what_is_no_state_is_told_with_its_place(data: bytes) -> None:
    with pytest.raises(Misconfigured, match=r"state\.json"):
        decode_state(data, "state.json")


def test_a_state_of_another_version_is_refused() -> None:
    later = msgspec.structs.replace(STATE, version=99)
    with pytest.raises(Misconfigured, match="version: found 99"):
        decode_state(encode_state(later), "state.json")


def test_everything_that_differs_is_listed() -> None:
    check_identity(STATE, dict(STATE.identity), "s")
    with pytest.raises(Misconfigured) as error:
        check_identity(STATE, {"history": "b", "target": "features", "out": "x"}, "s")
    assert [problem.key for problem in error.value.problems] == ["history", "out"]
