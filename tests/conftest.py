"""
What holds for every test.

A test that lacks a service (Java, the embedded Redis, …) skips with its reason
on a laptop. Where ``CI`` is set the same skip is a failure, so that a green run
never means "not tested". Only tests marked ``measuring_data`` may skip there.
"""

import logging
import os
import signal
from collections.abc import Generator, Iterator

import hypothesis
import pytest
import structlog

# A deadline would test the machine's load, not the code.
hypothesis.settings.register_profile("fraudstream", deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "fuzz", parent=hypothesis.settings.get_profile("fraudstream"), max_examples=500
)
hypothesis.settings.load_profile("fraudstream")

# Whoever starts the tests in the background may have told them to ignore these; the
# processes that tests start would inherit it, and shells could not trap them.
for _number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
    signal.signal(_number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _logs_of_its_own() -> Iterator[None]:
    """Undo what a command under test said about logs: its stream ends with the test."""
    yield
    structlog.reset_defaults()
    for handler in list(logging.root.handlers):
        if type(handler).__module__.startswith("consumer"):
            logging.root.removeHandler(handler)


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    expected = hasattr(report, "wasxfail") or item.get_closest_marker("measuring_data")
    if _in_ci() and report.skipped and not expected:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if _in_ci() and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not accept: {report.longrepr}"
    return report
