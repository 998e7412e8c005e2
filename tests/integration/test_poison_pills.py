"""
Records that end their worker: the real supervisor and worker, a script in the place of Java.

Each test reads what was decided and dead-lettered from files, and what happened from the log.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import orjson
import pytest

from consumer.heartbeat import WorkerState, read_heartbeats
from consumer.settings import Settings
from consumer.stages import Stage
from consumer.supervisor import EXIT_CUT_SHORT
from consumer.suspicion import Death, accuse
from tests.builders import SHARD

ROOT = Path(__file__).parents[2]
APPLICATION = "poisoned"
T = TypeVar("T")


class Daemon:
    """The supervisor over one shard, whose stream is given beforehand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        java = folder / "java"
        java.write_text(
            f"#!/bin/sh\nexec {sys.executable} -m tests.integration.scripted_kcl {folder}\n"
        )
        java.chmod(0o755)
        self.settings = Settings.model_validate(
            {
                "kcl": {
                    "java": str(java),
                    "worker_id": str(folder),
                    "application_name": APPLICATION,
                },
                "worker": {"progress_limit_s": 1.5},
                "supervisor": {
                    "host": "127.0.0.1",
                    "port": 0,
                    "run_dir": str(folder / "run"),
                    "restart_backoff_s": 0.05,
                    "restart_backoff_max_s": 0.1,
                    "restart_limit": 100,
                },
            }
        )
        (folder / "settings.json").write_text(self.settings.model_dump_json(exclude_unset=True))

    def put(self, *ids: str) -> None:
        """Make *ids* the stream: record 1, 2, 3 …"""
        (self.folder / "stream").write_bytes(b"\n".join(map(an_event, ids)))

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.e2e.supervised"),
                    *(str(self.folder / "settings.json"), str(self.folder), "poisoned_worker"),
                ],
                cwd=ROOT,
                env=environment,
                stderr=log,
            )

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)

    def decided(self) -> Counter[str]:
        path = self.folder / "decided"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return Counter(orjson.loads(line)["transaction_id"] for line in lines)

    def letters(self) -> dict[str, dict[str, str]]:
        directory = self.folder / "letters"
        return {
            path.name: orjson.loads(path.read_bytes())
            for path in (directory.iterdir() if directory.exists() else ())
        }

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = map(orjson.loads, (self.folder / "log").read_bytes().splitlines())
        return [line for line in lines if line["event"] == name]

    def restarts(self) -> list[dict[str, Any]]:
        return self.events("restarting the KCL")

    def suspected(self) -> list[Path]:
        return list((self.folder / "run" / "suspects").glob("*.json"))

    def saved(self) -> int:
        path = self.folder / "checkpoint"
        return int(path.read_text()) if path.exists() else 0

    def worker(self) -> WorkerState | None:
        """The one worker that lives, if it has its shard."""
        states = read_heartbeats(self.folder / "run")
        return next((state for state in states if state.alive and state.shard_id), None)

    def saved_of(self, worker: WorkerState | None) -> str:
        """How far *worker* says it is saved."""
        return "" if worker is None else worker.checkpoint

    def has_lost(self, pid: int) -> bool:
        """Whether nothing is left of worker *pid*."""
        return not any(state.pid == pid for state in read_heartbeats(self.folder / "run"))

    def has_moved(self, pid: int) -> bool:
        """Whether worker *pid* has saved something of what it was given."""
        states = read_heartbeats(self.folder / "run")
        return any(state.pid == pid and state.checkpoint for state in states)

    def await_stage(self, stage: Stage) -> WorkerState:
        def look() -> WorkerState | None:
            worker = self.worker()
            return worker if worker is not None and worker.stage == stage else None

        return eventually(look, f"a worker in stage {stage}")


def eventually(look: Callable[[], T | None], what: str) -> T:
    deadline_s = time.monotonic() + 90
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"never: {what}"
        time.sleep(0.02)
    return found


def an_event(transaction_id: str) -> bytes:
    return orjson.dumps(
        {
            "type": "transaction",
            "transaction_id": transaction_id,
            "event_time": "2026-09-01T12:00:00Z",
            "card_id": "card_1",
            "merchant_id": "merchant_1",
            "amount": 12.5,
            "currency": "EUR",
        }
    )


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    try:
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.process.kill()
            daemon.process.wait()


def plain(count: int) -> list[str]:
    return [f"tx-{number}" for number in range(1, count + 1)]


