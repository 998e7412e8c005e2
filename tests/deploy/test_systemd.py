"""The units say what systemd understands, fit the settings, and can be put in and taken away."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from consumer.settings import Api, Kcl
from consumer.supervisor import STOP_MARGIN_S

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
NAMES = ("fraudstream.service", "fraudstream-api.service")
# systemd-analyze security: 0 is closed, 10 open; the JVM keeps one point for itself.
MOST_EXPOSED = 1.5


def needs(tool: str) -> str:
    found = shutil.which(tool)
    if found is None:
        pytest.skip(f"{tool} is not installed")
    return found


def setting(unit: str, name: str) -> str:
    (found,) = re.findall(rf"^{name}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)
    return str(found)


def installed(root: Path, *words: str) -> list[str]:
    """Run install.sh on *root*; the paths that it says it wrote."""
    needs("systemd-sysusers")
    done = subprocess.run(
        [UNITS / "install.sh", "--root", root, *words], capture_output=True, text=True, check=True
    )
    return [line for line in done.stdout.splitlines() if line.startswith("/")]


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def test_systemd_finds_nothing_wrong_with_the_units(root: Path) -> None:
    analyze = needs("systemd-analyze")
    installed(root, "--files-only")
    program = root / "opt/fraudstream/bin/fraudstream"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for name in NAMES:
        unit = root / "etc/systemd/system" / name
        text = unit.read_text().replace("/opt/fraudstream", f"{root}/opt/fraudstream")
        unit.write_text(text.replace("fraudstream.yaml", "x.yaml"))
        done = subprocess.run(
            [analyze, "verify", "--man=no", unit], capture_output=True, text=True, check=False
        )
        # It also speaks of units of the machine; ours begin with their own name or path.
        said = [line for line in done.stderr.splitlines() if "fraudstream" in line]
        assert said == []


@pytest.mark.parametrize("name", NAMES)
def test_the_services_may_do_little(name: str) -> None:
    done = subprocess.run(
        [needs("systemd-analyze"), "security", "--offline=true", "--no-pager", UNITS / name],
        capture_output=True,
        text=True,
        check=False,
    )
    exposed = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    assert exposed is not None, done.stderr
    assert float(exposed[1]) <= MOST_EXPOSED


def test_the_daemon_may_drain_before_it_is_killed() -> None:
    grace_s = Kcl().shutdown_grace_ms / 1000
    assert int(setting("fraudstream.service", "TimeoutStopSec")) > grace_s + STOP_MARGIN_S


def test_the_service_may_answer_before_it_is_killed() -> None:
    api = Api()
    rows_s = 10
    longest_s = api.drain_delay_s + api.drain_limit_s + rows_s
    assert int(setting("fraudstream-api.service", "TimeoutStopSec")) > longest_s


def test_only_the_daemon_may_write_code_into_memory() -> None:
    assert "MemoryDenyWriteExecute=yes" in (UNITS / "fraudstream-api.service").read_text()
    assert "\nMemoryDenyWriteExecute" not in (UNITS / "fraudstream.service").read_text()


def test_installing_again_changes_nothing_and_leaves_settings_alone(root: Path) -> None:
    first = installed(root, "--files-only")
    assert {f"/etc/systemd/system/{name}" for name in NAMES} <= set(first)
    own = root / "etc/fraudstream/fraudstream.env"
    own.write_text("FRAUDSTREAM_REDIS__URL=redis://mine\n")
    assert installed(root, "--files-only") == []
    assert own.read_text() == "FRAUDSTREAM_REDIS__URL=redis://mine\n"
    assert "fraudstream:" in (root / "etc/passwd").read_text()


def test_what_was_installed_can_be_taken_away_but_for_settings(root: Path) -> None:
    installed(root, "--files-only")
    subprocess.run(
        [needs("systemctl"), f"--root={root}", "enable", "fraudstream"],
        capture_output=True,
        check=True,
    )
    installed(root, "--uninstall")
    left = {path for path in files(root) if "fraudstream" in path}
    assert left == {"etc/fraudstream/fraudstream.env"}
    assert not list(root.glob("etc/systemd/system/*.wants/*"))
    installed(root, "--uninstall")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--root", "/nowhere/at/all", "x"], "--root /nowhere/at/all is no directory"),
        (["--fast"], "--fast is unknown"),
        (["a", "b"], "one package, not a and b"),
        ([], "install.sh PACKAGE"),
    ],
)
def test_a_call_that_cannot_be_meant_says_why(words: list[str], complaint: str) -> None:
    done = subprocess.run(
        [UNITS / "install.sh", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert complaint in done.stderr


def test_the_script_has_no_flaw_that_shellcheck_knows() -> None:
    subprocess.run([needs("shellcheck"), UNITS / "install.sh"], check=True)
