"""
Decisions over REST: how many a second, and how long each takes at 300 a second.

Every request is signed, as clients have to; signing is done beforehand, since it is the client's
own work. One request carries one transaction. Everything is on this machine: the service, Redis
with modules, the model endpoints with real models, Firehose, and the client.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.benchmarks.feed import Feed
from tests.benchmarks.measured import Measured, median_of, quantile
from tests.benchmarks.models import small_models
from tests.benchmarks.processes import cpu_s
from tests.benchmarks.rig import Rig, running_rig
from tests.rest_service import Service, running_service
from tests.signing import sign

_CONNECTIONS = 64
_RUNS = 3
_REQUESTS = 3_000
_RATE = 300
_SECONDS = 20
_WARM_UP = 1_000
_PATH = "/v1/predictions"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def measure(directory: Path) -> dict[str, Measured]:
    """Run as many as can be, three times, then 300 a second for twenty seconds."""
    models = small_models(directory.parent / "models")
    total = _WARM_UP + _RUNS * _REQUESTS + _RATE * _SECONDS
    feed = Feed(total)
    with running_rig(directory, models=models.archives, environment=models.environment) as rig:
        rig.warm(feed.history())
        with running_service(directory / "serve", _variables(rig)) as service:
            bodies = [event.data for event in feed.take(total)]
            uvloop.run(_closed(service.port, _requests(service, bodies[:_WARM_UP])))
            rates, cpu = [], []
            for run in range(_RUNS):
                start = _WARM_UP + run * _REQUESTS
                requests = _requests(service, bodies[start : start + _REQUESTS])
                before_s, started_s = cpu_s(service.process.pid), time.perf_counter()
                uvloop.run(_closed(service.port, requests))
                rates.append(_REQUESTS / (time.perf_counter() - started_s))
                cpu.append((cpu_s(service.process.pid) - before_s) / _REQUESTS * 1e6)
            last = _requests(service, bodies[_WARM_UP + _RUNS * _REQUESTS :])
            taken = sorted(uvloop.run(_open(service.port, last)))
            degraded = _count_degraded(service)
    return {
        "rest_throughput": median_of(rates),
        "rest_cpu": median_of(cpu),
        "rest_p50": Measured(quantile(taken, 0.5), len(taken)),
        "rest_p99": Measured(quantile(taken, 0.99), len(taken)),
        "rest_p999": Measured(quantile(taken, 0.999), len(taken)),
        "rest_degraded": Measured(degraded, total),
    }


def _variables(rig: Rig) -> dict[str, str]:
    head = "FRAUDSTREAM_"
    given = {
        name.removeprefix(head): value
        for name, value in rig.environment.items()
        if name.startswith(head) and not name.endswith("RUN_DIR")
    }
    # Nothing is to be shed while it is measured how much can be done.
    return given | {
        "SCORING__DEADLINE_MS": "250",
        "SCORING__CONNECT_TIMEOUT_MS": "100",
        "API__TIMEOUT_MS": "2000",
        "API__MAX_WAIT_MS": "2000",
        "API__REDIS_TIMEOUT_MS": "500",
    }


def _requests(service: Service, bodies: Sequence[bytes]) -> list[bytes]:
    """Whole requests, signed now, which is good for five minutes."""
    found = []
    for body in bodies:
        headers = sign(
            "POST",
            service.url + _PATH,
            body,
            region="us-east-1",
            headers={"Content-Type": "application/json"},
        )
        lines = [f"POST {_PATH} HTTP/1.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        found.append("\r\n".join([*lines, "", ""]).encode() + body)
    return found


@dataclass(eq=False)
class _Line(asyncio.Protocol):
    """One connection that has one request under way at most."""

    transport: asyncio.Transport | None = None
    answer: "asyncio.Future[None] | None" = None
    received: bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.received += data
        end = self.received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self.received, 0, end)
        if length is None or len(self.received) < end + 4 + int(length[1]):
            return
        answer, status = self.answer, self.received[9:12]
        self.received = b""
        assert answer is not None
        if status == b"200":
            answer.set_result(None)
        else:
            answer.set_exception(RuntimeError(f"answered with {status.decode()}"))

    async def ask(self, request: bytes) -> None:
        """Send *request* and wait for its answer. Raises RuntimeError for another than 200."""
        assert self.transport is not None
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self.answer


async def _lines(port: int, count: int) -> deque[_Line]:
    loop = asyncio.get_running_loop()
    return deque(
        [(await loop.create_connection(_Line, "127.0.0.1", port))[1] for _ in range(count)]
    )


async def _closed(port: int, requests: Sequence[bytes]) -> None:
    """Send *requests*, each connection its next one as soon as it has an answer."""
    waiting = deque(requests)
    lines = await _lines(port, _CONNECTIONS)

    async def work(line: _Line) -> None:
        while waiting:
            await line.ask(waiting.popleft())

    await asyncio.gather(*map(work, lines))
    _close(lines)


async def _open(port: int, requests: Sequence[bytes]) -> list[float]:
    """Send each request when it is due, whatever became of others; milliseconds since then."""
    lines = await _lines(port, 4 * _CONNECTIONS)
    everyone = list(lines)
    taken: list[float] = []
    tasks = []
    start_s = time.perf_counter() + 0.5

    async def ask(request: bytes, due_s: float) -> None:
        line = lines.popleft()
        await line.ask(request)
        taken.append((time.perf_counter() - due_s) * 1000)
        lines.append(line)

    for number, request in enumerate(requests):
        due_s = start_s + number / _RATE
        await asyncio.sleep(due_s - time.perf_counter())
        tasks.append(asyncio.create_task(ask(request, due_s)))
    await asyncio.gather(*tasks)
    _close(everyone)
    return taken


def _close(lines: Sequence[_Line] | deque[_Line]) -> None:
    for line in lines:
        assert line.transport is not None
        line.transport.close()


def _count_degraded(service: Service) -> int:
    """Decisions without a score, as the service counts them."""
    text = service.get("/metrics", signed=False).body.decode()
    found = re.findall(r"^fraudstream_degraded_total\{.*\} ([0-9.e+]+)$", text, re.MULTILINE)
    return int(sum(map(float, found)))
