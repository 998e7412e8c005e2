"""What a replay is asked for, and what of it cannot be together."""

import argparse
from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.replay.arguments import Wishes, add_arguments, parse_duration, read_wishes
from consumer.replay.chunks import Selection
from consumer.replay.pace import Pace


def wishes(*words: str) -> Wishes:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return read_wishes(parser.parse_args(["history.csv", *words]))


def problems(*words: str) -> list[str]:
    with pytest.raises(Misconfigured) as error:
        wishes(*words)
    return [str(problem) for problem in error.value.problems]


def test_results_grow_beside_the_file_that_they_become() -> None:
    found = wishes("--to", "dataset", "out/training.parquet", "--scratch")
    assert found.out == Path("out/training.parquet")
    assert found.work == Path("out/training.parquet.replay")
    assert found.state == "out/training.parquet.replay/state.json"
    assert found.save_every_s == 30


def test_a_live_target_keeps_its_state_here() -> None:
    found = wishes("--to", "stream", "--rate", "500")
    assert (found.state, found.save_every_s) == ("replay-stream.json", 5)
    assert found.pace == Pace(rate=500)
    assert wishes("--to", "stream", "--state", "s3://b/k").state == "s3://b/k"


def test_a_live_target_has_a_work_folder_of_its_own_that_a_resume_finds() -> None:
    assert wishes("--to", "features").work == Path("replay-features.work")
    assert wishes("--to", "features", "--state", "a/mine.json").work == Path("a/mine.work")
    assert wishes("--to", "features", "--work", "w").work == Path("w")
    one = wishes("--to", "stream", "--state", "s3://b/1/state.json").work
    other = wishes("--to", "stream", "--state", "s3://b/2/state.json").work
    assert one != other
    assert one == wishes("--to", "stream", "--state", "s3://b/1/state.json").work


def test_times_and_speeds_are_read() -> None:
    found = wishes(
        *("--to", "features", "--from-time", "2026-06-02", "--warm-up", "37d"),
        *("--to-time", "2026-06-03T12:00:00Z", "--limit", "9", "--speed", "60x"),
    )
    noon_ms = 1_780_488_000_000
    day_ms = 86_400_000
    assert found.selection == Selection(noon_ms - day_ms * 3 // 2, noon_ms, 37 * day_ms, 9)
    assert found.pace == Pace(speed=60)
    assert wishes("--to", "stream", "--speed", "original").pace == Pace(speed=1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "redis"], "one of stream, engine, features, dataset"),
        (["--to", "dataset"], "--to dataset out.parquet"),
        (["--to", "engine", "--scratch"], "--to engine out.parquet"),
        (["--to", "engine", "x.parquet"], "engine without a file, or --scratch"),
        (["--to", "features", "x.parquet"], "features without a file"),
        (["--to", "dataset", "a", "b"], "SOURCE goes first"),
        (["--to", "stream", "--scratch"], "one of engine, features, dataset"),
        (["--to", "dataset", "a", "--resume"], "--scratch: vectors that were read after"),
        (["--to", "features", "--report", "r"], "--to engine OUT.parquet --scratch"),
        (["--to", "stream", "--warm-up", "2d"], "the time that it goes before"),
        (["--to", "stream", "--rate", "1", "--speed", "2x"], "one of both"),
        (["--to", "stream", "--resume", "--restart"], "one of both"),
    ],
)
def test_what_cannot_be_is_told_with_what_is_expected(words: list[str], said: str) -> None:
    (problem,) = problems(*words)
    assert said in problem


def test_all_problems_are_told_at_once() -> None:
    times = ("--from-time", "2026-06-02", "--to-time", "2026-06-01")
    assert len(problems("--to", "dataset", *times, "--resume", "--restart")) == 4


@pytest.mark.parametrize(
    ("text", "seconds"), [("0", 0), ("30s", 30), ("1.5h", 5_400), ("15m", 900), ("37d", 3_196_800)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "d", "-1d", "1w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="30s, 15m, 2h or 37d"):
        parse_duration(text)
