"""
The machine under a worker: full or read-only disks, closed pipes, nothing left of
descriptors or memory, a wall clock that steps, processes that stand still.

A worker goes on or leaves, whichever it can; nothing is lost and nothing is twice. What
cannot start says why in one line.
"""

import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from consumer.adapters.kinesis import EXIT_FAILED, EXIT_UNAVAILABLE
from consumer.local.findings import read_documents
from tests.chaos.arena import Arena
from tests.chaos.found import Document
from tests.chaos.reading import assert_no_traceback, read_log
from tests.chaos.registry import case
from tests.chaos.shard import Owner, ShardRun
from tests.chaos.traffic import Mix

_MIX = Mix(transactions=160, hot=True)
_GOES_ON = "the worker goes on; nothing is lost, nothing is twice"
_LEAVES = "the worker leaves without a checkpoint and says why; the next one does it all, once"
_EITHER = "the worker leaves or goes on; nothing is lost, nothing is twice"
_MINUTE_MS = 60_000
_LIMIT_S = 60.0


def _shard(arena: Arena, mix: Mix = _MIX) -> ShardRun:
    run = arena.shard(mix)
    run.largest = 30
    return run


def _await(look: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + _LIMIT_S
    while not look():
        assert time.monotonic() < deadline_s, f"not within {_LIMIT_S:.0f} s: {what}"
        time.sleep(0.02)


@contextmanager
def _wrapped(run: ShardRun, *wrapper: str) -> Iterator[None]:
    """Start the workers of *run* through the command *wrapper*, which becomes them."""
    before = run.command
    run.command = (*wrapper, *before)
    try:
        yield
    finally:
        run.command = before


def _on_disk(folder: Path, size: str, then: str = "true") -> tuple[str, ...]:
    """
    A wrapper that mounts a disk of *size* at *folder*, which only the worker sees.

    In a name space of its own, which needs no rights where the kernel lets users have them.
    *then* is done to the mount, named $0. Raises AssertionError where the kernel does not.
    """
    alone = ("unshare", "--user", "--map-root-user", "--mount")
    tried = subprocess.run(
        [*alone, "mount", "-t", "tmpfs", "chaos", "/mnt"], capture_output=True, check=False
    )
    assert tried.returncode == 0, f"this case mounts in a user name space: {tried.stderr.decode()}"
    folder.mkdir(parents=True, exist_ok=True)
    script = (
        f'mount -t tmpfs -o size={size} chaos "$0" && mkdir -p "$0/run/workers" "$0/metrics"'
        f' && {{ {then}; }} && exec "$@"'
    )
    return (*alone, "sh", "-c", script, str(folder))


def _keep_on(run: ShardRun, folder: Path) -> None:
    """Have the workers of *run* keep heartbeat and metrics in *folder*."""
    run.configure({"SUPERVISOR__RUN_DIR": str(folder / "run")})
    run.environment = {**run.environment, "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics")}


def _start_in_vain(run: ShardRun) -> None:
    """Start a worker that cannot; it leaves with 75, having taken nothing up."""
    with run.owner() as owner:
        assert not owner.run()
    assert run.exits == [EXIT_UNAVAILABLE], run.exits
    run.count.note()
    assert run.lease.checkpoint is None
    assert_no_traceback(run)


def _start_on(then: str, why: str, arena: Arena) -> None:
    """Start on a disk to which *then* was done, then on a well one."""
    run, disk = _shard(arena), arena.folder / "disk"
    _keep_on(run, disk)
    with _wrapped(run, *_on_disk(disk, "2m", then)):
        _start_in_vain(run)
    assert why in run.log.read_text()
    with _wrapped(run, *_on_disk(disk, "8m")):
        run.work()
    assert run.exits[1:] == [0]


_FILL = 'dd if=/dev/zero of="$0/filler" bs=4k status=none || true'
# Room for the heartbeat and none for the metrics.
_FILL_MOST = 'dd if=/dev/zero of="$0/filler" bs=4k count=480 status=none'

for _then, _why, _what in (
    (_FILL, "No space left on device", "a full disk"),
    (_FILL_MOST, "No space left on device", "a disk with room for its heartbeat alone"),
    ('mount -o remount,ro "$0"', "Read-only file system", "a read-only disk"),
):
    case(f"machine/a worker starts on {_what}", _LEAVES)(partial(_start_on, _then, _why))


@case("machine/a worker starts where its run directory is no directory", _LEAVES)
def _no_directory(arena: Arena) -> None:
    run, file = _shard(arena), arena.folder / "file"
    file.write_text("")
    well = run.environment
    run.configure({"SUPERVISOR__RUN_DIR": str(file / "run")})
    _start_in_vain(run)
    assert "Not a directory" in run.log.read_text()
    run.environment = well
    run.work()
    assert run.exits[1:] == [0]


