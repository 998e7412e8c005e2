"""A few quick cases of ``make chaos``, so that ``make test`` holds the suite itself to its word."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.cases import load
from tests.chaos.lab import Lab, open_lab
from tests.chaos.registry import CASES, Case
from tests.chaos.runner import run_case

load()
QUICK = [case for case in CASES.values() if case.quick]
SEED = 20_261


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with open_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.mark.parametrize("case", QUICK, ids=[case.name for case in QUICK])
def test_nothing_is_lost_or_counted_twice(case: Case, lab: Lab, tmp_path: Path) -> None:
    result = run_case(case, lab, SEED, tmp_path)
    assert not result.failure, result.failure
    assert result.injected > 0