def work_off(daemon: Daemon, ids: list[str]) -> None:
    """Run the daemon until every one of *ids* is decided or a dead letter, then stop it."""
    daemon.put(*ids)
    daemon.start()
    eventually(
        lambda: len(daemon.decided()) + len(daemon.letters()) >= len(ids), "all is worked off"
    )
    assert daemon.stop() == 0
    assert daemon.saved() == len(ids)


def accuse_before(daemon: Daemon, how: str, stage: str, number: int, times: int = 2) -> None:
    """Let so many deaths at record *number* have happened before the daemon starts."""
    at = f"{number}:0"
    death = Death(how=how, stage=stage, stage_age_s=0.1, time_ms=0, at=(at, at))
    for _ in range(times):
        accuse(daemon.folder / "run", APPLICATION, SHARD, death)


def test_a_record_that_ends_its_worker_becomes_one_letter_and_the_rest_is_decided_once(
    daemon: Daemon,
) -> None:
    ids = [*plain(12), "poison-fault-decode", *(f"late-{number}" for number in range(12))]
    work_off(daemon, ids)

    ((name, letter),) = daemon.letters().items()
    assert (name, letter["error"]) == (f"{SHARD}-13-0", "crashed")
    assert letter["message"].count("SIGSEGV") == 3
    assert daemon.decided() == Counter(set(ids) - {"poison-fault-decode"})
    restarts = daemon.restarts()
    assert {(event["cause"], event["how"]) for event in restarts} == {("worker_died", "SIGSEGV")}
    assert len(restarts) == 4, "one death in the chunk, three at the record"
    assert [event["restarts"] for event in restarts] == [1, 2, 3, 4]
    assert restarts[-1]["under_way"] == "13:0"
    assert restarts[0]["under_way"] != "13:0"
    assert daemon.suspected() == [], "what is saved is forgotten"
    assert len(daemon.events("a record is dead-lettered as crashed")) == 1


@pytest.mark.parametrize(
    ("how", "where", "told", "cause"),
    [
        ("memory", "decide", "out_of_memory", "out_of_memory"),
        # On another thread, while the worker is elsewhere.
        ("fault", "publish", "SIGSEGV", "worker_died"),
    ],
)
def test_a_third_death_in_any_way_at_any_step_ends_the_trials(
    daemon: Daemon, how: str, where: str, told: str, cause: str
) -> None:
    accuse_before(daemon, told, where, 3)
    poison = f"poison-{how}-{where}"
    ids = [*plain(2), poison, *(f"late-{number}" for number in range(12))]
    work_off(daemon, ids)

    ((name, letter),) = daemon.letters().items()
    assert (name, letter["error"]) == (f"{SHARD}-3-0", "crashed")
    assert letter["message"].count(told) == 3
    decided = daemon.decided()
    # The document of one whose row is the trouble was stored before.
    assert set(decided) - {poison} == set(ids) - {poison}
    assert set(decided.values()) == {1}
    (restart,) = daemon.restarts()
    assert (restart["cause"], restart["how"], restart["under_way"]) == (cause, told, "3:0")
    assert daemon.suspected() == [], "what is saved is forgotten"


def test_a_record_that_hangs_in_c_is_given_up_and_the_hang_is_traced(daemon: Daemon) -> None:
    accuse_before(daemon, "watchdog", "decode", 2)
    work_off(daemon, ["tx-1", "poison-spin-decode", "tx-3"])
    (told,) = daemon.restarts()
    assert (told["cause"], told["how"], told["stage"]) == ("watchdog", "watchdog", "decode")
    assert "in _spin" in told["trace"]
    assert list(daemon.letters()) == [f"{SHARD}-2-0"]
    assert daemon.decided() == Counter(["tx-1", "tx-3"])


def test_a_stopped_worker_is_ended_too(daemon: Daemon) -> None:
    daemon.put(*plain(3), "poison-stop-observe")
    daemon.start()
    eventually(lambda: (daemon.folder / "log").exists() and daemon.restarts(), "the watchdog bites")
    told = daemon.restarts()[0]
    assert (told["cause"], told["stage"], told["shard"]) == ("watchdog", "observe", SHARD)
    assert (told["delivery"], told["under_way"]) == ("1:0-4:0", "1:0-4:0")


