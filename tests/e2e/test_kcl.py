"""
The real KCL, its processes killed one by one.

The tests run in this order on one daemon, since a first lease takes half a
minute; each leaves it running and caught up, except the last four.
"""

import os
import signal

import orjson

from consumer.suspicion import Death, accuse
from tests.e2e.kcl_daemon import Entry, KclDaemon, eventually, is_alive

# Of a restart under the same worker id; a new id takes more than two minutes.
RESTART_LIMIT_S = 40.0


def test_records_arrive_and_are_checkpointed_by_position(daemon: KclDaemon) -> None:
    daemon.put("first", "second")
    last = daemon.await_record("second")
    assert [entry.data for entry in daemon.journal("record")] == ["first", "second"]
    eventually(
        lambda: (daemon.worker_id, last.position) in daemon.leases().values(),
        "the lease table holds the checkpoint",
    )


def test_each_shard_has_a_process_of_its_own(daemon: KclDaemon) -> None:
    started = eventually(lambda: _both_shards(daemon), "both shards are taken")
    assert len({entry.pid for entry in started}) == 2


def test_a_stray_print_does_not_reach_the_protocol(daemon: KclDaemon) -> None:
    daemon.put("print", "after-print")
    printed, after = daemon.await_record("print"), daemon.await_record("after-print")
    assert printed.pid == after.pid
    eventually(lambda: "kcl.stderr" in _loggers(daemon), "the print is logged")


def test_java_and_workers_log_through_the_daemon_with_their_level(daemon: KclDaemon) -> None:
    lines = daemon.log.read_bytes().splitlines()
    assert lines
    assert all({"timestamp", "level", "event"} <= orjson.loads(line).keys() for line in lines)
    assert {"consumer.supervisor", "kcl.coordinator.Scheduler", "journal"} <= _loggers(daemon)
    assert "kcl" not in _loggers(daemon), "a line of Java was not understood"


def test_health_readiness_and_metrics_are_served(daemon: KclDaemon) -> None:
    eventually(lambda: daemon.get("/readyz")[0] == 200, "ready")
    status, body = daemon.get("/healthz")
    assert status == 200
    assert {worker["shard"] for worker in orjson.loads(body)["workers"]} == set(daemon.leases())
    status, body = daemon.get("/metrics")
    assert status == 200
    assert b'fraudstream_records_total{outcome="decided"} 4.0' in body
    assert b'fraudstream_checkpoint_age_seconds{shard="shardId-000000000000"} 0.0' in body
    assert b"fraudstream_build_info{" in body


def test_a_killed_worker_is_replaced_under_the_same_worker_id(daemon: KclDaemon) -> None:
    before, java = daemon.seen("second")[-1], daemon.java_pid()
    os.kill(before.pid, signal.SIGKILL)
    daemon.put("after-kill")
    after = daemon.await_record("after-kill", RESTART_LIMIT_S)
    assert after.pid != before.pid
    assert not is_alive(java)
    assert len(daemon.seen("second")) == 1, "a checkpointed record came again"
    assert {owner for owner, _ in daemon.leases().values()} == {daemon.worker_id}
    assert b'fraudstream_restarts_total{cause="worker_died"} 1.0' in daemon.get("/metrics")[1]


def test_counters_survive_the_processes_that_counted(daemon: KclDaemon) -> None:
    assert b'fraudstream_records_total{outcome="decided"} 5.0' in daemon.get("/metrics")[1]


def test_workers_leave_when_java_is_killed(daemon: KclDaemon) -> None:
    daemon.await_record("after-kill")
    workers = daemon.group()
    os.kill(daemon.java_pid(), signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, workers)), "Java and its workers are gone")
    daemon.put("after-java")
    daemon.await_record("after-java", RESTART_LIMIT_S)


def test_an_exception_never_checkpoints_past_its_record(daemon: KclDaemon) -> None:
    _heal(daemon, healed=False)
    daemon.put("raise", "after-raise")
    raised = eventually(lambda: daemon.journal("raise"), "the record fails")[0]
    eventually(lambda: len(daemon.journal("raise")) > 1, "it comes again", RESTART_LIMIT_S)
    assert not daemon.seen("after-raise")
    assert all(
        _number(checkpoint) < _number(raised.position) for _, checkpoint in daemon.leases().values()
    )
    _heal(daemon, healed=True)
    daemon.await_record("after-raise", RESTART_LIMIT_S)


