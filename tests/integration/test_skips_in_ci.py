"""A test that skips on a laptop fails in CI, unless it only lacks the measuring data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SKIPPING = """
import pytest

def test_of_a_service():
    pytest.skip("no such service here")

@pytest.mark.measuring_data
def test_of_the_data():
    pytest.skip("no data here")
"""


def run_tests(folder: Path, text: str, *, ci: bool) -> str:
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = measuring_data: x\n")
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-rs"],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), **({"CI": "true"} if ci else {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ended.stdout


def test_on_a_laptop_both_skip_with_their_reasons(tmp_path: Path) -> None:
    said = run_tests(tmp_path, SKIPPING, ci=False)

    assert "2 skipped" in said
    assert "no such service here" in said


def test_in_ci_the_missing_service_is_a_failure(tmp_path: Path) -> None:
    said = run_tests(tmp_path, SKIPPING, ci=True)

    assert "1 failed, 1 skipped" in said
    assert "no such service here" in said


@pytest.mark.parametrize(("ci", "summary"), [(False, "1 skipped"), (True, "1 error")])
def test_a_module_that_skips_as_a_whole_is_held_to_the_same(
    tmp_path: Path, *, ci: bool, summary: str
) -> None:
    whole = "import pytest\npytest.skip('no such service', allow_module_level=True)\n"

    said = run_tests(tmp_path, whole, ci=ci)

    assert summary in said
    assert "no such service" in said
