"""The supervisor around a shell script in the place of Java."""

import os
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

import orjson
import pytest

from consumer.errors import Unavailable
from consumer.settings import Settings
from consumer.supervisor import EXIT_CUT_SHORT, EXIT_GAVE_UP, Daemon, run_daemon

_PROGRAM = """
import sys
from pathlib import Path
from consumer.logs import configure
from consumer.settings import Settings
from consumer.supervisor import Daemon, run_daemon
configure("info", "json")
settings = Settings.model_validate_json(sys.argv[1])
{fleet}
daemon = Daemon(settings, ["true"], Path(sys.argv[2]), "0.0.0", fleet={name})
raise SystemExit(run_daemon(daemon))
"""


_UNREAD = """
from consumer.fleet import Shard
class Unread:
    def leases(self): return []
    def shards(self): return [Shard("shard-7")]
    def lag_ms(self, lease, now_ms): return None
"""

# What the KCL logs when it begins to take part in lease assignment.
_INITIALIZED = "Initialization complete. Starting worker loop."
_SAY_INITIALIZED = f"printf 't\\tINFO\\tcoordinator.Scheduler\\t\\t{_INITIALIZED}\\t\\n'"


class _Run:
    """A supervisor process and its log, line by line."""

    def __init__(
        self, folder: Path, java: str, *, unread: bool = False, **supervisor: object
    ) -> None:
        program = folder / "java"
        program.write_text(f"#!/bin/sh\n{java}\n")
        program.chmod(0o755)
        settings = {
            "kcl": {"java": str(program), "worker_id": str(folder), "failover_time_ms": 300},
            "supervisor": {
                "host": "127.0.0.1",
                "port": 0,
                "run_dir": str(folder / "run"),
                "restart_backoff_s": 0.05,
                "restart_limit": 3,
                **supervisor,
            },
        }
        logback = folder / "logback.xml"
        logback.write_text("<configuration/>")
        fleet, name = (_UNREAD, "Unread()") if unread else ("", "None")
        program_text = _PROGRAM.format(fleet=fleet, name=name)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program_text, orjson.dumps(settings).decode(), str(logback)],
            stderr=subprocess.PIPE,
        )
        self.events: list[dict[str, object]] = []

    def until(self, event: str) -> dict[str, object]:
        """Read the log up to *event*."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.events.append(orjson.loads(line))
            if self.events[-1]["event"] == event:
                return self.events[-1]
        raise AssertionError(f"ended without {event}: {self.events}")

    def end(self) -> int:
        """Read the rest of the log; the exit code."""
        assert self.process.stderr is not None
        with self.process.stderr:
            self.events += [orjson.loads(line) for line in self.process.stderr]
        return self.process.wait(30)


def test_restarts_that_do_not_help_end_the_daemon(tmp_path: Path) -> None:
    run = _Run(tmp_path, "echo cannot start >&2; exit 1")
    assert run.end() == EXIT_GAVE_UP
    events = [event["event"] for event in run.events]
    assert events.count("restarting the KCL") == 3
    assert events.count("cannot start") == 4
    last = run.events[-1]
    assert (last["event"], last["cause"]) == ("giving up: restarts do not help", "java_left")


def test_a_run_directory_that_cannot_be_filled_is_named_with_its_reason(tmp_path: Path) -> None:
    run_dir, java, logback = tmp_path / "run", tmp_path / "java", tmp_path / "logback.xml"
    java.write_text("#!/bin/sh")
    java.chmod(0o755)
    run_dir.mkdir()
    (run_dir / "metrics").write_text("in the way")
    settings = Settings.model_validate(
        {"kcl": {"java": java, "worker_id": str(tmp_path)}, "supervisor": {"run_dir": run_dir}}
    )
    with pytest.raises(Unavailable, match=f"disk: {run_dir}: File exists"):
        run_daemon(Daemon(settings, ["true"], logback, "0.0.0"))


def test_a_killed_java_is_told_from_one_that_left(tmp_path: Path) -> None:
    run = _Run(tmp_path, "kill -9 $$")
    assert run.until("restarting the KCL")["cause"] == "java_killed"
    run.process.terminate()
    assert run.end() == 0


def test_a_kcl_that_is_about_to_leave_records_out_is_ended_at_once(tmp_path: Path) -> None:
    fields = ("t", "WARN", "lifecycle.ShardConsumerSubscriber", "")
    said = ("shard-0: Caught exception from handleInput", "java.lang.Error: no")
    line = "\\t".join((*fields, *said))
    run = _Run(tmp_path, f"printf '{line}\\n'; exec sleep 60")
    told = run.until("restarting the KCL")
    assert told["cause"] == "java_skipped"
    assert told["detail"] == "shard-0: Caught exception from handleInput (java.lang.Error: no)"
    run.process.terminate()
    assert run.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_java_alone_and_ends_with_zero(
    tmp_path: Path, number: signal.Signals
) -> None:
    # The child would end at SIGTERM; Java waits for it as for a draining worker.
    java = (
        "trap 'kill -HUP $child; wait $child; exit 143' TERM\n"
        'sh -c \'trap "echo hangup >&2; exit" HUP; trap "echo told >&2; exit" TERM INT;'
        f" {_SAY_INITIALIZED.replace(chr(39), chr(34))}; while :; do sleep 0.05; done' & child=$!\n"
        "wait"
    )
    run = _Run(tmp_path, java)
    run.until(_INITIALIZED)
    run.process.send_signal(number)
    assert run.end() == 0
    events = [event["event"] for event in run.events]
    assert "hangup" in events
    assert "told" not in events
    assert events[-1] == "stopped"


def test_workers_that_do_not_drain_in_time_are_cut_off(tmp_path: Path) -> None:
    run = _Run(tmp_path, f'trap "" TERM; {_SAY_INITIALIZED}; while :; do sleep 0.05; done')
    run.until(_INITIALIZED)
    run.process.terminate()
    run.until("stopping; the workers drain")
    # A second signal does what the end of the grace period does.
    run.process.terminate()
    assert run.end() == EXIT_CUT_SHORT


_WORKER = """
import sys, time
from pathlib import Path
from consumer.clock import SystemClock
from consumer.heartbeat import Heartbeat
heartbeat = Heartbeat(Path(sys.argv[1]), SystemClock())
heartbeat.stage("score")
{then}
print("worker is up", file=sys.stderr, flush=True)
time.sleep(60)
"""


def a_java_with_a_worker(folder: Path, then: str = "") -> str:
    """A worker in the place of Java's child; Java leaves on SIGTERM, done or not."""
    program = folder / "worker.py"
    program.write_text(_WORKER.format(then=then))
    return (
        f"trap 'exit 143' TERM; {sys.executable} {program} {folder / 'run'} &\n"
        f"{_SAY_INITIALIZED}; wait"
    )


