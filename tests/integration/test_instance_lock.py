import subprocess
import sys
from pathlib import Path

import pytest

from consumer.errors import Misconfigured
from consumer.instance_lock import hold_instance

_HOLDER = """
import sys; from pathlib import Path
from consumer.instance_lock import hold_instance
with hold_instance(Path(sys.argv[1]), "app", "worker"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_directory_belongs_to_one_daemon(tmp_path: Path) -> None:
    with (
        hold_instance(tmp_path, "app", "one"),
        pytest.raises(Misconfigured, match="which a running daemon uses"),
        hold_instance(tmp_path, "app", "two"),
    ):
        pass


def test_a_worker_id_belongs_to_one_daemon_of_an_application(tmp_path: Path) -> None:
    with hold_instance(tmp_path / "a", "app", "one"):
        with (
            pytest.raises(Misconfigured, match=r"kcl\.worker_id: found one, which"),
            hold_instance(tmp_path / "b", "app", "one"),
        ):
            pass
        with hold_instance(tmp_path / "c", "other", "one"):
            pass


def test_a_killed_daemon_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    with holder.stdout, holder.stdin:
        assert holder.stdout.readline() == b"held\n"
        holder.kill()
        holder.wait()
    with hold_instance(tmp_path, "app", "worker"):
        pass


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Misconfigured, match=r"supervisor\.run_dir"),
        hold_instance(tmp_path / "file" / "run", "app", "one"),
    ):
        pass
