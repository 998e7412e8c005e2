"""Processes under the real KCL: workers, Java, the supervisor, all of them, and restart loops."""

import os
import signal
import time

from consumer.supervisor import EXIT_GAVE_UP
from tests.chaos.faults import Act, Fault, Port, When
from tests.chaos.kcl import KclArena, kcl_case
from tests.chaos.traffic import Mix
from tests.e2e.kcl_daemon import eventually, is_alive

_ONCE = "both shards go on in seconds, each transaction decided and counted once"
_MIX = Mix(transactions=200, hot=True)


def _send_and_wait_for_the_middle(arena: KclArena) -> None:
    """Traffic whose scores take their time, so that what follows meets it half worked."""
    arena.slow_endpoints(0.15)
    arena.send(_MIX)
    arena.await_decided(60)


@kcl_case("kcl/kill -9 of a worker before, among and after its effects", _ONCE)
def _kill_worker(arena: KclArena) -> None:
    arena.plan(
        Fault(Port.DECIDE, 2, When.MIDDLE),
        Fault(Port.OBSERVE, 2, When.AFTER),
        Fault(Port.CHECKPOINT, 1, When.BEFORE),
    )
    arena.send(_MIX)
    arena.await_worked()
    assert len(arena.injected()) == 3


@kcl_case("kcl/kill -9 of both workers at once", _ONCE)
def _kill_both_workers(arena: KclArena) -> None:
    _send_and_wait_for_the_middle(arena)
    for pid in arena.daemon.workers():
        arena.signal(pid)


@kcl_case("kcl/kill -9 of Java", "its workers leave, new ones work everything once")
def _kill_java(arena: KclArena) -> None:
    _send_and_wait_for_the_middle(arena)
    workers = arena.daemon.workers()
    arena.signal(arena.daemon.java_pid())
    eventually(lambda: not any(map(is_alive, workers)), "the workers are gone")


@kcl_case(
    "kcl/kill -9 of the supervisor",
    "Java and the workers end with it; the next start goes on where they were",
)
def _kill_supervisor(arena: KclArena) -> None:
    _send_and_wait_for_the_middle(arena)
    group = arena.daemon.group()
    arena.signal(arena.daemon.pid)
    arena.daemon.kill()
    eventually(lambda: not any(map(is_alive, group)), "Java and its workers are gone")
    arena.daemon.start()


@kcl_case("kcl/kill -9 of everything at once", "as after a power cut: nothing lost, nothing twice")
def _kill_all(arena: KclArena) -> None:
    _send_and_wait_for_the_middle(arena)
    processes = [arena.daemon.pid, *arena.daemon.group()]
    for pid in processes:
        arena.signal(pid, signal.SIGSTOP)
    for pid in processes:
        os.kill(pid, signal.SIGKILL)
    arena.daemon.kill()
    eventually(lambda: not any(map(is_alive, processes)), "all are gone")
    arena.daemon.start()


@kcl_case(
    "kcl/SIGSTOP of a worker longer than the lease, and SIGCONT",
    "Java keeps the lease; the worker goes on as if nothing had been",
)
def _stop_worker(arena: KclArena) -> None:
    _send_and_wait_for_the_middle(arena)
    pid = arena.daemon.workers()[0]
    arena.signal(pid, signal.SIGSTOP)
    time.sleep(5)
    arena.signal(pid, signal.SIGCONT)


@kcl_case(
    "kcl/SIGSTOP of Java longer than the lease, and SIGCONT",
    "leases expire and are taken up again; nothing is lost, nothing twice",
)
def _stop_java(arena: KclArena) -> None:
    _send_and_wait_for_the_middle(arena)
    java = arena.daemon.java_pid()
    arena.signal(java, signal.SIGSTOP)
    time.sleep(6)
    if is_alive(java):
        arena.signal(java, signal.SIGCONT)


@kcl_case(
    "kcl/a worker that hangs for ever",
    "the watchdog ends it, and the next one finishes what it had begun, once",
)
def _hang_worker(arena: KclArena) -> None:
    arena.plan(Fault(Port.DECIDE, 2, When.AFTER, Act.HANG))
    arena.send(_MIX)


@kcl_case("kcl/SIGTERM in the middle of the work", "it drains, leaves with 0 and goes on later")
def _terminate(arena: KclArena) -> None:
    _send_and_wait_for_the_middle(arena)
    assert arena.daemon.stop() == 0
    arena.count.note()
    arena.daemon.start()


def _start_and_await_its_line(arena: KclArena) -> None:
    def starts() -> int:
        return sum(event["event"] == "started" for event in arena.daemon.events())

    known = starts()
    arena.daemon.start()
    eventually(lambda: starts() > known, "it started")


@kcl_case("kcl/SIGTERM while it starts", "it leaves with 0 within its limit and goes on later")
def _terminate_at_start(arena: KclArena) -> None:
    assert arena.daemon.stop() == 0
    arena.send(_MIX)
    for _ in range(2):
        _start_and_await_its_line(arena)
        time.sleep(arena.choice.uniform(1.0, 3.0))
        assert arena.daemon.stop() == 0
        arena.count.note()
    arena.daemon.start()


@kcl_case(
    "kcl/restarts that do not help",
    "the daemon gives up with 70; once the cause is gone everything is worked once",
)
def _restart_loop(arena: KclArena) -> None:
    assert arena.daemon.stop() == 0
    arena.plan(Fault(Port.PROCESS, 1, When.BEFORE, Act.DIE, times=50))
    arena.send(_MIX)
    arena.daemon.start(SUPERVISOR__RESTART_LIMIT="2")
    assert arena.daemon.process is not None
    assert arena.daemon.process.wait(180) == EXIT_GAVE_UP
    assert len(arena.injected()) >= 3
    arena.plan()
    arena.daemon.start()