def test_a_kcl_that_takes_no_shard_up_turns_health_red_and_is_started_again(
    tmp_path: Path,
) -> None:
    java = f"{_SAY_INITIALIZED}; exec sleep 600"
    run = _Run(tmp_path, java, unread=True, lease_limit_s=1.5)
    port = run.until("started")["port"]
    deadline_s = time.monotonic() + 60
    # Red for another reason until Java runs, then green until the limit.
    while (
        b"no worker runs here, and shard-7 waits for an owner" not in (health := _health(port))[1]
    ):
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert health[0] == HTTPStatus.SERVICE_UNAVAILABLE
    told = run.until("restarting the KCL")
    assert (told["cause"], told["restarts"]) == ("no_worker", 1)
    assert "shard-7" in str(told["detail"])
    run.process.terminate()
    assert run.end() == 0


def _health(port: object) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_a_worker_that_java_left_behind_was_cut_off(tmp_path: Path) -> None:
    run = _Run(tmp_path, a_java_with_a_worker(tmp_path))
    run.until("worker is up")
    run.process.terminate()
    assert run.end() == EXIT_CUT_SHORT
    last = run.events[-1]
    assert (last["event"], last["stage"]) == ("cut off while draining", "score")


def test_a_flood_holds_the_daemon_until_it_is_told_to_stop(tmp_path: Path) -> None:
    leave = 'heartbeat.leaving("held: 60 of 100"); sys.exit(70)'
    run = _Run(tmp_path, a_java_with_a_worker(tmp_path, then=leave))
    assert run.until("held until somebody has looked")["reason"] == "held: 60 of 100"
    run.process.terminate()
    assert run.end() == 0
    assert "restarting the KCL" not in [event["event"] for event in run.events]


def test_a_kcl_that_has_not_started_is_not_waited_for(tmp_path: Path) -> None:
    run = _Run(tmp_path, 'trap "" TERM; echo starting >&2; while :; do sleep 0.05; done')
    run.until("starting")
    run.process.terminate()
    assert run.end() == 0
    assert run.events[-1]["event"] == "stopped before the KCL had started"


def test_a_signal_during_the_pause_before_a_restart_ends_it(tmp_path: Path) -> None:
    run = _Run(tmp_path, "exit 1")
    run.until("restarting the KCL")
    run.process.terminate()
    assert run.end() == 0


def test_nothing_of_the_group_outlives_the_supervisor(tmp_path: Path) -> None:
    run = _Run(tmp_path, "echo $$ >&2; exec sleep 600")
    run.until("started")
    assert run.process.stderr is not None
    java = int(str(orjson.loads(run.process.stderr.readline())["event"]))
    run.process.kill()
    run.end()
    _await_exit(java)


def _await_exit(pid: int) -> None:
    """Return when *pid*, no child of ours, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = select.poll()
    try:
        ended.register(descriptor, select.POLLIN)
        assert ended.poll(10_000)
    finally:
        os.close(descriptor)