def _fill(owner: Owner, disk: Path) -> None:
    """Fill the disk that the worker sees at *disk*."""
    filler = Path(f"/proc/{owner.pid}/root{disk}/filler")
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    assert os.statvfs(filler.parent).f_bfree == 0


def _disk_fills(at: int, arena: Arena) -> None:
    """The disk becomes full before delivery number *at*."""
    run, disk = _shard(arena), arena.folder / "disk"
    _keep_on(run, disk)
    deliveries = iter(range(1_000))

    def step(owner: Owner, _index: int) -> None:
        if next(deliveries) == at:
            _fill(owner, disk)
            run.count.note()

    run.before_delivery = step
    with _wrapped(run, *_on_disk(disk, "8m")):
        run.work()
    assert run.exits == [0], run.exits
    assert_no_traceback(run)


for _at, _what in {0: "before the first delivery", 3: "in mid-stream"}.items():
    case(f"machine/the disk becomes full {_what}", _GOES_ON)(partial(_disk_fills, _at))


@case("machine/the run directory is removed in mid-stream", _GOES_ON)
def _directory_removed(arena: Arena) -> None:
    run, folder = _shard(arena), arena.folder / "mine"
    (folder / "metrics").mkdir(parents=True)
    _keep_on(run, folder)

    def step(_owner: Owner, index: int) -> None:
        if index > len(run.placed) // 3 and folder.exists():
            shutil.rmtree(folder)
            run.count.note()

    run.before_delivery = step
    run.work()
    assert run.exits == [0]
    assert_no_traceback(run)


@case(
    "machine/Java's end of the worker's output is closed",
    "the worker leaves by itself; its successor goes on from the last checkpoint",
)
def _output_closed(arena: Arena) -> None:
    run = _shard(arena)

    def step(owner: Owner, index: int) -> None:
        if index > len(run.placed) // 3 and not run.exits:
            assert owner.driver.process.stdout is not None
            owner.driver.process.stdout.close()
            run.count.note()

    run.before_delivery = step
    with run.owner() as owner:
        # The harness cannot read what it closed.
        with suppress(ValueError):
            owner.run()
        owner.driver.process.wait(_LIMIT_S)
    assert run.exits[0] in (0, EXIT_UNAVAILABLE)
    run.work()
    assert run.exits[1:] == [0]
    assert_no_traceback(run)


@case(
    "machine/Java goes in the middle of a message",
    "the half message is nothing; the worker leaves, its successor goes on",
)
def _half_a_message(arena: Arena) -> None:
    run = _shard(arena)

    def step(owner: Owner, index: int) -> None:
        if index > len(run.placed) // 3 and not run.exits:
            stream = owner.driver.process.stdin
            assert stream is not None
            stream.write(b'{"action":"processRecords","millisBehindLatest":0,"records":[{"act')
            stream.flush()
            stream.close()
            owner.driver.process.wait(_LIMIT_S)
            run.count.note()
            raise EOFError("Java is gone")

    run.before_delivery = step
    run.work()
    assert run.exits == [0, 0]
    assert_no_traceback(run)


def _without_log(redirection: str, exits: tuple[int, ...], arena: Arena) -> None:
    """Work with standard error redirected, by bash; *exits* are possible exit codes."""
    run = _shard(arena)

    def step(owner: Owner, _index: int) -> None:
        descriptor = Path(f"/proc/{owner.pid}/fd/2")
        if not run.count.at_s and descriptor.resolve() != run.log:
            run.count.note()

    run.before_delivery = step
    with _wrapped(run, "bash", "-c", f'exec "$@" {redirection}', "worker"):
        with run.owner() as owner:
            owner.run()
        assert run.exits[0] in exits, run.exits
    if run.exits != [0]:
        run.count.note()
        run.work()


for _redirection, _exits, _what in (
    ("2>/dev/full", (0,), "takes nothing, since its disk is full"),
    ("2> >(exec true)", (0,), "has lost its reader"),
    ("2> >(head -c 600 >/dev/null)", (0,), "loses its reader soon"),
    ("2>&-", (0, 1, EXIT_FAILED), "is closed from the start"),
):
    case(f"machine/standard error {_what}", _GOES_ON if _exits == (0,) else _EITHER)(
        partial(_without_log, _redirection, _exits)
    )


def _limit(owner: Owner, what: int, soft: int) -> None:
    """Set the soft limit *what* of the worker; counted."""
    _, hard = resource.prlimit(owner.pid, what)
    resource.prlimit(owner.pid, what, (soft, hard))
    owner.shard.count.note()


