"""The embedded server: real, ready when started, gone when stopped or orphaned."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from consumer.adapters.redis.connection import connect
from consumer.errors import Misconfigured, Unavailable
from consumer.local.redis_server import RedisServer, _wheel_file

ROOT = Path(__file__).parents[2]


def test_a_started_server_answers_with_json_and_search() -> None:
    with (
        RedisServer() as server,
        connect(server.url, connect_timeout_s=2, timeout_s=2) as client,
    ):
        modules = {module[b"name"] for module in client.module_list()}
    assert {b"ReJSON", b"search"} <= modules


def test_a_stopped_server_leaves_neither_process_nor_folder() -> None:
    server = RedisServer(modules=False).start()
    pid = server.pid
    assert pid is not None
    folder = Path(f"/proc/{pid}/cwd").resolve()
    server.stop()
    server.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not folder.exists()


def test_a_port_that_is_taken_is_said_to_be(tmp_path: Path) -> None:
    with RedisServer(modules=False) as server:
        port = int(server.url.rsplit(":", 1)[1].split("/")[0])
        with pytest.raises(Unavailable, match="Address already in use"):
            RedisServer(modules=False, port=port, directory=tmp_path).start()


def test_a_killed_parent_takes_its_server_along(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from consumer.local.redis_server import RedisServer\n"
        "server = RedisServer(modules=False, directory=Path(sys.argv[1])).start()\n"
        "print(server.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        watch = os.pidfd_open(pid)
        parent.kill()
        ended, _, _ = select.select([watch], [], [], 10)
        os.close(watch)
    assert ended


def test_a_platform_without_the_wheels_is_told_what_to_do() -> None:
    with pytest.raises(Misconfigured, match="REDIS_URL naming a Redis with JSON and Search"):
        _wheel_file("no_such_wheel", "bin/redis-server")
