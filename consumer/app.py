"""
The composition root: settings to a running daemon and its workers, and the order in which they end.

What decides is wired in ``wiring.py``, what a start looks at is in ``start_check.py``.
"""

import argparse
import sys
from contextlib import ExitStack
from typing import BinaryIO

import consumer
from consumer.adapters.kinesis import EXIT_UNAVAILABLE, Waiting, run_worker
from consumer.clock import Clock, SystemClock
from consumer.errors import Unavailable
from consumer.fault_trace import FaultTrace
from consumer.garbage import calm_garbage_collector
from consumer.heartbeat import Heartbeat
from consumer.inspection import open_fleet
from consumer.logs import configure, get_logger
from consumer.orphan import leave_with_parent
from consumer.outside import Open, open_outside
from consumer.settings import SHIPPED, Settings
from consumer.start_check import check
from consumer.supervisor import Daemon, run_daemon
from consumer.wiring import build_parts
from consumer.worker import Worker


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    """
    Run the daemon until it is told to stop; return its exit code, see ``run_daemon``.

    Looks at everything it depends on first. Raises Misconfigured with all that
    is to be corrected, and Unavailable when Redis or AWS does not answer.
    """
    configure(settings.logs.level, settings.logs.format)
    command = [sys.executable, "-m", "consumer", "process"]
    if arguments.config is not None:
        command += ["--config", str(arguments.config.resolve())]
    with ExitStack() as stack:
        return run_daemon(
            Daemon(
                settings=settings,
                worker_command=command,
                logback=SHIPPED / "logback.xml",
                version=consumer.__version__,
                probes=check(settings, stack),
                fleet=open_fleet(settings, stack),
            )
        )


def process(settings: Settings, protocol_out: BinaryIO) -> int:
    """
    Work one shard for the KCL until it closes our standard input; return the exit code.

    *protocol_out* is the real standard output, which nothing else may write to.
    """
    # A worker's lines travel through Java's log to the supervisor, which renders them.
    configure(settings.logs.level, "json")
    try:
        with ExitStack() as stack:
            clock = SystemClock()
            stack.enter_context(FaultTrace(settings.supervisor.run_dir))
            heartbeat = stack.enter_context(Heartbeat(settings.supervisor.run_dir, clock))
            leave_with_parent(heartbeat.leaving)
            worker = build_worker(settings, heartbeat, clock, stack)
            calm_garbage_collector()
            return run_worker(
                worker,
                sys.stdin.buffer,
                protocol_out,
                waiting=build_waiting(worker, settings),
                on_failure=heartbeat.leaving,
            )
    except Unavailable as error:
        # An outage at the start ends as one in the middle does.
        get_logger(__name__).error("leaving without a checkpoint", error=str(error))
        return EXIT_UNAVAILABLE


def build_waiting(worker: Worker, settings: Settings) -> Waiting:
    """
    How the checkpoints of *worker* are waited for: as it waits for everything else.

    Told to stop, for half of the grace: the other half is for what it has to finish before,
    and for leaving.
    """
    return Waiting(worker.patience, settings.kcl.shutdown_grace_ms / 1000 / 2)


def build_worker(
    settings: Settings,
    heartbeat: Heartbeat,
    clock: Clock,
    stack: ExitStack,
    open_outside: Open = open_outside,
) -> Worker:
    """Wire a worker, see ``build_parts``."""
    parts = build_parts(settings, heartbeat, clock, stack, open_outside)
    return Worker(parts, settings.worker)
