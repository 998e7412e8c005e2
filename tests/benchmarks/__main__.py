"""
``make bench``: measure, print a table, write ``.bench/results.json``.

``ONLY`` in the environment names one benchmark or one figure (or several, with
commas); the results then hold what was measured in this run alone. The exit code
says whether everything could be measured, not whether the targets are met.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from traceback import format_exception
from types import FrameType

from rich.console import Console

from consumer.adapters.redis.connection import connect
from consumer.local.redis_server import RedisServer
from tests.benchmarks import (
    lambda_shape,
    latency,
    replay,
    rest,
    round_trips,
    stages,
    start,
    state,
    throughput,
)
from tests.benchmarks.catalogue import FIGURES
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.measured import Measured
from tests.benchmarks.report import show, write_results

DIRECTORY = Path(".bench")
_MEASURE: Mapping[str, Callable[[Path], dict[str, Measured]]] = {
    "throughput": throughput.measure,
    "stages": stages.measure,
    "latency": latency.measure,
    "state": state.measure,
    "start": start.measure,
    "round_trips": round_trips.measure,
    "replay": replay.measure,
    "rest": rest.measure,
    "lambda_shape": lambda_shape.measure,
}
_LIMIT_S = 150
_WIDTH = 110


def main() -> int:
    """Measure what was asked for; 1 when a benchmark failed, 2 when there is none of that name."""
    # Without a terminal there is no width to keep to, and a cut-off name is of no use.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    only = [name for name in os.environ.get("ONLY", "").replace(",", " ").split() if name]
    chosen = _choose(only)
    unknown = set(only) - _known()
    if unknown:
        console.print(f"no figure is called {', '.join(sorted(unknown))}; there are:")
        for benchmark, figures in FIGURES.items():
            console.print(f"  {benchmark}: {', '.join(figures)}")
        return 2
    # As an absolute path, since Redis and the worker have folders of their own.
    directory = DIRECTORY.resolve()
    machine = describe_machine(_redis_version())
    found: dict[str, Measured] = {}
    failed = []
    for benchmark, names in chosen.items():
        console.print(f"{benchmark} …", end=" ")
        started_s = time.monotonic()
        try:
            measured = _measure(benchmark, directory)
        except Exception as error:  # noqa: BLE001 - the other figures are still worth having
            failed.append(benchmark)
            trace = directory / benchmark / "failure.txt"
            trace.write_text("".join(format_exception(error)))
            console.print(f"failed: {error!r}; see {trace}", markup=False, style="red")
            continue
        found |= {name: measured[name] for name in names}
        console.print(f"{time.monotonic() - started_s:.0f} s")
    write_results(directory / "results.json", found)
    show(console, machine, found)
    if failed:
        console.print(f"could not be measured: {', '.join(failed)}", style="bold red")
    return 1 if failed else 0


def _known() -> set[str]:
    return {*FIGURES, *(name for figures in FIGURES.values() for name in figures)}


def _choose(only: list[str]) -> dict[str, list[str]]:
    """Benchmark → the figures of it to report: all of one that is named itself."""
    chosen = {}
    for benchmark, figures in FIGURES.items():
        wanted = [name for name in figures if not only or benchmark in only or name in only]
        if wanted:
            chosen[benchmark] = wanted
    return chosen


def _measure(benchmark: str, directory: Path) -> dict[str, Measured]:
    """Run one benchmark in an empty folder. Raises TimeoutError when it takes too long."""
    folder = directory / benchmark
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with _time_limit(_LIMIT_S):
        return _MEASURE[benchmark](folder)


@contextmanager
def _time_limit(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block after *seconds*, so that nothing hangs for ever."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        message = f"took longer than {seconds} s"
        raise TimeoutError(message)

    previous = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def _redis_version() -> str:
    with RedisServer(modules=False) as server:
        client = connect(server.url, connect_timeout_s=2, timeout_s=5)
        version = str(client.info("server")["redis_version"])
        client.close()
    return version


if __name__ == "__main__":
    sys.exit(main())