def test_a_hanging_worker_turns_health_red_and_is_ended(daemon: KclDaemon) -> None:
    _heal(daemon, healed=False)
    daemon.put("hang")
    hanging = eventually(lambda: daemon.journal("hang"), "the record hangs")[0]
    eventually(lambda: daemon.get("/healthz")[0] == 503, "red")
    body = daemon.get("/healthz")[1]
    assert b"no progress" in body
    assert b"in stage decode" in body
    eventually(lambda: not is_alive(hanging.pid), "the worker is ended")
    _heal(daemon, healed=True)
    daemon.await_record("hang", RESTART_LIMIT_S)
    ended = [event for event in daemon.events() if event.get("cause") == "watchdog"]
    assert ended[0]["stage"] == "decode"


def test_a_signal_drains_and_leaves_with_zero(daemon: KclDaemon) -> None:
    last = daemon.seen("hang")[-1]
    group = daemon.group()
    assert daemon.stop() == 0
    assert last.position in [entry.position for entry in daemon.journal("drained")]
    assert not any(map(is_alive, group))


def test_a_second_start_takes_up_where_the_first_left(daemon: KclDaemon) -> None:
    daemon.put("after-stop")
    daemon.start()
    daemon.await_record("after-stop", RESTART_LIMIT_S)
    assert len(daemon.seen("hang")) == 1, "a drained record came again"


def test_nothing_is_left_when_the_supervisor_is_killed(daemon: KclDaemon) -> None:
    group = daemon.group()
    assert len(group) == 3
    os.kill(daemon.pid, signal.SIGKILL)
    eventually(lambda: not any(map(is_alive, group)), "Java and its workers are gone")


def test_the_third_death_at_a_record_makes_it_a_letter(daemon: KclDaemon) -> None:
    ((shard_id, position),) = daemon.put(an_event("poison-fault-decode"))
    death = Death("SIGKILL", "score", 0.1, 0, (str(position), str(position)))
    for _ in range(2):
        accuse(daemon.run_dir, daemon.settings.kcl.application_name, shard_id, death)
    daemon.kill()
    daemon.worker = "poisoned_worker"
    daemon.start()
    letters = daemon.folder / "letters"
    eventually(
        lambda: letters.exists() and list(letters.iterdir()), "a letter", 2 * RESTART_LIMIT_S
    )
    daemon.put(an_event("after-poison"))
    decided = daemon.folder / "decided"
    eventually(lambda: decided.exists() and b"after-poison" in decided.read_bytes(), "the next")
    (letter,) = letters.iterdir()
    content = orjson.loads(letter.read_bytes())
    assert content["error"] == "crashed"
    assert content["message"].endswith("+00:00")
    assert "SIGSEGV in stage decode" in content["message"]
    (ended,) = [event for event in daemon.events() if event.get("how") == "SIGSEGV"]
    assert (ended["cause"], ended["restarts"]) == ("worker_died", 1)
    assert ended["under_way"] == str(position)
    assert "in _meet" in str(ended["trace"])
    assert daemon.stop() == 0
    assert list((daemon.run_dir / "suspects").iterdir()) == []


def an_event(transaction_id: str) -> str:
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
    ).decode()


def _both_shards(daemon: KclDaemon) -> list[Entry]:
    started = daemon.journal("start")
    return started if len({entry.shard for entry in started}) == 2 else []


def _loggers(daemon: KclDaemon) -> set[object]:
    return {event.get("logger_name") for event in daemon.events()}


def _heal(daemon: KclDaemon, *, healed: bool) -> None:
    flag = daemon.folder / "heal"
    if healed:
        flag.touch()
    else:
        flag.unlink(missing_ok=True)


def _number(position: str | None) -> int:
    number = (position or "").partition(":")[0]
    return int(number) if number.isdecimal() else -1