def test_java_that_stands_still_is_named_and_not_the_worker_that_waits_for_it(
    daemon: Daemon,
) -> None:
    daemon.put(*plain(3))
    daemon.start()
    eventually(lambda: daemon.saved_of(daemon.worker()) == "3:0", "all is saved")
    worker = daemon.await_stage(Stage.IDLE)
    os.kill(os.getpgid(worker.pid), signal.SIGSTOP)
    told = eventually(daemon.restarts, "it starts again")[0]
    assert (told["cause"], told["victims"]) == ("java_silent", [SHARD])
    assert daemon.suspected() == []


def test_several_poison_pills_in_a_chunk_are_found_one_after_the_other(daemon: Daemon) -> None:
    # Of the first the two deaths before; all of the second's are died here.
    accuse_before(daemon, "SIGSEGV", "decode", 7)
    ids = [*plain(6), "poison-fault-decode", "poison-exit-observe", "last"]
    work_off(daemon, ids)
    letters = daemon.letters()
    assert {letter["error"] for letter in letters.values()} == {"crashed"}
    assert sorted(letters) == [f"{SHARD}-7-0", f"{SHARD}-8-0"]
    assert daemon.decided() == Counter([*plain(6), "last"])
    assert b"not read" in (daemon.folder / "letters" / f"{SHARD}-7-0").read_bytes()
    assert b"poison-exit-observe" in (daemon.folder / "letters" / f"{SHARD}-8-0").read_bytes()


def test_kills_at_random_blame_no_record(daemon: Daemon) -> None:
    ids = [f"slow-{number}" for number in range(30)]
    daemon.put(*ids)
    daemon.start()
    chance = random.Random(7)
    for _ in range(4):
        worker = eventually(daemon.worker, "a worker")
        # It may pass a record in each life; never to let it would be no chance.
        eventually(partial(daemon.has_moved, worker.pid), "it gets on")
        time.sleep(chance.uniform(0.0, 0.5))
        os.kill(worker.pid, signal.SIGKILL)
        eventually(partial(daemon.has_lost, worker.pid), "it is cleared away")
    eventually(lambda: len(daemon.decided()) == len(ids), "all is decided")
    assert daemon.stop() == 0
    assert daemon.letters() == {}
    assert daemon.decided() == Counter(ids)
    assert {event["how"] for event in daemon.restarts()} == {"SIGKILL"}


def test_a_stop_in_the_middle_of_a_chunk_suspects_nothing(daemon: Daemon) -> None:
    daemon.put(*(f"slow-{number}" for number in range(20)))
    daemon.start()
    daemon.await_stage(Stage.DECODE)
    assert daemon.process is not None
    daemon.process.terminate()
    eventually(lambda: daemon.events("stopping; the workers drain"), "it drains")
    daemon.process.terminate()
    assert daemon.process.wait(30) == EXIT_CUT_SHORT
    assert daemon.suspected() == []


def test_an_end_of_the_whole_group_suspects_nothing(daemon: Daemon) -> None:
    daemon.put(*(f"slow-{number}" for number in range(6)))
    daemon.start()
    worker = daemon.await_stage(Stage.DECODE)
    os.killpg(os.getpgid(worker.pid), signal.SIGKILL)
    eventually(daemon.restarts, "it starts again")
    (told,) = daemon.restarts()
    assert (told["cause"], told["java"], told["victims"]) == ("java_killed", "SIGKILL", [SHARD])
    assert "shard" not in told
    eventually(lambda: len(daemon.decided()) == 6, "all is decided")
    assert daemon.stop() == 0
    assert daemon.suspected() == []


def test_a_daemon_that_is_killed_suspects_nothing(daemon: Daemon) -> None:
    daemon.put(*(f"slow-{number}" for number in range(6)))
    daemon.start()
    daemon.await_stage(Stage.DECODE)
    assert daemon.process is not None
    daemon.process.kill()
    daemon.process.wait()
    daemon.start()
    eventually(lambda: len(daemon.decided()) == 6, "all is decided")
    assert daemon.stop() == 0
    assert daemon.suspected() == []
    assert daemon.restarts() == []


def test_a_suspicion_survives_the_daemon(daemon: Daemon) -> None:
    accuse_before(daemon, "SIGSEGV", "score", 3, times=3)
    work_off(daemon, plain(5))
    assert list(daemon.letters()) == [f"{SHARD}-3-0"]
    assert set(daemon.decided()) == {"tx-1", "tx-2", "tx-4", "tx-5"}
    assert daemon.restarts() == []
    assert daemon.suspected() == []
