"""The daemon as a process of its own, over a stream of the embedded AWS, in the tests."""

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import orjson
from localstack_client.session import Session

from consumer.model import Position, ShardId
from consumer.settings import Settings

ROOT = Path(__file__).parents[2]
# The first lease takes about 35 s at the failover time below.
LEASE_LIMIT_S = 100.0
_POLL_S = 0.1
T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, limit_s: float = 60.0) -> T:
    """The first true result of *look*; an AssertionError that says *what* was awaited."""
    deadline_s = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < deadline_s, f"not within {limit_s:.0f} s: {what}"
        time.sleep(_POLL_S)
    return found


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the worker's journal."""

    event: str
    pid: int
    shard: str
    position: str | None
    data: str


@dataclass
class KclDaemon:
    """``run_daemon`` with the journal worker; its log and journal are files in *folder*."""

    folder: Path
    aws_url: str
    aws: Session
    stream: str
    process: "subprocess.Popen[bytes] | None" = None
    extra: dict[str, str] = field(default_factory=dict)
    worker: str | None = None
    """The worker's module in this folder, if it is not the journal worker."""

    @property
    def log(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def run_dir(self) -> Path:
        # A space, since the KCL cuts its command line at spaces.
        return self.folder / "run dir"

    @property
    def worker_id(self) -> str:
        # Another run of the tests on this machine must not hold the same one.
        return f"worker-{self.stream}-{os.getpid()}"

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(
            {
                "aws": {"endpoint_url": self.aws_url},
                "kcl": {
                    "stream_name": self.stream,
                    "application_name": f"app-{self.stream}",
                    "worker_id": self.worker_id,
                    "failover_time_ms": 2_000,
                },
                "worker": {"progress_limit_s": 5.0},
                "supervisor": {
                    "host": "127.0.0.1",
                    "port": 0,
                    "run_dir": str(self.run_dir),
                    "restart_backoff_s": 0.5,
                    "restart_backoff_max_s": 2.0,
                },
            }
        )

    def start(self) -> None:
        """Start the daemon."""
        settings = self.folder / "settings.json"
        settings.write_text(self.settings.model_dump_json(exclude_unset=True))
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.e2e.supervised"),
                    *(str(settings), str(self.folder)),
                    *([] if self.worker is None else [self.worker]),
                ],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def put(self, *orders: str) -> list[tuple[ShardId, Position]]:
        """Put records, all on one shard; where each of them is."""
        kinesis = self.aws.client("kinesis")
        put = [
            kinesis.put_record(StreamName=self.stream, Data=order.encode(), PartitionKey="one")
            for order in orders
        ]
        kinesis.close()
        return [(ShardId(each["ShardId"]), Position(int(each["SequenceNumber"]))) for each in put]

    def journal(self, event: str | None = None) -> list[Entry]:
        """What the workers wrote down, oldest first."""
        path = self.folder / "journal.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        entries = [Entry(**orjson.loads(line)) for line in lines]
        return [entry for entry in entries if event in (None, entry.event)]

    def seen(self, data: str) -> list[Entry]:
        """The deliveries of the record *data*."""
        return [entry for entry in self.journal("record") if entry.data == data]

    def await_record(self, data: str, limit_s: float = LEASE_LIMIT_S) -> Entry:
        """Wait until a worker has processed the record *data*."""
        return eventually(lambda: self.seen(data), f"record {data}", limit_s)[-1]

    def events(self) -> list[dict[str, object]]:
        """The daemon's log."""
        return [
            orjson.loads(line) for line in self.log.read_bytes().splitlines() if line[:1] == b"{"
        ]

    def port(self) -> int:
        """The port of the newest status server."""
        started = [event for event in self.events() if event["event"] == "started"]
        return int(str(started[-1]["port"]))

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a GET."""
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port()}{path}", timeout=10
            ) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def leases(self) -> dict[str, tuple[str, str]]:
        """Owner and checkpoint of each shard, as they stand in DynamoDB."""
        dynamodb = self.aws.client("dynamodb")
        items = dynamodb.scan(TableName=f"app-{self.stream}")["Items"]
        dynamodb.close()
        return {
            item["leaseKey"]["S"]: (
                item.get("leaseOwner", {}).get("S", ""),
                f"{item['checkpoint']['S']}:{item['checkpointSubSequenceNumber']['N']}",
            )
            for item in items
            if item["leaseKey"]["S"].startswith("shardId")
        }

    def java_pid(self) -> int:
        """The process id of the running KCL."""
        assert self.process is not None
        return eventually(lambda: _children(self.pid), "a Java process")[0]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def group(self) -> list[int]:
        """Everything below the daemon: Java and its workers."""
        return [pid for java in _children(self.pid) for pid in (java, *_children(java))]

    def stop(self, limit_s: float = 45.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit_s)

    def kill(self) -> None:
        """End whatever is left."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait()


def is_alive(pid: int) -> bool:
    """Whether *pid* exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _children(pid: int) -> list[int]:
    try:
        found = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [child for child in found if is_alive(child)]
