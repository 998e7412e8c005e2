"""
The daemon: runs the KCL, watches its workers, restarts both, tells how they are.

The KCL's Java process and the workers it starts form one process group. When
Java ends, or a worker dies or hangs, the whole group is ended and started again
under the same worker id, which takes up its leases in seconds. Java alone would
take its time: after a dead worker it tries to stop all others first. Nothing is
lost by that, since a checkpoint covers only what is acknowledged and everything
after it comes again.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from consumer.clock import Clock, SystemClock
from consumer.health import Probe, describe, stuck
from consumer.heartbeat import HELD, IDLE, WorkerState, read_heartbeats
from consumer.instance_lock import hold_instance
from consumer.java import find_java
from consumer.java_log import JavaLine, log_java_line, log_worker_line, read_lines
from consumer.logs import get_logger
from consumer.metric_files import MetricFiles
from consumer.multilang import Launch, prepare_launch, worker_id
from consumer.process_group import ProcessGroup
from consumer.restarts import Restarts
from consumer.settings import Settings
from consumer.status import Status
from consumer.status_server import StatusServer
from consumer.stop import Stop

# sysexits.h: a software error, and a temporary failure.
EXIT_GAVE_UP = 70
EXIT_CUT_SHORT = 75

_TICK_S = 0.25
# Beyond the grace that Java gives its workers: for Java itself.
_STOP_MARGIN_S = 10.0
_READER_LIMIT_S = 5.0
# For workers to end after Java has: they see the end of their input at once.
_CLOSE_LIMIT_S = 2.0
# Said by the KCL's scheduler when it begins to take part in lease assignment.
_INITIALIZED = "Initialization complete. Starting worker loop."


@dataclass(frozen=True, slots=True)
class Daemon:
    """
    What is run: *worker_command* once a shard, *logback* for Java's log.

    *probes* say for ``/readyz`` what is wrong with each dependency.
    """

    settings: Settings
    worker_command: Sequence[str]
    logback: Path
    version: str
    probes: Mapping[str, Probe] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    clock: Clock = field(default_factory=SystemClock)


def run_daemon(daemon: Daemon) -> int:
    """
    Run until SIGTERM or SIGINT, from the main thread; return the exit code.

    0 after an orderly stop, 70 when restarts did not help, 75 when the workers
    had to be cut off while they drained. Raises Misconfigured before anything
    is started: no Java, a port or a worker id that is taken.
    """
    settings = daemon.settings
    run_dir = settings.supervisor.run_dir
    java = find_java(settings.kcl.java, daemon.environment)
    with ExitStack() as stack:
        stack.enter_context(
            hold_instance(run_dir, settings.kcl.application_name, worker_id(settings))
        )
        _remove(read_heartbeats(run_dir))
        files = MetricFiles(run_dir / "metrics")
        environment = {
            **daemon.environment,
            "PROMETHEUS_MULTIPROC_DIR": str(files.directory.resolve()),
        }
        launch = prepare_launch(settings, java, daemon.logback, daemon.worker_command, environment)
        status = Status(settings, files, daemon.probes, daemon.clock, daemon.version)
        stop = stack.enter_context(Stop())
        server = stack.enter_context(
            StatusServer(settings.supervisor.host, settings.supervisor.port, status.paths())
        )
        get_logger(__name__).info(
            "started", port=server.port, worker_id=worker_id(settings), java=str(java)
        )
        return _Supervisor(settings, launch, status, files, stop, daemon.clock).run()


class _Supervisor:
    """The loop around the process group."""

    def __init__(
        self,
        settings: Settings,
        launch: Launch,
        status: Status,
        files: MetricFiles,
        stop: Stop,
        clock: Clock,
    ) -> None:
        limits = settings.supervisor
        self._settings = settings
        self._launch = launch
        self._status = status
        self._files = files
        self._stop = stop
        self._clock = clock
        self._log = get_logger(__name__)
        self._restarts = Restarts(
            limits.restart_limit,
            limits.restart_window_s,
            limits.restart_backoff_s,
            limits.restart_backoff_max_s,
        )

    def run(self) -> int:
        """Run the group again and again; return the exit code of the daemon."""
        while True:
            ended = self._run_group()
            if isinstance(ended, int):
                return ended
            if self._status.held:
                return self._hold()
            pause_s = self._restarts.next_pause_s(self._clock.monotonic_s())
            if pause_s is None:
                self._log.error(
                    "giving up: restarts do not help",
                    cause=ended,
                    restarts=self._settings.supervisor.restart_limit,
                    window_s=self._settings.supervisor.restart_window_s,
                )
                return EXIT_GAVE_UP
            self._status.metrics.restarts.labels(ended).inc()
            self._log.warning("restarting the KCL", cause=ended, pause_s=pause_s)
            if self._stop.wait(pause_s):
                return 0

    def _run_group(self) -> int | str:
        """One life of the group: an exit code after an orderly stop, else the cause of death."""
        group = ProcessGroup(self._launch)
        readers = [
            read_lines(group.stdout, self._on_java_line, "java-stdout"),
            read_lines(group.stderr, log_worker_line, "java-stderr"),
        ]
        self._status.kcl_running = True
        try:
            cause = self._watch(group)
            return self._end(group) if cause is None else cause
        finally:
            self._status.kcl_running = False
            self._status.initialized_s = None
            group.kill()
            for reader in readers:
                reader.join(_READER_LIMIT_S)
            _remove(read_heartbeats(self._settings.supervisor.run_dir))
            self._files.fold_dead(list)

    def _watch(self, group: ProcessGroup) -> str | None:
        """Wait until the group has to be ended: the cause, or None when we are to stop."""
        limit_s = 2 * self._settings.worker.progress_limit_s
        while not self._stop.wait(_TICK_S):
            states = read_heartbeats(self._settings.supervisor.run_dir)
            code = group.poll()
            self._status.held = next(
                (state.cause for state in states if state.cause.startswith(HELD)), ""
            )
            if code is not None:
                cause = "java_killed" if code < 0 else "java_left"
                self._log.error("the KCL's Java process ended", exit_code=code)
                self._report("worker at that time", states, cause)
                return cause
            if dead := [state for state in states if not state.alive]:
                cause = "worker_left" if any(state.cause for state in dead) else "worker_died"
                self._report("a worker is gone", dead, cause)
                return cause
            if hung := stuck(states, self._clock.monotonic_s(), limit_s):
                self._report("a worker makes no progress", hung, "watchdog")
                return "watchdog"
            self._files.fold_dead(self._live_pids)
        return None

    def _hold(self) -> int:
        """
        Stay without the KCL until told to stop, so that somebody looks.

        Alive on purpose: whatever runs us would start us again otherwise, and
        each start would reject the same records.
        """
        self._log.error("held until somebody has looked", reason=self._status.held)
        while not self._stop.wait(_TICK_S):
            pass
        return 0

    def _end(self, group: ProcessGroup) -> int:
        """Tell Java to stop and wait for it; a second signal cuts that short."""
        self._status.stopping = True
        if self._status.initialized_s is None:
            # Without a lease there is nothing to drain, and Java, asked during its
            # start, would sit out the whole grace period.
            self._log.info("stopped before the KCL had started")
            return 0
        self._log.info("stopping; the workers drain")
        signals = self._stop.count
        group.terminate_leader()
        grace_s = self._settings.kcl.shutdown_grace_ms / 1000 + _STOP_MARGIN_S
        deadline_s = self._clock.monotonic_s() + grace_s
        while group.poll() is None:
            if self._clock.monotonic_s() >= deadline_s or self._stop.count > signals:
                states = read_heartbeats(self._settings.supervisor.run_dir)
                self._report("cut off while draining", states, "stop")
                self._log.error("stopped before the workers had drained")
                return EXIT_CUT_SHORT
            self._stop.wait(_TICK_S)
        if left := self._await_closed_heartbeats():
            self._report("cut off while draining", left, "stop")
            return EXIT_CUT_SHORT
        self._log.info("stopped")
        return 0

    def _live_pids(self) -> list[int]:
        states = read_heartbeats(self._settings.supervisor.run_dir)
        return [state.pid for state in states if state.alive]

    def _await_closed_heartbeats(self) -> list[WorkerState]:
        """
        Give workers a moment to leave; return those that were not done.

        Java leaves when its own grace is over, drained or not, so its exit code
        says nothing about the workers. One that is done has closed its file, or
        was idle when it saw that Java is gone.
        """
        deadline_s = self._clock.monotonic_s() + _CLOSE_LIMIT_S
        while states := [
            state
            for state in read_heartbeats(self._settings.supervisor.run_dir)
            if state.alive or state.stage != IDLE
        ]:
            if self._clock.monotonic_s() >= deadline_s:
                return states
            self._stop.wait(_TICK_S)
        return []

    def _report(self, event: str, states: Iterable[WorkerState], cause: str) -> None:
        now_s = self._clock.monotonic_s()
        for state in states:
            self._log.error(event, cause=cause, reason=state.cause, **describe(state, now_s))

    def _on_java_line(self, line: str) -> None:
        log_java_line(line, self._on_java_event)

    def _on_java_event(self, event: JavaLine) -> None:
        if event.message.startswith(_INITIALIZED):
            self._status.initialized_s = self._clock.monotonic_s()


def _remove(states: Iterable[WorkerState]) -> None:
    for state in states:
        state.path.unlink(missing_ok=True)
