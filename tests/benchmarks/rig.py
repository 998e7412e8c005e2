"""
The bench: a real Redis with modules, stubs beside it, and the real worker process.

Whatever ends the benchmark ends everything here: the servers go with the thread
that started them, and a worker leaves when its standard input closes.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import redis

from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.configuration import load
from consumer.decode import DecodeRules, decode
from consumer.features.plan import Plan
from consumer.features.specification import load_plan
from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.local.redis_server import RedisServer
from consumer.local.resources import ACCESS_KEY, REGION
from consumer.local.simulator.events import Event
from consumer.model import Transaction
from consumer.outside import build_stores
from consumer.ports import Observe
from consumer.settings import SHIPPED, Settings
from tests.benchmarks.feed import SHARD
from tests.multilang import MultilangDriver

CONFIG = SHIPPED / "fraudstream.yaml"
WORKER = (sys.executable, "-m", "consumer", "process", "--config", str(CONFIG))
_STUB = "tests.benchmarks.stub"
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Rig:
    """A running bench. ``parts`` are the processes beside Redis: endpoints and Firehose."""

    directory: Path
    redis_pid: int
    client: redis.Redis
    settings: Settings
    plan: Plan
    store: RedisFeatureStore
    parts: tuple[Part, ...]
    environment: Mapping[str, str]

    @property
    def endpoints_url(self) -> str:
        """Address of SageMaker Runtime."""
        return self.parts[0].url

    @property
    def firehose_url(self) -> str:
        """Address of Firehose."""
        return self.parts[1].url

    def warm(self, history: Iterable[Event]) -> None:
        """Apply *history* to the entities, so that their state is not that of a first day."""
        rules = DecodeRules.of(self.settings.events)
        remaining = iter(history)
        while chunk := list(islice(remaining, _CHUNK)):
            decoded = (decode(event.data, rules) for event in chunk)
            self.store.observe(
                [
                    Observe(each, int(each.event_time.timestamp()))
                    for each in decoded
                    if isinstance(each, Transaction)
                ]
            )

    @contextmanager
    def worker(self, command: Sequence[str] = WORKER) -> Iterator[MultilangDriver]:
        """
        Run *command* as the worker of one shard; it has to drain and leave with 0.

        Raises RuntimeError when it leaves otherwise, with the name of its log.
        """
        log = self.directory / "worker.log"
        driver = MultilangDriver.start(command, self.environment, log)
        try:
            driver.initialize(SHARD)
            yield driver
            driver.request_shutdown()
            code = driver.stop()
            if code != 0:
                message = f"the worker left with {code}; its log is {log}"
                raise RuntimeError(message)
        finally:
            if driver.process.poll() is None:
                driver.process.kill()
                driver.process.wait()


@contextmanager
def running_rig(
    directory: Path,
    *,
    models: Mapping[str, Path] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Rig]:
    """
    Start a bench that logs into *directory*.

    *models* (endpoint name → archive) are served by the real endpoint server
    instead of the stub; *environment* are settings on top.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(directory=directory))
        assert server.pid is not None
        endpoints = _part("endpoints", _endpoints_command(models), directory, stack)
        firehose = _part("firehose", [_STUB], directory, stack)
        variables = {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
            "FRAUDSTREAM_AWS__REGION": REGION,
            "FRAUDSTREAM_AWS__ENDPOINT_URL": firehose.url,
            "FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL": endpoints.url,
            "FRAUDSTREAM_REDIS__URL": server.url,
            "FRAUDSTREAM_SUPERVISOR__RUN_DIR": str(directory / "run"),
            **(environment or {}),
        }
        settings = load(CONFIG, variables).settings
        plan = load_plan(settings.features.path, settings.events.base_currency)
        stores = build_stores(settings, plan, stack)
        client = stack.enter_context(
            closing(connect(server.url, connect_timeout_s=5, timeout_s=30))
        )
        yield Rig(
            directory=directory,
            redis_pid=server.pid,
            client=client,
            settings=settings,
            plan=plan,
            store=stores.features,
            parts=(endpoints, firehose),
            environment=_worker_environment(variables, directory),
        )


def _endpoints_command(models: Mapping[str, Path] | None) -> list[str]:
    if models is None:
        return [_STUB]
    command = ["consumer.local.endpoints"]
    for name, archive in models.items():
        command += ["--model", f"{name}={archive}"]
    return command


def _part(name: str, command: Sequence[str], directory: Path, stack: ExitStack) -> Part:
    part = Part(name, command, listen(0, name), directory=directory)
    stack.callback(part.stop)
    part.await_ready("/ping")
    return part


def _worker_environment(variables: Mapping[str, str], directory: Path) -> dict[str, str]:
    """What the supervisor would start a worker with: metric files, and no stray settings."""
    metrics = directory / "metrics"
    metrics.mkdir(exist_ok=True)
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("FRAUDSTREAM_")
    }
    return {**inherited, **variables, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
