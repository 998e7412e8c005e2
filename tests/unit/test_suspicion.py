from pathlib import Path

import pytest

from consumer.errors import Rejected
from consumer.model import Position, ShardId
from consumer.suspicion import DEATHS_LIMIT, Death, Suspects, accuse, case_path
from tests.builders import SHARD


def a_death(first: int, last: int | None = None, stage: str = "score") -> Death:
    at = (str(Position(first)), str(Position(first if last is None else last)))
    return Death(how="SIGSEGV", stage=stage, stage_age_s=0.1, time_ms=0, at=at)


def taken_up(run_dir: Path, checkpoint: Position | None = None) -> Suspects:
    suspects = Suspects(run_dir, "app")
    suspects.take_up(SHARD, checkpoint)
    return suspects


def accuse_all(run_dir: Path, *deaths: Death) -> None:
    for death in deaths:
        accuse(run_dir, "app", SHARD, death)


def test_without_a_death_nothing_is_suspected(tmp_path: Path) -> None:
    suspects = taken_up(tmp_path)
    assert not suspects.any
    assert not suspects.concern(Position(1))


def test_a_death_in_a_chunk_suspects_each_of_its_records_and_condemns_none(tmp_path: Path) -> None:
    accuse_all(tmp_path, *[a_death(5, 9)] * 4)
    suspects = taken_up(tmp_path)
    concerned = [number for number in range(12) if suspects.concern(Position(number))]
    assert concerned == [5, 6, 7, 8, 9]
    assert all(suspects.condemned(Position(number)) is None for number in concerned)


@pytest.mark.parametrize("deaths", range(1, DEATHS_LIMIT + 2))
def test_the_third_death_at_one_record_condemns_it(tmp_path: Path, deaths: int) -> None:
    accuse_all(tmp_path, a_death(5, 9), *[a_death(7)] * deaths)
    suspects = taken_up(tmp_path)
    error = suspects.condemned(Position(7))
    assert isinstance(error, Rejected) == (deaths >= DEATHS_LIMIT)
    if error is not None:
        assert error.code == "crashed"
        assert "SIGSEGV in stage score after 0.1 s at 1970-01-01T00:00:00+00:00" in error.message
    assert suspects.condemned(Position(8)) is None


def test_records_of_one_aggregate_are_told_apart(tmp_path: Path) -> None:
    death = Death(how="SIGSEGV", stage="score", stage_age_s=0, time_ms=0, at=("5:1", "5:1"))
    accuse_all(tmp_path, death)
    suspects = taken_up(tmp_path)
    assert [suspects.concern(Position(5, sub)) for sub in range(3)] == [False, True, False]


def test_a_suspicion_ends_with_the_checkpoint_past_it_and_not_before(tmp_path: Path) -> None:
    accuse_all(tmp_path, a_death(5, 9), a_death(20, 22))
    suspects = taken_up(tmp_path)
    suspects.saved(Position(8))
    assert taken_up(tmp_path).concern(Position(9))
    suspects.saved(Position(9))
    left = taken_up(tmp_path)
    assert not left.concern(Position(9))
    assert left.concern(Position(21))
    suspects.saved(Position(30))
    assert not case_path(tmp_path, "app", SHARD).exists()


def test_what_lies_before_the_checkpoint_at_the_start_is_forgotten(tmp_path: Path) -> None:
    accuse_all(tmp_path, a_death(5, 9))
    assert not taken_up(tmp_path, Position(9)).any
    assert not case_path(tmp_path, "app", SHARD).exists()


def test_ranges_that_overlap_are_one_and_others_stay_apart(tmp_path: Path) -> None:
    accuse_all(tmp_path, a_death(20, 25), a_death(1, 5), a_death(4, 8))
    suspects = taken_up(tmp_path)
    concerned = [number for number in range(30) if suspects.concern(Position(number))]
    assert concerned == [*range(1, 9), *range(20, 26)]


def test_a_shard_knows_nothing_of_anothers_deaths(tmp_path: Path) -> None:
    accuse(tmp_path, "app", ShardId("shardId-000000000001"), a_death(5))
    accuse(tmp_path, "other", SHARD, a_death(5))
    assert not taken_up(tmp_path).any


@pytest.mark.parametrize("content", [b"", b"{", b'{"shard_id":"s","ranges":[["a","b"]]}', b"[]"])
def test_a_file_that_cannot_be_read_suspects_nothing(tmp_path: Path, content: bytes) -> None:
    accuse_all(tmp_path, a_death(5))
    case_path(tmp_path, "app", SHARD).write_bytes(content)
    assert not taken_up(tmp_path).any
    accuse_all(tmp_path, a_death(6))
    assert taken_up(tmp_path).concern(Position(6))


def test_where_it_died_is_remembered_by_stage(tmp_path: Path) -> None:
    accuse_all(tmp_path, a_death(5, stage="decode"), a_death(6, 7, stage="decode"))
    suspects = taken_up(tmp_path)
    assert suspects.killed_in(Position(5), ["decode"])
    assert not suspects.killed_in(Position(5), ["score"])
    assert not suspects.killed_in(Position(6), ["decode"]), "not alone under way"
