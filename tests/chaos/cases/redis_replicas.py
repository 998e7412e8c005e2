"""Primaries that are lost: replicas promoted, behind or in step, and clusters that change."""

import os
import signal
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import redis
from redis.crc import key_slot

from consumer.adapters.kinesis import EXIT_UNAVAILABLE
from consumer.adapters.redis.connection import command
from consumer.adapters.redis.documents import ALERTS
from consumer.local.redis_server import RedisServer
from consumer.model import Position
from tests.chaos.arena import Arena
from tests.chaos.faults import Act, Fault, Port
from tests.chaos.proxy import RedisProxy
from tests.chaos.registry import case
from tests.chaos.servers import (
    await_that,
    cut_replication,
    in_step,
    log_lines,
    names_of_documents,
    note_refusals,
    refused,
    replicate,
    start_server,
    stopped,
    waits,
    working,
)
from tests.chaos.shard import ShardRun
from tests.chaos.traffic import NEAR, PLAIN, Mix
from tests.redis_cluster import Moving, RedisCluster

_MIX = Mix(transactions=160, hot=True, labels=0.3)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A primary, its replica, a replica of that one, and the address that leads to the primary."""

    primary: RedisServer
    replica: RedisServer
    written: redis.Redis
    copied: redis.Redis
    proxy: RedisProxy

    def fail_over(self, arena: Arena) -> set[str]:
        """
        Kill the primary, promote the replica, lead everybody there.

        Returns the transactions whose documents only the primary had.
        """
        lost = names_of_documents(self.written) - names_of_documents(self.copied)
        self.proxy.refuse()
        assert self.primary.pid is not None
        os.kill(self.primary.pid, signal.SIGKILL)
        arena.count.note()
        command(self.copied, "REPLICAOF", "NO", "ONE")
        self.proxy.switch(self.replica.url)
        self.proxy.heal()
        return lost


def _start_pair(arena: Arena) -> _Pair:
    fast = ("--repl-diskless-sync-delay", "0")
    primary, written = start_server(arena, *fast)
    replica, copied = start_server(arena, *fast)
    _, copied_again = start_server(arena, *fast)
    replicate(copied, primary)
    replicate(copied_again, replica)
    proxy = arena.stack.enter_context(RedisProxy(primary.url))
    arena.proxies.append(proxy)
    arena.use_redis(proxy.url)
    return _Pair(primary, replica, written, copied, proxy)


def _cut_in_step(pair: _Pair) -> None:
    await_that(lambda: in_step(pair.written, pair.copied), "the replica has everything")
    cut_replication(pair.copied)


def _in_deliveries(arena: Arena, *faults: Fault, mix: Mix = _MIX, replicas: int = 0) -> ShardRun:
    run = arena.shard(
        mix,
        faults=faults,
        REDIS__WAIT_REPLICAS=str(replicas),
        REDIS__WAIT_TIMEOUT_MS="300",
    )
    run.smallest = run.largest = 20
    return run


_THIRD = Fault(Port.PROCESS, 3, act=Act.STOP)


def _assert_none_since(before: Position | None, meanwhile: Position | None) -> None:
    """
    No checkpoint came between *before*, when the replica was cut, and *meanwhile*.

    A worker that waits has written what the replica lacks, and none may pass that. Told only
    when all is healed: until then the worker waits for as long as it may.
    """
    told = f"the checkpoint went from {before} to {meanwhile} without the replica"
    assert meanwhile == before, told


@case(
    "redis/the replica falls behind, and catches up",
    "no checkpoint is sent while the replica lacks what was written",
)
def _behind(arena: Arena) -> None:
    pair = _start_pair(arena)
    run = _in_deliveries(arena, _THIRD, replicas=1)
    with working(run):
        with stopped(arena):
            _cut_in_step(pair)
            before = run.lease.checkpoint
        await_that(lambda: waits(run, "replicas have what was written") >= 4, "the worker waits")
        meanwhile = run.lease.checkpoint
        for _ in range(waits(run)):
            arena.count.note()
        replicate(pair.copied, pair.primary)
    _assert_none_since(before, meanwhile)
    assert run.exits == [0]


@case(
    "redis/a primary is lost with its last writes, replicas waited for",
    "what was written since the checkpoint is done again, and all of it counts once",
)
def _lost_with_wait(arena: Arena) -> None:
    pair = _start_pair(arena)
    run = _in_deliveries(arena, _THIRD, replicas=1)
    with working(run):
        with stopped(arena):
            _cut_in_step(pair)
            before = run.lease.checkpoint
        await_that(lambda: waits(run, "replicas have what was written"), "the worker waits")
        meanwhile = run.lease.checkpoint
        arena.decided_again = pair.fail_over(arena)
        assert arena.decided_again, "nothing was lost"
    _assert_none_since(before, meanwhile)
    assert run.exits == [EXIT_UNAVAILABLE, 0]
    (left,) = log_lines(run, "leaving without a checkpoint")
    assert "a primary was replaced" in left["error"]


@case(
    "redis/a primary is lost in the middle of a delivery, replicas waited for",
    "what was written since the checkpoint is done again, and all of it counts once",
)
def _lost_within_a_delivery(arena: Arena) -> None:
    """The next chunk must not be decided on what the new primary lacks."""
    pair = _start_pair(arena)
    fourth = Fault(Port.OBSERVE, 4, act=Act.STOP)
    run = _in_deliveries(arena, Fault(Port.PROCESS, 1, act=Act.STOP), fourth, replicas=1)
    run.smallest = run.largest = 1_000
    with working(run):
        with stopped(arena, 1):
            _cut_in_step(pair)
        with stopped(arena, 2):
            arena.decided_again = pair.fail_over(arena)
            assert arena.decided_again, "nothing was lost"
    assert run.exits == [EXIT_UNAVAILABLE, 0]
    (left,) = log_lines(run, "leaving without a checkpoint")
    assert "a primary was replaced" in left["error"]


@case(
    "redis/a primary is lost with its last writes, replicas not waited for",
    "exactly what it had not passed on is gone but for its rows; everything else counts once",
)
def _lost_without_wait(arena: Arena) -> None:
    """What ``wait_replicas: 0`` leaves unprotected, as docs/redis.md says."""
    pair = _start_pair(arena)
    run = _in_deliveries(arena, _THIRD, Fault(Port.PROCESS, 2, act=Act.STOP), mix=PLAIN)
    with working(run):
        with stopped(arena, 1):
            _cut_in_step(pair)
        with stopped(arena, 2):
            arena.gone |= pair.fail_over(arena)
    assert len(arena.gone) == 2 * run.largest, "other than the two deliveries were lost"
    assert run.exits == [0]


@case(
    "redis/a replica that has everything is promoted, without functions",
    "the worker loads them, and everything counts once",
)
def _promoted_without_functions(arena: Arena) -> None:
    pair = _start_pair(arena)
    run = _in_deliveries(arena, Fault(Port.DECIDE, 4, act=Act.STOP))
    with working(run), stopped(arena):
        _cut_in_step(pair)
        assert not pair.fail_over(arena)
        pair.copied.function_flush()
        arena.count.note()
    assert run.exits == [0]


_MISLED = ("MOVED", "ASK")


def _misled(clients: list[redis.Redis]) -> Counter[str]:
    """How often the servers said each of these."""
    return Counter({code: sum(refused(each, code) for each in clients) for code in _MISLED})


def _heard_more(clients: list[redis.Redis], run: ShardRun, before: int) -> bool:
    return _misled(clients).total() + waits(run) > before


def _apart(run: ShardRun) -> int:
    """How often a worker waited for the keys of one entity to be on one server."""
    return waits(run, "on their way to another server")


def _most_used(run: ShardRun, entity: str) -> str:
    """The key of the state of the *entity* that most records of *run* name."""
    names = Counter(
        str(each.event[f"{entity}_id"])
        for each in run.placed
        if each.item.error is None and f"{entity}_id" in each.event
    )
    return f"f:{{{entity}:{names.most_common(1)[0][0]}}}"


@case(
    "redis/slots of a cluster move",
    "what moved is followed, what lies on both sides is waited for, and all of it counts once",
)
def _moving(arena: Arena) -> None:
    """A card has one key and is followed; the hot merchant has several and has to wait."""
    cluster = arena.stack.enter_context(RedisCluster())
    arena.use_redis(cluster.url)
    arena.clustered = True
    faults = [
        Fault(Port.OBSERVE, 3, act=Act.STOP),
        # By then the merchant has more ids than fit one key.
        Fault(Port.OBSERVE, 11, act=Act.STOP),
        # The first decides the chunk before, while the merchant's call is on its way.
        Fault(Port.DECIDE, 2, act=Act.STOP),
    ]
    run = arena.shard(replace(NEAR, transactions=280, merchants=1, labels=0.2), faults=faults)
    run.smallest = run.largest = 1_000
    before = _misled(cluster.clients)
    keys = (_most_used(run, "card"), _most_used(run, "merchant"), ALERTS)
    with working(run), ExitStack() as ending:
        for nth, key in enumerate(keys, 1):
            with stopped(arena, nth):
                ending.close()
                heard = _misled(cluster.clients).total() + waits(run)
                moving = Moving(cluster, key_slot(key.encode()))
                moving.begin()
                ending.callback(moving.end)
                found = moving.left()
                assert (len(found) > 1) is (nth == 2), f"{key} has {found}"
                for half in found[::2]:
                    moving.move(half)
            met = partial(_heard_more, cluster.clients, run, heard)
            # Documents of the chunk before may ask for the slot, too, while this one waits.
            await_that(met if len(found) == 1 else partial(_apart, run), f"{key} is asked for")
            ending.close()
    said = _misled(cluster.clients) - before
    assert set(said) == set(_MISLED), f"not each was said: {said}"
    waited = _apart(run)
    assert waited, "no worker waited for the keys of one entity to be together"
    note_refusals(arena, said.total() + waited)
    assert run.exits == [0]


@case(
    "redis/a primary of a cluster is killed and its replica promoted",
    "the worker waits, finds the new primary, and everything counts once",
)
def _cluster_failover(arena: Arena) -> None:
    """The replica had everything: what it had not is the subject of other cases."""
    cluster = arena.stack.enter_context(RedisCluster(replicas=True))
    arena.use_redis(cluster.url)
    arena.clustered = True
    run = arena.shard(_MIX, faults=[Fault(Port.DECIDE, 3, act=Act.STOP)])
    run.smallest = run.largest = 1_000
    killed = cluster.servers[1]
    with working(run), stopped(arena):
        await_that(
            lambda: all(map(in_step, cluster.clients, cluster.replicas)), "replicas have everything"
        )
        assert killed.pid is not None
        os.kill(killed.pid, signal.SIGKILL)
        arena.count.note()
    assert waits(run) > 0
    assert run.exits == [0]
