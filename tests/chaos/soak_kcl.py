"""
The KCL tier of the soak: the daemon under steady traffic, struck whenever it has been ready.

Limits are those of operation where they decide how long a recovery takes: failover time,
pauses before restarts, checkpoint interval. How long no decision was made is read from the
documents: from the strike to the first one stored of a record that was received after it,
on the shard that waited longer.
"""

import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from math import inf
from pathlib import Path

from consumer.local.ports import listen, port_of
from tests.chaos.checker import Difference, Expectation, Kind
from tests.chaos.found import AcceptedRows, Found, PrefixWatch
from tests.chaos.kcl import SHARDS, Session, open_session
from tests.chaos.lab import SETTINGS, Lab, score
from tests.chaos.soak_books import Books
from tests.chaos.soak_flush import forget_epoch
from tests.chaos.soak_producer import Producer
from tests.chaos.soak_report import NEW_ID, Account
from tests.e2e.kcl_daemon import eventually, is_alive

_EPOCH_S = 600.0
_READY_S = 20.0
_READY_LIMIT_S = 400.0
_DRAIN_LIMIT_S = 300.0
_POLL_S = 1.0
_SAMPLED = 0.02
# Among this many strikes one brings a new worker id, the fourth first.
_NEW_ID_EVERY, _NEW_ID_FIRST = 14, 4


def _settings(port: int) -> dict[str, str]:
    kcl, supervisor = SETTINGS.kcl, SETTINGS.supervisor
    return {
        "KCL__FAILOVER_TIME_MS": str(kcl.failover_time_ms),
        "WORKER__CHECKPOINT_INTERVAL_S": str(SETTINGS.worker.checkpoint_interval_s),
        "WORKER__PROGRESS_LIMIT_S": str(SETTINGS.worker.progress_limit_s),
        "REDIS__OUTAGE_LIMIT_S": str(SETTINGS.redis.outage_limit_s),
        "SUPERVISOR__RESTART_BACKOFF_S": str(supervisor.restart_backoff_s),
        "SUPERVISOR__RESTART_BACKOFF_MAX_S": str(supervisor.restart_backoff_max_s),
        # Each strike is to be the first for a while, as failures are in operation.
        "SUPERVISOR__RESTART_WINDOW_S": str(_READY_S),
        "SUPERVISOR__PORT": str(port),
    }


@contextmanager
def open_kcl_tier(lab: Lab, folder: Path, account: Account) -> Iterator["KclTier"]:
    """Start the daemon and wait for its first leases."""
    probe = listen(0, "daemon")
    port = port_of(probe)
    probe.close()
    with open_session(lab, folder, account.seed, **_settings(port)) as session:
        yield KclTier(session, account, f"http://127.0.0.1:{port}/readyz")


