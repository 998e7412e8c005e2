import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import pytest

from consumer.errors import Unavailable
from consumer.heartbeat import Heartbeat, read_heartbeats
from consumer.model import Position, ShardId

BIG = Position(49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898, 3)


class StoppedClock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 10.0

    def now_ms(self) -> int:
        return 0

    def monotonic_s(self) -> float:
        return self.now_s


def test_what_a_worker_writes_is_read_back(tmp_path: Path) -> None:
    clock = StoppedClock()
    with Heartbeat(tmp_path, clock) as heartbeat:
        heartbeat.shard(ShardId("shard-1"))
        clock.now_s = 12.0
        heartbeat.progress(BIG, millis_behind=40)
        heartbeat.stage("waiting:redis")
        (state,) = read_heartbeats(tmp_path)
    assert state.alive
    assert (state.pid, state.shard_id, state.stage) == (os.getpid(), "shard-1", "waiting:redis")
    assert (state.position, state.checkpoint, state.progress_s) == (str(BIG), "", 12.0)
    assert (state.unsaved_since_s, state.millis_behind) == (12.0, 40)


def test_coming_into_being_is_progress(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, StoppedClock()):
        assert read_heartbeats(tmp_path)[0].progress_s == 10.0


def test_a_checkpoint_at_the_last_position_leaves_nothing_unsaved(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, StoppedClock()) as heartbeat:
        heartbeat.progress(Position(5), millis_behind=0)
        heartbeat.checkpointed(Position(5))
        assert read_heartbeats(tmp_path)[0].unsaved_since_s is None


def test_what_is_younger_than_the_checkpoint_waits_from_then_on(tmp_path: Path) -> None:
    clock = StoppedClock()
    with Heartbeat(tmp_path, clock) as heartbeat:
        heartbeat.progress(Position(5), millis_behind=0)
        heartbeat.progress(Position(9), millis_behind=0)
        clock.now_s = 20.0
        heartbeat.checkpointed(Position(5))
        assert read_heartbeats(tmp_path)[0].unsaved_since_s == 20.0


def test_an_empty_delivery_is_progress_without_a_new_position(tmp_path: Path) -> None:
    clock = StoppedClock()
    with Heartbeat(tmp_path, clock) as heartbeat:
        heartbeat.progress(Position(5), millis_behind=0)
        heartbeat.checkpointed(Position(5))
        clock.now_s = 20.0
        heartbeat.progress(None, millis_behind=None)
        (state,) = read_heartbeats(tmp_path)
    assert (state.position, state.progress_s, state.unsaved_since_s) == ("5:0", 20.0, None)


def test_what_is_under_way_is_told_from_its_first_record_on(tmp_path: Path) -> None:
    clock = StoppedClock()
    with Heartbeat(tmp_path, clock) as heartbeat:
        heartbeat.delivered(Position(3), Position(9))
        clock.now_s = 20.0
        heartbeat.under_way(Position(3), Position(5))
        (state,) = read_heartbeats(tmp_path)
        assert (state.delivery, state.under_way) == (("3:0", "9:0"), ("3:0", "5:0"))
        assert state.progress_s == 20.0
        heartbeat.nothing_under_way()
        assert read_heartbeats(tmp_path)[0].under_way == ("", "")


def test_a_stage_is_told_with_when_it_began_and_waiting_is_a_sign_of_life(tmp_path: Path) -> None:
    clock = StoppedClock()
    with Heartbeat(tmp_path, clock) as heartbeat:
        clock.now_s = 20.0
        heartbeat.stage("observe")
        (state,) = read_heartbeats(tmp_path)
        assert (state.stage_s, state.moved_s) == (20.0, 10.0)
        clock.now_s = 30.0
        heartbeat.stage("waiting:redis")
        assert read_heartbeats(tmp_path)[0].moved_s == 30.0


def test_the_longest_positions_and_names_leave_room_for_a_cause(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, StoppedClock()) as heartbeat:
        longest = Position(10**56, 10**6)
        heartbeat.shard(ShardId("s" * 128))
        heartbeat.delivered(longest, longest)
        heartbeat.under_way(longest, longest)
        heartbeat.progress(longest, millis_behind=10**9)
        heartbeat.checkpointed(longest)
        heartbeat.leaving("redis: gone")
        (state,) = read_heartbeats(tmp_path)
    assert state.cause == "redis: gone"
    assert state.under_way == (str(longest), str(longest))


def test_a_worker_that_leaves_in_good_order_leaves_no_file(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, StoppedClock()):
        pass
    assert read_heartbeats(tmp_path) == []


def test_a_process_that_ended_at_once_leaves_its_last_words(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path;"
        "from consumer.heartbeat import Heartbeat; from consumer.clock import SystemClock;"
        "h = Heartbeat(Path(sys.argv[1]), SystemClock()); h.stage('score');"
        "h.leaving('redis: gone ' + 'x' * 5000); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=30)
    (state,) = read_heartbeats(tmp_path)
    assert not state.alive
    assert state.stage == "score"
    assert state.cause.startswith("redis: gone x")


def test_a_write_that_was_cut_short_leaves_the_one_before(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, StoppedClock()) as heartbeat:
        heartbeat.stage("observe")
        path = read_heartbeats(tmp_path)[0].path
        before = path.read_bytes()
        heartbeat.stage("decide")
        after = path.read_bytes()
        changed = next(i for i in range(len(after)) if before[i] != after[i])
        path.write_bytes(after[: changed + 60] + before[changed + 60 :])
        assert read_heartbeats(tmp_path)[0].stage == "observe"


def test_a_file_that_was_never_written_is_no_worker(tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "1.state").write_bytes(b"")
    (tmp_path / "workers" / "2.state").write_bytes(b"\0" * 2048)
    assert read_heartbeats(tmp_path) == []


def test_a_process_that_took_over_the_id_is_not_the_worker(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, StoppedClock()):
        (state,) = read_heartbeats(tmp_path)
        content = state.path.read_bytes()
        generation, length, _ = struct.unpack("<QII", content[1024:1040])
        written = msgspec.json.decode(content[1040 : 1040 + length])
        # The same process id, taken by a process that started a clock tick later.
        body = msgspec.json.encode({**written, "started_ticks": written["started_ticks"] + 1})
        slot = struct.pack("<QII", generation, len(body), zlib.crc32(body)) + body
        state.path.write_bytes(bytes(1024) + slot)
        assert not read_heartbeats(tmp_path)[0].alive


@pytest.mark.parametrize("letter", ['"', "\u00e9", "\U0001f4b3", "x"])
def test_the_longest_cause_fits_its_slot_in_any_script(tmp_path: Path, letter: str) -> None:
    heartbeat = Heartbeat(tmp_path, StoppedClock())
    for _ in range(2):  # both slots
        heartbeat.leaving(letter * 5_000)
        (state,) = read_heartbeats(tmp_path)
        assert state.cause
        assert set(state.cause) == {letter}


def test_a_disk_that_cannot_be_written_is_named_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"disk: .*\.state: Not a directory"):
        Heartbeat(tmp_path / "file", StoppedClock())


def test_all_its_room_is_taken_at_the_start(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, StoppedClock()):
        (path,) = (tmp_path / "workers").glob("*.state")
        # In blocks of 512 bytes, see stat(2); a hole has none.
        assert path.stat().st_blocks * 512 >= path.stat().st_size > 0
