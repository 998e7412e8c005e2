"""A replay that Ctrl-C or a full disk ends: in order, and told how to go on."""

import platform
import resource
import signal
import subprocess
from pathlib import Path

import pytest

from tests.replaying import Replayer, eventually, generate, read_state, write_history

pytestmark = pytest.mark.timeout(240)
HEADER = "transaction_id,event_time,card_id,merchant_id,amount,currency\n"
PACE = ("--rate", "1800", "--save-every", "0.1s")
# Nothing that a replay writes is as small.
NO_ROOM_BYTES = 64


def start(replayer: Replayer, *words: str) -> "subprocess.Popen[bytes]":
    """A replay whose output does not go to the disk."""
    return subprocess.Popen(
        [*replayer.interpreter, "replay", *words],
        env=replayer.environment,
        cwd=replayer.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_ctrl_c_ends_a_dry_run_without_a_word(tmp_path: Path) -> None:
    rows = [f"t{n},{1_780_000_000 + n},card_{n % 50},shop_1,12.5,EUR\n" for n in range(300_000)]
    (tmp_path / "rows.csv").write_text(HEADER + "".join(rows))
    words = ("rows.csv", "--time-unit", "s", "--to", "features", "--dry-run")
    process = start(Replayer(tmp_path), *words)
    # Made when the first row is read.
    eventually(lambda: any(tmp_path.rglob("rejects.ndjson")), "a first look at all rows")
    process.send_signal(signal.SIGINT)
    assert process.communicate() == (b"", b"")
    assert process.returncode == 130


@pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the embedded Redis exists for Linux x86-64 only",
)
def test_a_full_disk_ends_a_replay_with_the_way_to_go_on(tmp_path: Path) -> None:
    replayer = Replayer(tmp_path)
    write_history(tmp_path / "history.ndjson", generate(4_000))
    words = ("history.ndjson", "--to", "dataset", "out.parquet", "--scratch")
    process = start(replayer, *words, *PACE)
    state = tmp_path / "out.parquet.replay" / "state.json"
    eventually(lambda: read_state(state).get("ordinal", 0) > 0, "a saved state")
    limits = (NO_ROOM_BYTES, resource.RLIM_INFINITY)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limits)
    _, told = process.communicate()
    error = told.decode()
    assert process.returncode == 69, error
    assert "Traceback" not in error
    assert "--resume" in error
    assert "make room" in error
    summary = replayer.run(*words, "--resume")
    assert summary["counts"]["rows"] == 4_000
