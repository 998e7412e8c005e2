"""
The worker, telling where its CPU time goes: ``python -m tests.benchmarks.staged_worker FILE``.

It is ``fraudstream process`` in every part but the heartbeat, which hears of each
change of stage anyway and here reads the clock of the thread too (a third of a
microsecond, a few times a chunk). After each delivery FILE holds nanoseconds of
CPU by stage of the main thread and by name of each other thread.
"""

import os
import sys
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import orjson

from consumer.clock import Clock
from consumer.heartbeat import Heartbeat
from consumer.stdout_guard import guard

_START = "start"


class StageClock(Heartbeat):
    """A heartbeat that adds up the main thread's CPU time between changes of stage."""

    def __init__(self, run_dir: Path, clock: Clock, report: Path) -> None:
        super().__init__(run_dir, clock)
        self._report = report
        self._spent: defaultdict[str, int] = defaultdict(int)
        self._stage = _START
        self._since_ns = time.thread_time_ns()

    def stage(self, name: str) -> None:
        """Note the time of the stage that ends, then say what *name* says."""
        self._note()
        self._stage = name
        super().stage(name)
        if name == "idle":
            self._tell()
            # Telling is not the worker's work.
            self._since_ns = time.thread_time_ns()

    def _note(self) -> None:
        now_ns = time.thread_time_ns()
        self._spent[self._stage] += now_ns - self._since_ns
        self._since_ns = now_ns

    def _tell(self) -> None:
        threads = {
            thread.name: _thread_ns(thread.native_id)
            for thread in threading.enumerate()
            if thread is not threading.main_thread() and thread.native_id is not None
        }
        unfinished = self._report.with_suffix(".part")
        unfinished.write_bytes(orjson.dumps({"stages": self._spent, "threads": threads}))
        unfinished.replace(self._report)


def _thread_ns(native_id: int) -> int:
    """CPU time of one of our threads: the first field of its schedstat, in nanoseconds."""
    return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[0])


def process(report: Path, protocol_out: BinaryIO) -> int:
    """Do what ``consumer.app.process`` does, with the heartbeat that keeps time."""
    from consumer.adapters.kinesis import Waiting, run_worker  # noqa: PLC0415 - after the guard
    from consumer.app import build_worker  # noqa: PLC0415 - as above
    from consumer.clock import SystemClock  # noqa: PLC0415 - as above
    from consumer.configuration import load  # noqa: PLC0415 - as above
    from consumer.logs import configure  # noqa: PLC0415 - as above
    from consumer.settings import SHIPPED  # noqa: PLC0415 - as above

    settings = load(SHIPPED / "fraudstream.yaml", os.environ).settings
    configure(settings.logs.level, "json")
    with ExitStack() as stack:
        clock = SystemClock()
        heartbeat = stack.enter_context(StageClock(settings.supervisor.run_dir, clock, report))
        worker = build_worker(settings, heartbeat, clock, stack)
        return run_worker(
            worker,
            sys.stdin.buffer,
            protocol_out,
            waiting=Waiting(worker.patience, drain_limit_s=10.0),
            on_failure=heartbeat.leaving,
        )


if __name__ == "__main__":
    raise SystemExit(process(Path(sys.argv[1]), guard()))
