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
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from consumer.autopsy import (
    JAVA_SKIPPED,
    WATCHDOG,
    Ending,
    describe_ending,
    examine,
    find_ending,
    is_suspicious,
)
from consumer.clock import Clock, SystemClock
from consumer.disk import on_disk
from consumer.fault_trace import ask_where, trace_of
from consumer.health import Probe, describe
from consumer.heartbeat import HELD, WorkerState, read_heartbeats
from consumer.instance_lock import hold_instance
from consumer.java import find_java
from consumer.java_log import JavaLine, log_java_line, log_worker_line, read_lines
from consumer.last_words import LastWords, skips_records
from consumer.lease_watch import Fleet, LeaseWatch
from consumer.logs import get_logger
from consumer.metric_files import MetricFiles
from consumer.multilang import Launch, prepare_launch, worker_id
from consumer.oom import find_counter, read_kills
from consumer.process_group import ProcessGroup
from consumer.restarts import Restarts
from consumer.service_manager import ServiceManager
from consumer.settings import Settings
from consumer.stages import Stage
from consumer.status import Status
from consumer.status_server import StatusServer
from consumer.stop import Stop
from consumer.suspicion import Death, accuse

# sysexits.h: a software error, and a temporary failure.
EXIT_GAVE_UP = 70
EXIT_CUT_SHORT = 75

_TICK_S = 0.25
# Beyond the grace that Java gives its workers: for Java itself.
STOP_MARGIN_S = 10.0
_READER_LIMIT_S = 5.0
_SHOWN = 400
# For workers to end after Java has: they see the end of their input at once.
_CLOSE_LIMIT_S = 2.0
# Said by the KCL's scheduler when it begins to take part in lease assignment.
_INITIALIZED = "Initialization complete. Starting worker loop."


@dataclass(frozen=True, slots=True)
class Daemon:
    """
    What is run: *worker_command* once a shard, *logback* for Java's log.

    *probes* say for ``/readyz`` what is wrong with each dependency; *fleet* is
    where shards that wait for an owner are seen, None to look for none.
    """

    settings: Settings
    worker_command: Sequence[str]
    logback: Path
    version: str
    probes: Mapping[str, Probe] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    clock: Clock = field(default_factory=SystemClock)
    fleet: Fleet | None = None


def run_daemon(daemon: Daemon) -> int:
    """
    Run until SIGTERM or SIGINT, from the main thread; return the exit code.

    0 after an orderly stop, 70 when restarts did not help, 75 when the workers
    had to be cut off while they drained. Raises Misconfigured before anything
    is started: no Java, a port or a worker id that is taken; Unavailable where the disk
    of the run directory is full.
    """
    settings = daemon.settings
    run_dir = settings.supervisor.run_dir
    java = find_java(settings.kcl.java, daemon.environment)
    with ExitStack() as stack:
        stack.enter_context(
            hold_instance(run_dir, settings.kcl.application_name, worker_id(settings))
        )
        with on_disk(run_dir):
            files, launch = _prepare(daemon, java)
        status = Status(settings, files, daemon.probes, daemon.clock, daemon.version)
        stop = stack.enter_context(Stop())
        server = stack.enter_context(
            StatusServer(settings.supervisor.host, settings.supervisor.port, status.paths())
        )
        get_logger(__name__).info(
            "started", port=server.port, worker_id=worker_id(settings), java=str(java)
        )
        if daemon.fleet is not None:
            status.leases = _watch_leases(daemon, daemon.fleet, stack)
        manager = ServiceManager(daemon.environment, daemon.clock)
        manager.ready()
        clock = daemon.clock
        return _Supervisor(
            settings, launch, status, files, stop, clock=clock, manager=manager
        ).run()


def _prepare(daemon: Daemon, java: Path) -> tuple[MetricFiles, Launch]:
    """Empty the run directory and write what Java and the workers find there. Raises OSError."""
    run_dir = daemon.settings.supervisor.run_dir
    _clear_workers(run_dir)
    files = MetricFiles(run_dir / "metrics")
    environment = {
        **daemon.environment,
        "PROMETHEUS_MULTIPROC_DIR": str(files.directory.resolve()),
    }
    command = daemon.worker_command
    return files, prepare_launch(daemon.settings, java, daemon.logback, command, environment)


