"""``fraudstream serve`` as a process of its own, and a client that signs."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import orjson

from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.settings import SHIPPED
from tests.signing import KEY, REGION, SECRET, sign

ROOT = Path(__file__).parents[1]
CONFIG = SHIPPED / "fraudstream.yaml"
WAIT_S = 60.0
ACCESS = f"""\
keys:
  - access_key_id: {KEY}
    secret_access_key: {SECRET}
    name: everything
    scopes: [admin]
  - access_key_id: FSREADER0001
    secret_access_key: {SECRET}
    name: reader
    scopes: [read]
"""


def an_event(name: str, **changes: object) -> dict[str, object]:
    """A transaction of now as clients send it."""
    event: dict[str, object] = {
        "type": "transaction",
        "transaction_id": name,
        "event_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "card_id": "card_1",
        "merchant_id": "merchant_1",
        "amount": "12.50",
        "currency": "EUR",
    }
    return event | changes


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        found = orjson.loads(self.body)
        assert isinstance(found, dict)
        return found


def parse_answer(received: bytes) -> Answer:
    """The first answer of what was *received* over a connection."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(first.split(" ")[1]), headers, body)


@dataclass
class Service:
    """A running service."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0
    _lines: threading.local = field(default_factory=threading.local)
    _opened: list[http.client.HTTPConnection] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, **changes: Any) -> Answer:
        return self.send("GET", path, **changes)

    def post(self, path: str, body: object, **changes: Any) -> Answer:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.send("POST", path, data, **changes)

    def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        key: str = KEY,
        signed: bool = True,
    ) -> Answer:
        """Send one request on the connection of this thread."""
        own = {"Content-Type": "application/json"} if body else {}
        own |= headers or {}
        if signed:
            own |= sign(method, self.url + path, body, key=key, headers=own)
        line = self._line()
        try:
            line.request(method, path, body=body or None, headers=own)
            answer = line.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        except (http.client.HTTPException, OSError):
            line.close()
            raise

    def exchange(self, *parts: bytes) -> bytes:
        """Send *parts* as they are, and read until the service closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), WAIT_S) as line:
            for part in parts:
                line.sendall(part)
            received = b""
            # What is refused is not read to its end, and then the line is reset behind the answer.
            with suppress(ConnectionResetError):
                while part := line.recv(65_536):
                    received += part
            return received

    def predict(self, event: Mapping[str, object], query: str = "") -> Answer:
        return self.post(f"/v1/predictions{query}", dict(event))

    def stop(self) -> int:
        """Ask it to drain; return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for line in self._opened:
            line.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _line(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._lines, "line", None)
        if found is None:
            found = self._lines.line = http.client.HTTPConnection("127.0.0.1", self.port, WAIT_S)
            self._opened.append(found)
        return found

    def await_port(self) -> None:
        """Wait until it says where it listens, and answers there."""
        ends_s = time.monotonic() + WAIT_S
        while not self.port and time.monotonic() < ends_s and self.process.poll() is None:
            for line in self.log.read_bytes().splitlines():
                with suppress(orjson.JSONDecodeError):
                    self.port = int(orjson.loads(line).get("port", 0)) or self.port
            time.sleep(0.05)
        if not self.port:
            message = f"it did not start: {self.log.read_text()[-2000:]}"
            raise RuntimeError(message)


def environment_of(variables: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of ours; *variables* are FRAUDSTREAM_ ones without it."""
    return {
        **{name: value for name, value in os.environ.items() if "FRAUDSTREAM_" not in name},
        "PYTHONPATH": str(ROOT),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        **{f"FRAUDSTREAM_{name}": value for name, value in variables.items()},
    }


@contextmanager
def running_service(folder: Path, variables: Mapping[str, str]) -> Iterator[Service]:
    """
    Start ``fraudstream serve`` on a free port; *variables* are FRAUDSTREAM_ ones without it.

    Its log is *folder*/serve.log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    access = folder / "access.yaml"
    access.write_text(ACCESS)
    access.chmod(0o600)
    given = {
        "API__PORT": "0",
        "API__AUTH__ACCESS_FILE": str(access),
        "AWS__REGION": REGION,
        # A loaded machine must not degrade, shed or time out what a test wants answered.
        "SCORING__DEADLINE_MS": "20000",
        "SCORING__CONNECT_TIMEOUT_MS": "5000",
        "API__TIMEOUT_MS": "30000",
        "API__MAX_WAIT_MS": "30000",
        "API__REDIS_TIMEOUT_MS": "10000",
        "LOGS__FORMAT": "json",
        **variables,
    }
    environment = environment_of(given)
    log = folder / "serve.log"
    command = [sys.executable, "-m", "consumer", "serve"]
    command += ["--config", str(CONFIG)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=folder)
    with Service(process, log) as service:
        service.await_port()
        yield service


@contextmanager
def stub_aws(folder: Path) -> Iterator[dict[str, str]]:
    """Endpoints and Firehose that answer at once; the variables that lead there."""
    with ExitStack() as stack:
        urls = []
        for name in ("endpoints", "firehose"):
            part = Part(name, ["tests.benchmarks.stub"], listen(0, name), directory=folder)
            stack.callback(part.stop)
            part.await_ready("/ping")
            urls.append(part.url)
        yield {"AWS__SAGEMAKER_RUNTIME_URL": urls[0], "AWS__ENDPOINT_URL": urls[1]}
