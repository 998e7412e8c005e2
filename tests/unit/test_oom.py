from pathlib import Path

import pytest

from consumer.oom import find_counter, read_kills


@pytest.mark.parametrize(
    ("membership", "counter"),
    [
        ("0::/system.slice/fraud.service\n", "system.slice/fraud.service/memory.events"),
        ("0::/on/the/host\n", "memory.events"),
        ("5:cpu:/a\n4:memory:/task\n0::/\n", "memory/task/memory.oom_control"),
        ("4:cpu,memory:/on/the/host\n", None),
    ],
)
def test_the_counter_of_the_own_group_is_found(
    tmp_path: Path, membership: str, counter: str | None
) -> None:
    mine = tmp_path / "cgroup"
    mine.write_text(membership)
    mount = tmp_path / "mount"
    if counter is not None:
        (mount / counter).parent.mkdir(parents=True)
        (mount / counter).write_text("oom_kill_disable 0\noom 4\noom_kill 3\n")
    found = find_counter(mine, mount)
    assert found == (None if counter is None else mount / counter)
    assert read_kills(found) == (None if counter is None else 3)


@pytest.mark.parametrize("content", ["", "oom 1\n", "oom_kill many\n", "oom_kill\n"])
def test_a_counter_that_says_nothing_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "memory.events").write_text(content)
    assert read_kills(tmp_path / "memory.events") is None
