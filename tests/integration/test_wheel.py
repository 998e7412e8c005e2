"""
The wheel holds everything it needs: it is installed outside the tree and used there.

The environment it goes into is empty but for links to the distributions that its
own metadata asks for, taken from this environment. So a dependency that nobody
declared is missing there, and nothing is downloaded.
"""

import importlib.metadata
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from consumer.__main__ import COMMANDS

ROOT = Path(__file__).parents[2]
BUILT_FROM = (
    "consumer",
    "config",
    "setup.cfg",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
)
OF_EXTRAS = (
    "consumer.api.",
    "consumer.deployment.",
    "consumer.evaluation.",
    "consumer.local.",
    "consumer.model_actions.",
    "consumer.replay.",
    "consumer.rules_backtest",
    "consumer.train_command",
    "consumer.training.",
)
IMPORT_ALL = """
import importlib, pkgutil, sys, consumer
for module in pkgutil.walk_packages(consumer.__path__, "consumer."):
    if not module.name.startswith(tuple(sys.argv[1:])):
        importlib.import_module(module.name)
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with the wheel in it, and a folder far from the tree."""

    folder: Path
    elsewhere: Path

    def run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.folder / "bin" / program, *arguments],
            cwd=self.elsewhere,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.elsewhere)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the sdist of a copy, so that leftovers of the tree cannot help."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    built = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(built), str(source)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (wheel,) = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, set(), tmp_path_factory)


@pytest.fixture(scope="module")
def full(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install(wheel, {"local"}, tmp_path_factory)


def install(wheel: Path, extras: set[str], folders: pytest.TempPathFactory) -> Installed:
    installed = Installed(folders.mktemp("environment"), folders.mktemp("elsewhere"))
    venv.create(installed.folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(installed.folder / "bin" / "python")]
    options = ["install", "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel)]
    ended = subprocess.run([*pip, *options], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (site,) = installed.folder.glob("lib/python*/site-packages")
    (metadata,) = site.glob("fraudstream-*.dist-info")
    link_requirements(importlib.metadata.PathDistribution(metadata), extras, site)
    return installed


def link_requirements(
    distribution: importlib.metadata.Distribution, extras: set[str], site: Path
) -> None:
    """Link what *distribution* with *extras* requires, and what that requires, into *site*."""
    waiting = [(distribution, extras)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        current, wanted = waiting.pop()
        for text in current.requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if marker and not any(marker.evaluate({"extra": e}) for e in {"", *wanted}):
                continue
            name = canonicalize_name(requirement.name)
            known = {(name, extra) for extra in {"", *requirement.extras}}
            if known <= seen:
                continue
            seen |= known
            if name == "fraudstream":
                waiting.append((distribution, set(requirement.extras)))
                continue
            required = importlib.metadata.distribution(name)
            waiting.append((required, set(requirement.extras)))
            link_files(required, site)


def link_files(distribution: importlib.metadata.Distribution, site: Path) -> None:
    tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
    for top in tops:
        if not (site / top).exists():
            (site / top).symlink_to(str(distribution.locate_file(top)))


def test_the_package_comes_from_the_wheel_and_not_from_the_tree(bare: Installed) -> None:
    where = bare.run("python", "-c", "import consumer; print(consumer.__file__)")

    assert where.stdout.startswith(str(bare.folder))


def test_every_file_of_the_package_is_in_the_wheel(bare: Installed) -> None:
    (site,) = bare.folder.glob("lib/python*/site-packages")
    listed = subprocess.run(
        ["git", "ls-files", "consumer", "config"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git working tree")

    tracked = {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}
    expected = {name.replace("config/", "consumer/defaults/", 1) for name in tracked}
    assert {name for name in expected if not (site / name).is_file()} == set()


def test_the_core_imports_with_what_it_declares(bare: Installed) -> None:
    ended = bare.run("python", "-c", IMPORT_ALL, *OF_EXTRAS)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_embedded_stack_imports_with_what_its_extra_declares(full: Installed) -> None:
    # What SageMaker's container runs beside modules that it gets by other names.
    ended = full.run("python", "-c", IMPORT_ALL, "consumer.deployment.container.")

    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_version_is_that_of_the_wheel(bare: Installed, wheel: Path) -> None:
    version = wheel.name.split("-")[1]

    assert bare.run("fraudstream", "--version").stdout == f"fraudstream {version}\n"


def test_init_and_config_show_work_far_from_the_tree(bare: Installed) -> None:
    written = bare.run("fraudstream", "init", "config")
    shown = bare.run("fraudstream", "config", "show", "--json")

    assert (written.returncode, written.stderr) == (0, "")
    assert (shown.returncode, shown.stderr) == (0, "")
    features = orjson.loads(shown.stdout)["features.path"]
    assert features["value"] == str(bare.elsewhere / "config" / "features.yaml")
    assert features["origin"].startswith("config/fraudstream.yaml:")


def test_without_any_settings_file_the_shipped_features_are_found(bare: Installed) -> None:
    (bare.elsewhere / "nowhere").mkdir()
    script = "from consumer.configuration import load; print(load().settings.features.path)"

    shown = Installed(bare.folder, bare.elsewhere / "nowhere").run("python", "-c", script)

    assert Path(shown.stdout.strip()).is_file()
    assert shown.stdout.startswith(str(bare.folder))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_helps(name: str, full: Installed) -> None:
    ended = full.run("fraudstream", name, "--help")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "example" in ended.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_without_its_extra_says_how_to_install_it(name: str, bare: Installed) -> None:
    ended = bare.run("fraudstream", name, "--help")

    if ended.returncode == 0:
        # It needs nothing of an extra before it is asked to do something.
        assert ended.stderr == ""
    else:
        assert ended.returncode == 2
        assert ended.stderr.endswith(f"pip install 'fraudstream[{COMMANDS[name].extra}]'\n")
        assert ended.stderr.count("\n") == 1


def test_a_report_without_its_extra_says_how_to_install_it(bare: Installed) -> None:
    ended = bare.run("fraudstream", "report", "decisions.parquet")

    assert ended.returncode == 2
    assert ended.stderr.endswith("pip install 'fraudstream[train]'\n")
    assert ended.stderr.count("\n") == 1