def _no_descriptors(heals: bool, arena: Arena) -> None:  # noqa: FBT001 - by partial
    """From mid-stream on nothing can be opened, and the connection to Redis is cut."""
    arena.degraded = True
    run = _shard(arena)
    with arena.proxy() as proxy:
        run.configure({"REDIS__URL": proxy.url, "REDIS__OUTAGE_LIMIT_S": "30" if heals else "2.5"})

        def step(owner: Owner, index: int) -> None:
            if index > len(run.placed) // 3 and not run.exits and not run.count.at_s:
                _limit(owner, resource.RLIMIT_NOFILE, 3)
                proxy.cut_all()

        run.before_delivery = step
        with run.owner() as owner:
            owner.begin()
            if heals:
                _await(lambda: _waits(run), "the worker waits for Redis")
                _limit(owner, resource.RLIMIT_NOFILE, 1024)
            owner.join()
        assert run.exits == [0 if heals else EXIT_UNAVAILABLE], run.exits
        if not heals:
            run.work()
    assert "Too many open files" in run.log.read_text()
    assert_no_traceback(run)


def _waits(run: ShardRun) -> bool:
    return any(event["event"] == "waiting" for event in read_log(run))


case("machine/no file descriptors are left for a while", _GOES_ON, quick=True)(
    partial(_no_descriptors, True)
)
case("machine/no file descriptors are left for long", _LEAVES)(partial(_no_descriptors, False))


def _starts_limited(limit: str, arena: Arena) -> None:
    """Start workers under ``ulimit`` *limit*, then one without."""
    run = _shard(arena)
    with _wrapped(run, "bash", "-c", f'ulimit {limit}; exec "$@"', "worker"):
        for _ in range(2):
            with run.owner() as owner:
                assert not owner.run()
            run.count.note()
    assert 0 not in run.exits
    assert run.lease.checkpoint is None
    run.work()
    assert run.exits[2:] == [0]


for _option, _what in {
    "-n 6": "too few file descriptors",
    "-v 250000": "too little memory",
}.items():
    case(f"machine/a worker starts with {_what}", _EITHER)(partial(_starts_limited, _option))


@case("machine/memory runs out in mid-stream", _EITHER)
def _no_memory(arena: Arena) -> None:
    run = _shard(arena, Mix(transactions=400, hot=True))
    run.smallest, run.largest = 20, 400

    def step(owner: Owner, _index: int) -> None:
        if len(run.exits) < 3:
            pages = int(Path(f"/proc/{owner.pid}/statm").read_text().split()[0])
            _limit(owner, resource.RLIMIT_AS, pages * resource.getpagesize())

    run.before_delivery = step
    run.work()


def _steps(step_of: Callable[[Arena, int], int], arena: Arena) -> None:
    """The wall clock is stepped before each delivery."""
    run = _shard(arena)
    steps: list[int] = []

    def step(_owner: Owner, _index: int) -> None:
        steps.append(step_of(arena, len(steps)))
        arena.folders[-1].step_clock(steps[-1])

    run.before_delivery = step
    started_ms = time.time_ns() // 1_000_000
    run.work()
    assert run.exits == [0]
    documents: Mapping[str, Document] = read_documents(arena.lab.redis)
    received = [document["origin"]["received_ms"] for document in documents.values()]
    # It is this clock that workers read, and what they wrote down counts.
    stepped = [abs(received_ms - started_ms) // _MINUTE_MS for received_ms in received]
    assert max(stepped) > 2
    for _ in {minutes for minutes in stepped if minutes > 1}:
        run.count.note()


for _step_of, _what in (
    (lambda _arena, number: number * 3 * _MINUTE_MS, "forwards, again and again"),
    (lambda _arena, number: -number * 3 * _MINUTE_MS, "backwards, again and again"),
    (
        lambda arena, _number: arena.choice.randint(-30, 30) * _MINUTE_MS,
        "to and fro by half an hour",
    ),
):
    case(
        f"machine/the wall clock steps {_what}",
        "features, deadlines and checkpoints do not notice; nothing is late, nothing degraded",
    )(partial(_steps, _step_of))


def _stalls(deadline_ms: str, degraded: bool, arena: Arena) -> None:  # noqa: FBT001 - by partial
    """The worker stands still three times, for longer than its deadline where that is short."""
    arena.degraded = degraded
    run = _shard(arena, Mix(transactions=240, hot=True))
    run.configure({"SCORING__DEADLINE_MS": deadline_ms, "SCORING__CONNECT_TIMEOUT_MS": deadline_ms})
    with run.owner() as owner:
        owner.begin()
        assert owner.taken_up.wait(_LIMIT_S)
        for _ in range(3):
            time.sleep(arena.choice.uniform(0.0, 0.2))
            if owner.driver.process.poll() is None:
                owner.signal(signal.SIGSTOP)
                owner.await_stopped()
                time.sleep(1.3)
                owner.resume()
        owner.join()
    assert run.exits == [0]
    assert_no_traceback(run)


case("machine/a stall of seconds", "nothing is late that can wait; all is complete")(
    partial(_stalls, "20000", False)
)
case(
    "machine/a stall beyond the deadline",
    "what was being scored may be degraded; nothing is lost, nothing is twice",
)(partial(_stalls, "500", True))
