"""The command line: help that works, errors in one place, exit codes that scripts rely on."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from consumer.__main__ import COMMANDS, Command, build_parser, main

FAKE = {
    "fake": Command("tests.fakes.command", "end", "Ends as told.", "fraudstream fake 3"),
    "extra": Command("tests.fakes.command", "end", "Ends.", "fraudstream extra 3", extra="local"),
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings file of the tree out of the tests."""
    monkeypatch.chdir(tmp_path)


def run_python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": str(root), "PATH": ""},
    )


def help_of(name: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_without_a_command_the_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0

    out = capsys.readouterr().out
    assert all(f"\n    {name} " in out for name in COMMANDS if name != "process")
    assert "exit codes:" in out


def test_the_worker_command_is_not_shown_among_those_for_people(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main([])

    assert "process" not in capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_has_an_example_that_parses(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = help_of(name, capsys)

    examples = re.split("examples?:\n", out)[1].strip().splitlines()
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "fraudstream"
        assert build_parser(COMMANDS, name).parse_args(words).command == name
    assert ("--config" in out) == (name != "init")


def test_a_command_that_does_not_exist_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rum"])

    assert ended.value.code == 2
    assert "invalid choice: 'rum'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("well", 3, ""),
        ("misconfigured", 2, "a: b: found c, expected d\n  e: f: found g, expected h\n"),
        ("unavailable", 69, "fraudstream: redis: does not answer\n"),
        ("interrupted", 130, ""),
    ],
)
def test_the_exit_code_tells_how_a_command_ended(
    ending: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fake", ending], FAKE) == code

    err = capsys.readouterr().err
    assert err.endswith(said)
    assert "Traceback" not in err


def test_a_missing_extra_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extra", "import:module_that_is_not_there.part"], FAKE) == 2

    err = capsys.readouterr().err
    assert "module_that_is_not_there" in err
    assert "pip install 'fraudstream[local]'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "module"), [("fake", "module_that_is_not_there"), ("extra", "consumer.not_there")]
)
def test_a_missing_module_that_no_extra_brings_is_a_defect_and_shows(
    name: str, module: str
) -> None:
    with pytest.raises(ModuleNotFoundError):
        main([name, f"import:{module}"], FAKE)


def test_wrong_settings_end_with_2_and_every_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("kcl: {stream_nane: x}\nlogs: {level: loud}\n")

    assert main(["config", "show", "--config", str(path)]) == 2

    err = capsys.readouterr().err
    assert f"{path}:1: kcl.stream_nane" in err
    assert f"{path}:2: logs.level" in err


def test_init_writes_files_that_are_in_effect_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "config"

    assert main(["init", str(folder)]) == 0
    said = capsys.readouterr().out
    assert main(["config", "show", "--json", "--config", str(folder / "fraudstream.yaml")]) == 0

    shown = orjson.loads(capsys.readouterr().out)
    assert sorted(path.name for path in folder.iterdir()) == [
        "features.yaml",
        "fraudstream.yaml",
        "lists",
        "rules.yaml",
    ]
    assert shown["rules.path"]["value"] == str(folder / "rules.yaml")
    assert all(f"wrote {path}" in said for path in folder.iterdir())
    assert f"fraudstream run --config {folder}" in said
    assert shown["features.path"]["value"] == str(folder / "features.yaml")
    assert shown["kcl.stream_name"]["origin"].startswith(f"{folder}/fraudstream.yaml:")


def test_init_overwrites_nothing_and_then_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "features.yaml").write_text("mine")

    assert main(["init", str(tmp_path)]) == 2

    assert "features.yaml" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["features.yaml"]
    assert (tmp_path / "features.yaml").read_text() == "mine"


def test_init_into_a_file_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")

    assert main(["init", str(tmp_path / "file" / "config")]) == 2

    assert "Not a directory" in capsys.readouterr().err


def test_the_main_help_imports_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "from consumer.__main__ import main\n"
        "main([])\n"
        "heavy = {'boto3', 'pydantic', 'redis', 'numpy', 'amazon_kclpy', 'yaml'}\n"
        "sys.stderr.write(', '.join(heavy & set(sys.modules)))\n"
    )

    ended = run_python("-W", "error", "-c", script)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_worker_says_nothing_on_standard_output_but_the_protocol(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("logs: {level: loud}\n")

    ended = run_python("-m", "consumer", "process", "--config", str(path))

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert f"{path}:1: logs.level" in ended.stderr
