"""The saved state of a replay: replaced whole, refused where it belongs to another."""

import argparse
from pathlib import Path

import msgspec
import pytest

from consumer.errors import Misconfigured
from consumer.replay.arguments import Wishes, add_arguments, read_wishes
from consumer.replay.chunks import Reject
from consumer.replay.standing import take_up
from consumer.replay.state import (
    FileState,
    State,
    check_identity,
    decode_state,
    encode_state,
)
from consumer.replay.undecodable import Undecodable

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


def wishes(*words: str) -> Wishes:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return read_wishes(parser.parse_args(["history.csv", "--to", "features", *words]))


@pytest.mark.parametrize(("ordinal", "refused"), [(0, False), (1, True)])
def test_a_replay_that_did_nothing_yet_is_not_in_the_way_of_another(
    tmp_path: Path, ordinal: int, *, refused: bool
) -> None:
    place = FileState(tmp_path / "state.json")
    place.write(encode_state(msgspec.structs.replace(STATE, ordinal=ordinal)))
    identity = {"history": "corrected", "target": "features"}
    if refused:
        with pytest.raises(Misconfigured, match="--resume to go on with it"):
            take_up(place, wishes(), identity)
    else:
        assert take_up(place, wishes(), identity) is None
    assert take_up(place, wishes("--restart"), identity) is None
    with pytest.raises(Misconfigured, match="history: found corrected"):
        take_up(place, wishes("--resume"), identity)


def test_what_was_rejected_before_an_interruption_may_lie_on_another_machine(
    tmp_path: Path,
) -> None:
    path = tmp_path / "undecodable.ndjson"
    reject = Reject(3, "file, row 4", "pan", "card_id: a card number", "{}")
    with Undecodable(path, 0, 0.01) as first:
        first.add([reject], 10)
        saved = first.size_bytes
        first.add([reject], 10)
    with Undecodable(path, saved, 0.01) as resumed:
        assert resumed.size_bytes == path.stat().st_size == saved
    path.unlink()
    with Undecodable(path, saved, 0.01) as elsewhere:
        elsewhere.add([reject], 10)
        assert elsewhere.size_bytes == path.stat().st_size
