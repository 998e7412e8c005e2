"""What the demo offers at its end."""

import io
from pathlib import Path

from rich.console import Console

from consumer.__main__ import COMMANDS
from consumer.local.demo_report import show_next_steps


def said(exports: Path | None) -> str:
    out = io.StringIO()
    show_next_steps(Console(file=out, width=60), exports, {"transaction_id": "tx_7"})
    return out.getvalue()


def test_what_ended_offers_to_run_again_and_to_start_on_ones_own() -> None:
    text = said(None)
    assert "KEEP=1 make demo" in text
    assert "fraudstream status" not in text


def test_what_keeps_running_comes_with_its_variables_unbroken(tmp_path: Path) -> None:
    exports = tmp_path / "environment.sh"
    line = "export FRAUDSTREAM_AWS__ENDPOINT_URL='http://127.0.0.1:36515' # " + "x" * 80
    exports.write_text(line + "\n")
    text = said(exports)
    assert line in text.splitlines()
    assert f"or: . {exports}" in text
    assert "fraudstream show tx_7" in text


def test_every_command_it_names_exists(tmp_path: Path) -> None:
    exports = tmp_path / "environment.sh"
    exports.write_text("")
    words = [line.split() for line in said(exports).splitlines() if "bin/fraudstream" in line]
    assert {each[1] for each in words} <= set(COMMANDS)
    assert len(words) == 5
