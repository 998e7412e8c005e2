"""Whose a shard is, under the real KCL: iterators that expire, and owners that do not know."""

import os
import signal
import time

from tests.chaos.faults import Act, Fault, Port, When
from tests.chaos.gateway import Fails, HttpFault
from tests.chaos.kcl import ChaosDaemon
from tests.chaos.kinesis_gateway import KinesisGateway
from tests.chaos.resharding import ReshardingArena, resharding_case
from tests.chaos.traffic import Mix
from tests.e2e.kcl_daemon import eventually, is_alive

_MIX = Mix(transactions=60, hot=True, labels=0.2, ahead=0)
_SHARDS = 4
_TAKEN_S = 200.0


def _expired(nth: int, times: int = 1) -> HttpFault:
    """From its *nth* on, *times* reads of records are told that their iterator is too old."""
    return HttpFault(
        ".GetRecords",
        Fails.REFUSED,
        nth=nth,
        times=times,
        status=400,
        error="ExpiredIteratorException",
    )


@resharding_case(
    "kcl/iterators that expire",
    "new ones are taken behind what was read last; nothing is lost, nothing is skipped or twice",
)
def _iterators(arena: ReshardingArena) -> None:
    """As when the KCL does not read a shard for five minutes, a worker being slow."""
    arena.open_stream(2)
    with KinesisGateway(arena.url) as gateway:
        daemon = arena.daemon(AWS__ENDPOINT_URL=gateway.url)
        daemon.await_workers()
        workers = daemon.workers()
        # One at a time, several in a row, and before a shard's first record was read.
        gateway.fail(_expired(1, 2), _expired(8), _expired(14, 4), *map(_expired, (25, 31, 40)))
        with arena.sending(arena.lanes(2, _MIX), pause_s=0.06):
            arena.await_decided(100)
        arena.await_worked()
        injected = gateway.injected
        arena.count.at_s += injected
        assert len(injected) >= 8, f"only {len(injected)} reads were refused"
        assert gateway.passed("GetShardIterator", injected[0]) >= 4, "no iterator was taken anew"
        assert daemon.workers() == workers, "workers were started anew"
        assert daemon.stop() == 0


def _shards_of(arena: ReshardingArena, daemon: ChaosDaemon) -> list[str]:
    """The shards whose leases *daemon* holds; checkpoints are looked at on the way."""
    arena.look()
    assert daemon.process is not None
    assert daemon.process.poll() is None, f"the daemon has left; its log is {daemon.log}"
    worker = daemon.environment["FRAUDSTREAM_KCL__WORKER_ID"]
    return [shard for shard, (owner, _) in daemon.leases().items() if owner == worker]


def _said(daemon: ChaosDaemon, event: str) -> int:
    return sum(each["event"] == event for each in daemon.events())


@resharding_case(
    "kcl/two owners, Java and worker of the first stopped in mid-delivery past their lease",
    "the second decides everything; the first wakes, finishes what it held, and changes nothing",
)
def _two_owners(arena: ReshardingArena) -> None:
    """As a machine that is paused and comes back while another one has its shard."""
    arena.open_stream(_SHARDS)
    # The first to start leads the KCL's assignment of leases, so it must not be the one to stop.
    second = arena.daemon()
    eventually(lambda: len(second.workers()) == _SHARDS, "the second has all shards", 150.0)
    # As long as it may be: nobody but the KCL is to notice that it stands still.
    first = arena.daemon(WORKER__PROGRESS_LIMIT_S="150")
    # Leases are balanced by what their shards carry.
    with arena.sending(arena.lanes(_SHARDS, _MIX), pause_s=0.05):
        eventually(lambda: _shards_of(arena, first), "the first owns a shard", 150.0)
    shard = _shards_of(arena, first)[0]
    stop = Fault(Port.DECIDE, 2, When.MIDDLE, Act.STOP, shard=shard)
    arena.faults.plan("case", [stop])
    with arena.sending(arena.lanes(_SHARDS, _MIX), pause_s=0.02):
        (stopped,) = eventually(lambda: arena.faults.fired()[:1], "a worker stops", 60.0)
        java = first.java_pid()
        os.kill(java, signal.SIGSTOP)
        arena.count.note()
    eventually(lambda: len(_shards_of(arena, second)) == _SHARDS, "the second owns all", _TAKEN_S)
    arena.await_worked()
    assert is_alive(stopped.pid), "the first worker is gone"
    assert is_alive(java), "its Java is gone"
    lost = _said(first, "the lease is lost")
    os.kill(stopped.pid, signal.SIGCONT)
    time.sleep(0.5)
    os.kill(java, signal.SIGCONT)
    eventually(lambda: _said(first, "the lease is lost") > lost, "it learns of its loss", 60.0)
    assert not _said(first, "restarting the KCL"), "it was ended and not told"
    # Both go on: what comes now is worked by whoever owns it.
    arena.send(arena.lanes(_SHARDS, _MIX))
    arena.await_worked()