@dataclass(slots=True)
class KclTier:
    """Epoch after epoch on one daemon; ``account`` grows with each."""

    session: Session
    account: Account
    ready_url: str
    choice: random.Random = field(init=False)
    books: Books = field(init=False)
    _moments: list[tuple[str, int]] = field(default_factory=list)
    _start: dict[str, str] = field(default_factory=dict)
    _strikes: int = 0
    _told: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.choice = random.Random(f"kcl {self.account.seed}")
        plan, horizon_s = self.session.lab.plan, SETTINGS.features.id_horizon_s
        self.books = Books(Expectation(plan, horizon_s, score), self.choice, _SAMPLED)

    def epochs(self, end_s: float) -> Iterator[Account]:
        """Send and strike until *end_s* (``time.monotonic()``), comparing now and then."""
        planned_s = end_s - time.monotonic()
        producer = Producer(self.session, random.Random(f"sent {self.account.seed}"), planned_s)
        while True:
            with producer.sending() as ledgers:
                self.session.ledgers = ledgers
                self.session.watches = [
                    (shard_id, PrefixWatch(ledger, self.session.place))
                    for shard_id, ledger in zip(SHARDS, ledgers, strict=True)
                ]
                self._strike_until(min(end_s, time.monotonic() + _EPOCH_S), producer)
            self._drain()
            self._close()
            yield self.account

    def _strike_until(self, until_s: float, producer: Producer) -> None:
        self._await_ready(producer)
        while time.monotonic() < until_s:
            self._strikes += 1
            kind, strike = self._next()
            strike()
            self.account.faults[kind] += 1
            self._await_ready(producer)

    def _next(self) -> tuple[str, Callable[[], None]]:
        if self._strikes % _NEW_ID_EVERY == _NEW_ID_FIRST:
            return NEW_ID, self._take_new_id
        kinds: dict[str, Callable[[], None]] = {
            "kill -9 of a worker": self._kill_worker,
            "kill -9 of Java": self._kill_java,
            "kill -9 of the supervisor": self._kill_supervisor,
            "kill -9 of everything": self._kill_all,
            "SIGSTOP of a worker": self._pause_worker,
            "SIGSTOP of Java": self._pause_java,
        }
        kind = self.choice.choices(list(kinds), weights=(3, 3, 2, 2, 1, 1))[0]
        return kind, kinds[kind]

    def _struck(self, kind: str) -> None:
        self._moments.append((kind, time.time_ns() // 1_000_000))

    def _kill_worker(self) -> None:
        self._struck("kill -9 of a worker")
        os.kill(self.choice.choice(self.session.daemon.workers()), signal.SIGKILL)

    def _kill_java(self) -> None:
        self._struck("kill -9 of Java")
        os.kill(self.session.daemon.java_pid(), signal.SIGKILL)

    def _kill_supervisor(self) -> None:
        daemon = self.session.daemon
        group = daemon.group()
        self._struck("kill -9 of the supervisor")
        daemon.kill()
        eventually(lambda: not any(map(is_alive, group)), "Java and its workers are gone")
        daemon.start(**self._start)

    def _kill_all(self, kind: str = "kill -9 of everything") -> None:
        daemon = self.session.daemon
        processes = [daemon.pid, *daemon.group()]
        for pid in processes:
            os.kill(pid, signal.SIGSTOP)
        self._struck(kind)
        for pid in processes:
            os.kill(pid, signal.SIGKILL)
        daemon.kill()
        eventually(lambda: not any(map(is_alive, processes)), "all are gone")
        daemon.start(**self._start)

    def _take_new_id(self) -> None:
        self._start = {"KCL__WORKER_ID": f"worker-{self.session.name}-{self._strikes}"}
        self._kill_all(NEW_ID)

    def _pause_worker(self) -> None:
        pid = self.choice.choice(self.session.daemon.workers())
        self._pause("SIGSTOP of a worker", pid, self.choice.uniform(1, 8))

    def _pause_java(self) -> None:
        java = self.session.daemon.java_pid()
        self._pause("SIGSTOP of Java", java, self.choice.uniform(3, 15))

    def _pause(self, kind: str, pid: int, seconds: float) -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        # What counts is how long it takes from there.
        self._struck(kind)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _await_ready(self, producer: Producer) -> None:
        """Wait until the daemon has been ready for a while, looking at every checkpoint."""
        limit_s = time.monotonic() + _READY_LIMIT_S
        since_s = None
        while since_s is None or time.monotonic() < since_s + _READY_S:
            time.sleep(_POLL_S)
            producer.check()
            self.session.look()
            self._measure()
            now_s = time.monotonic()
            if not self._is_ready():
                since_s = None
            elif since_s is None:
                since_s = now_s
            if since_s is None and now_s > limit_s:
                raise AssertionError(f"not ready in {_READY_LIMIT_S:.0f} s")

    def _is_ready(self) -> bool:
        daemon = self.session.daemon
        if daemon.process is None or daemon.process.poll() is not None:
            raise AssertionError(f"the daemon has left; its log is {daemon.log}")
        if len(daemon.workers()) < len(SHARDS):
            return False
        try:
            with urllib.request.urlopen(self.ready_url, timeout=10) as answer:  # noqa: S310 - our own daemon
                return bool(answer.status == HTTPStatus.OK)
        except OSError:
            return False

    def _drain(self) -> None:
        limit_s = time.monotonic() + _DRAIN_LIMIT_S
        while not self.session.look():
            left = self.session.unworked()
            assert time.monotonic() < limit_s, f"not checkpointed: {left}"
            time.sleep(_POLL_S)

    def _close(self) -> None:
        """Compare the epoch, enter it, and drop its documents."""
        session, account = self.session, self.account
        found = session.place.find()
        ledgers = session.ledgers
        sent = sum(len(ledger.placed) for ledger in ledgers)
        account.enter(sum(len(ledger.due) for ledger in ledgers), sent, found)
        violations = [Difference(Kind.LOST, text) for text in session.violations]
        session.violations.clear()
        account.note([*violations, *self.books.close(ledgers, found)])
        for kind, seconds in recoveries(self._moments, found):
            account.note_recovery(kind, seconds)
        self._moments.clear()
        self._enter_restarts()
        forget_epoch(session.lab, session.place)
        rows = session.place.rows
        assert isinstance(rows, AcceptedRows)
        rows.forget()

    def _enter_restarts(self) -> None:
        """Restarts of the KCL, and starts of the daemon, as its log tells."""
        events = self.session.daemon.events()
        told = Counter(
            str(event.get("cause")) for event in events if event["event"] == "restarting the KCL"
        )
        told["the daemon was started"] = sum(event["event"] == "started" for event in events)
        self.account.restarts += told - self._told
        self._told = told

    def _measure(self) -> None:
        memory = self.session.lab.redis.info("memory")["used_memory"]
        self.account.note_largest("redis MB", round(int(memory) / 1e6, 1))
        self.account.note_largest("load", round(os.getloadavg()[0], 1))
        for pid in self.session.daemon.workers():
            self.account.note_largest("worker MB", _resident_mb(pid))


def recoveries(moments: list[tuple[str, int]], found: Found) -> Iterator[tuple[str, float]]:
    """
    From each strike to the first decision that followed it, on the slower of the shards.

    A decision follows if its record was received after the strike, and so by a worker that
    was there then. A strike that none followed took for ever (``inf``).
    """
    times: dict[str, list[tuple[int, int]]] = {shard_id: [] for shard_id in SHARDS}
    for document in found.documents.values():
        origin = document["origin"]
        times[origin["shard_id"]].append((document["stored_ms"], origin["received_ms"]))
    for kind, struck_ms in moments:
        first = [
            min(
                (stored for stored, received in times[shard_id] if received > struck_ms),
                default=None,
            )
            for shard_id in SHARDS
        ]
        yield kind, (max(inf if stored is None else stored for stored in first) - struck_ms) / 1e3


def _resident_mb(pid: int) -> float:
    """Resident memory of *pid* as in proc(5); 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)