def _watch_leases(daemon: Daemon, fleet: Fleet, stack: ExitStack) -> LeaseWatch:
    settings = daemon.settings
    watch = LeaseWatch(
        fleet,
        worker_id(settings),
        settings.supervisor.lease_limit_s,
        settings.kcl.failover_time_ms,
        lambda: read_heartbeats(settings.supervisor.run_dir),
        daemon.clock,
    )
    stack.enter_context(closing(watch)).start()
    return watch


class _Supervisor:
    """The loop around the process group."""

    def __init__(  # noqa: PLR0913 - what is run, what tells of it, and who is told
        self,
        settings: Settings,
        launch: Launch,
        status: Status,
        files: MetricFiles,
        stop: Stop,
        *,
        clock: Clock,
        manager: ServiceManager,
    ) -> None:
        limits = settings.supervisor
        self._settings = settings
        self._launch = launch
        self._status = status
        self._files = files
        self._stop = stop
        self._clock = clock
        self._manager = manager
        self._words = LastWords()
        self._group: ProcessGroup | None = None
        self._skipped = ""
        self._oom_counter = find_counter()
        self._oom_kills = 0
        self._restarted = 0
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
            told = self._tell(ended)
            if self._status.held:
                return self._hold(told)
            pause_s = self._restarts.next_pause_s(self._clock.monotonic_s())
            if pause_s is None:
                self._log.error(
                    "giving up: restarts do not help",
                    **told,
                    restarts=self._restarted,
                    limit=self._settings.supervisor.restart_limit,
                    window_s=self._settings.supervisor.restart_window_s,
                )
                return EXIT_GAVE_UP
            self._restarted += 1
            self._status.metrics.restarts.labels(ended.cause).inc()
            self._log.error("restarting the KCL", **told, restarts=self._restarted, pause_s=pause_s)
            if self._stop.wait(pause_s):
                return 0

    def _tell(self, ending: Ending) -> dict[str, object]:
        """All that is known about *ending*, for the one event that tells of it."""
        told = describe_ending(ending, self._clock.monotonic_s())
        if self._words.java:
            told["java_error"] = self._words.java
        return told

    def _run_group(self) -> int | Ending:
        """One life of the group: an exit code after an orderly stop, else how it ended."""
        self._words.forget()
        self._oom_kills = read_kills(self._oom_counter) or 0
        if self._status.leases is not None:
            self._status.leases.begin()
        self._skipped = ""
        self._group = group = ProcessGroup(self._launch)
        readers = [
            read_lines(group.stdout, self._on_java_line, "java-stdout"),
            read_lines(group.stderr, self._on_worker_line, "java-stderr"),
        ]
        self._status.kcl_running = True
        ending: Ending | None = None
        try:
            ending = self._watch(group)
            return self._end(group) if ending is None else ending
        finally:
            self._status.kcl_running = False
            self._status.initialized_s = None
            if not group.kill():
                self._log.error("a process of the group does not end, not even killed")
            for reader in readers:
                reader.join(_READER_LIMIT_S)
            if ending is not None:
                # Now that no worker is left that could write the same file.
                self._accuse(ending)
            _clear_workers(self._settings.supervisor.run_dir)
            self._files.fold_dead(list)

    def _watch(self, group: ProcessGroup) -> Ending | None:
        """Wait until the group has to be ended: why, or None when we are to stop."""
        limit_s = 2 * self._settings.worker.progress_limit_s
        while not self._stop.wait(_TICK_S):
            states = read_heartbeats(self._settings.supervisor.run_dir)
            # After the heartbeats: a worker that ends with Java is then seen with it.
            code = group.poll()
            self._status.held = next(
                (state.cause for state in states if state.cause.startswith(HELD)), ""
            )
            if self._skipped:
                shards = tuple(str(state.shard_id) for state in states)
                return Ending(JAVA_SKIPPED, victims=shards, detail=self._skipped)
            ending = find_ending(states, code, self._clock.monotonic_s(), limit_s)
            if ending is not None:
                if ending.cause == WATCHDOG:
                    hung = [each.state for each in ending.culprits]
                    ask_where({trace_of(state.path): state.pid for state in hung})
                kills = read_kills(self._oom_counter) or 0
                return examine(ending, self._words, kills - self._oom_kills)
            overdue = self._status.leases.verdict() if self._status.leases is not None else None
            if overdue is not None:
                shards = tuple(str(state.shard_id) for state in states)
                return Ending(overdue.cause, victims=shards, detail=overdue.text)
            self._files.fold_dead(self._live_pids)
            self._sign()
        return None

    def _sign(self) -> None:
        """Give the service manager a sign of life while ``/healthz`` is green."""
        if self._manager.due and self._status.well:
            self._manager.alive()

    def _accuse(self, ending: Ending) -> None:
        """
        Note the deaths that a record may be to blame for.

        None while we are told to stop: whoever stops us may end the workers too.
        """
        if self._stop.wait(0):
            return
        settings, now_s = self._settings, self._clock.monotonic_s()
        for culprit in filter(is_suspicious, ending.culprits):
            state = culprit.state
            death = Death(
                how=culprit.how,
                stage=state.stage,
                stage_age_s=round(now_s - state.stage_s, 1),
                time_ms=self._clock.now_ms(),
                at=state.under_way,
            )
            try:
                accuse(
                    settings.supervisor.run_dir,
                    settings.kcl.application_name,
                    state.shard_id,
                    death,
                )
            except OSError as error:
                self._log.error("a suspicion could not be noted", error=error.strerror)

    def _hold(self, told: Mapping[str, object]) -> int:
        """
        Stay without the KCL until told to stop, so that somebody looks.

        Alive on purpose: whatever runs us would start us again otherwise, and
        each start would reject the same records.
        """
        self._log.error("held until somebody has looked", **told, reason=self._status.held)
        while not self._stop.wait(_TICK_S):
            if self._manager.due:
                self._manager.alive()
        return 0

    def _end(self, group: ProcessGroup) -> int:
        """Tell Java to stop and wait for it; a second signal cuts that short."""
        self._status.stopping = True
        self._manager.stopping()
        if self._status.initialized_s is None:
            # Without a lease there is nothing to drain, and Java, asked during its
            # start, would sit out the whole grace period.
            self._log.info("stopped before the KCL had started")
            return 0
        self._log.info("stopping; the workers drain")
        signals = self._stop.count
        group.terminate_leader()
        grace_s = self._settings.kcl.shutdown_grace_ms / 1000 + STOP_MARGIN_S
        deadline_s = self._clock.monotonic_s() + grace_s
        while group.poll() is None:
            if self._clock.monotonic_s() >= deadline_s or self._stop.count > signals:
                states = read_heartbeats(self._settings.supervisor.run_dir)
                self._report_cut_off(states)
                self._log.error("stopped before the workers had drained")
                return EXIT_CUT_SHORT
            self._stop.wait(_TICK_S)
            self._sign()
        if left := self._await_closed_heartbeats():
            self._report_cut_off(left)
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
            if state.alive or state.stage != Stage.IDLE
        ]:
            if self._clock.monotonic_s() >= deadline_s:
                return states
            self._stop.wait(_TICK_S)
        return []

    def _report_cut_off(self, states: Iterable[WorkerState]) -> None:
        now_s = self._clock.monotonic_s()
        for state in states:
            self._log.error(
                "cut off while draining",
                cause="stop",
                reason=state.cause,
                **describe(state, now_s),
            )

    def _on_java_line(self, line: str) -> None:
        log_java_line(line, self._on_java_event)

    def _on_worker_line(self, line: str) -> None:
        log_worker_line(line, self._words.hear_worker)

    def _on_java_event(self, event: JavaLine) -> None:
        self._words.hear_java(event)
        if skips_records(event) and self._group is not None:
            # At once, and with the workers: a checkpoint behind what was skipped loses it.
            self._skipped = f"{event.message} ({event.exception})"[:_SHOWN]
            self._group.cut()
        if event.message.startswith(_INITIALIZED):
            self._status.initialized_s = self._clock.monotonic_s()


def _clear_workers(run_dir: Path) -> None:
    """Remove what workers left, of whom none is alive."""
    for path in (run_dir / "workers").glob("*"):
        path.unlink(missing_ok=True)
