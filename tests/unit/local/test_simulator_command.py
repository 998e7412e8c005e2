"""``fraudstream simulate`` refuses what cannot be done and shows how far it is."""

import argparse
import io
from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.local.simulator import command
from consumer.local.simulator.display import shown
from consumer.local.simulator.history import Folder, read_history


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    command.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    "words",
    [
        ("--rate", "-1"),
        ("--rate", "inf"),
        ("--late", "1.5"),
        ("--duplicates", "nan"),
        ("--cards", "many"),
        ("--end", "2026-11-23T20:00:00"),
        ("--format", "csv"),
    ],
)
def test_values_out_of_range_are_refused(
    words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        arguments(*words)
    assert left.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_live_traffic_goes_to_aws_only_when_told_so() -> None:
    with pytest.raises(Misconfigured, match="--aws"):
        command.run(arguments("--stream", "transactions"))


def test_sizes_that_cannot_be_simulated_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="at least one card"):
        command.run(arguments("--history", str(tmp_path), "--cards", "0"))


def test_a_history_in_a_folder_needs_no_aws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--cards", "40", "--merchants", "60", "--days", "3", "--transactions", "10")
    end = ("--end", "2026-11-23T20:00:00Z")
    assert command.run(arguments("--history", str(tmp_path), *words, *end)) == 0
    days = [day.isoformat() for day, _ in read_history(Folder(tmp_path), "transactions")]
    assert days[-1] == "2026-11-23"
    assert "history, days: 4 of 4" in capsys.readouterr().err


def test_progress_is_a_line_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with shown("records", 100, out) as report:
        report(10, "10/s")
        report(100, "50/s")
    assert out.getvalue() == "records: 100 of 100  50/s\n"


def test_what_comes_on_top_of_the_total_is_told_apart() -> None:
    out = io.StringIO()
    with shown("sent", 3_000, out) as report:
        report(3_051, "2,990 decided")
    assert out.getvalue() == "sent: 3,000 of 3,000 and 51 more  2,990 decided\n"
