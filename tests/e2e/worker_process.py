"""One worker process over real Redis, embedded AWS and real models, and what it leaves there."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import redis
import xgboost

from consumer.adapters.redis.connection import command
from consumer.adapters.redis.documents import PREFIX
from consumer.adapters.redis.features import RedisFeatureStore
from consumer.features.plan import Plan, Windowed
from consumer.heartbeat import WorkerState, read_heartbeats
from consumer.local.findings import build_oracle, check_features, read_lines
from consumer.local.oracle import Event
from consumer.local.resources import Resources
from consumer.local.stack import Stack
from consumer.model import Position
from consumer.settings import SHIPPED, Settings
from consumer.training.artefacts import write_anomaly, write_fraud
from consumer.training.forest import grow
from tests.builders import SHARD
from tests.e2e.kcl_daemon import eventually
from tests.multilang import Delivered, MultilangDriver

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[2]
SETTINGS = Settings()
RESOURCES = Resources(shards=1)
LETTERS = SETTINGS.dead_letters.bucket
# No checkpoint between deliveries: what a test then sees comes from the end of the shard.
NEVER_S = "86400"
_HOURS_BACK = 72


def write_models(folder: Path, plan: Plan) -> dict[str, Path]:
    """Two small real models on the features of *plan*, trained on random rows."""
    rows = np.random.default_rng(5).lognormal(2, 1, size=(400, len(plan.names)))
    fraud = rows[:, 0] > np.quantile(rows[:, 0], 0.8)
    parameters = {"objective": "binary:logistic", "seed": 3, "nthread": 1}
    booster = xgboost.train(parameters, xgboost.DMatrix(rows, fraud), num_boost_round=5)
    forest = grow(rows, seed=3, trees=20, tree_size=64)
    write_fraud(folder / "fraud.tar.gz", booster, plan.names, plan.hash, {})
    write_anomaly(folder / "anomaly.tar.gz", forest, plan.names, plan.hash, {})
    return {
        "fraudstream-fraud": folder / "fraud.tar.gz",
        "fraudstream-anomaly": folder / "anomaly.tar.gz",
    }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a redelivery must not change, byte by byte."""

    documents: Mapping[str, bytes]
    states: Mapping[str, bytes]
    letters: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Shard:
    """
    A shard with a worker, its events and its traces apart from those of other tests.

    *name* begins every id, and is the prefix of the dead letters.
    """

    stack: Stack
    s3: "S3Client"
    redis: redis.Redis
    folder: Path
    name: str

    @property
    def run_dir(self) -> Path:
        return self.folder / "run"

    @property
    def log_path(self) -> Path:
        return self.folder / "worker.log"

    @contextmanager
    def worker(self, **variables: str) -> Iterator[MultilangDriver]:
        """A worker that has taken up the shard; *variables* are FRAUDSTREAM_ ones without it."""
        with self.uninitialized_worker(**variables) as driver:
            driver.initialize(SHARD)
            yield driver

    @contextmanager
    def uninitialized_worker(self, **variables: str) -> Iterator[MultilangDriver]:
        """A worker process as the KCL starts it, before its first message."""
        given = {
            "SUPERVISOR__RUN_DIR": str(self.run_dir),
            "DEAD_LETTERS__PREFIX": f"{self.name}/",
            # A loaded machine must not degrade what a test wants scored.
            "SCORING__DEADLINE_MS": "20000",
            "SCORING__CONNECT_TIMEOUT_MS": "5000",
            **variables,
        }
        environment = {
            **os.environ,
            **self.stack.environment(),
            "PYTHONPATH": str(ROOT),
            **{f"FRAUDSTREAM_{name}": value for name, value in given.items()},
        }
        config = str(SHIPPED / "fraudstream.yaml")
        arguments = [sys.executable, "-m", "consumer", "process", "--config", config]
        with MultilangDriver.start(arguments, environment, self.log_path) as driver:
            yield driver

    def records(self, *events: bytes) -> list[Delivered]:
        """*events* as one delivery from the beginning of the shard, arrived just now."""
        now_ms = time.time_ns() // 1_000_000
        return [
            Delivered(event, Position(number), now_ms) for number, event in enumerate(events, 1)
        ]

    def transaction(self, number: int, **changes: object) -> bytes:
        """The event of transaction *number*, a minute after the one before it."""
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=_HOURS_BACK)
        event: dict[str, object] = {
            "type": "transaction",
            "transaction_id": self.id(number),
            "event_time": start + timedelta(minutes=number),
            "card_id": f"{self.name}-card-{number % 7}",
            "merchant_id": f"{self.name}-merchant-{number % 3}",
            "amount": str(self.amount(number)),
            "currency": "EUR",
        }
        return orjson.dumps(event | changes)

    def label(self, number: int, *, label: str, hours_ago: int) -> bytes:
        """What became known of transaction *number*."""
        return orjson.dumps(
            {
                "type": "label",
                "transaction_id": self.id(number),
                "label": label,
                "label_time": datetime.now(UTC) - timedelta(hours=hours_ago),
                "source": "chargeback",
            }
        )

    def id(self, number: int) -> str:
        return f"{self.name}-{number}"

    def amount(self, number: int) -> float:
        """No other transaction's amount; the first value of its feature vector."""
        return number + 1.25

    def documents(self) -> dict[str, dict[str, Any]]:
        """Decision documents by transaction id."""
        return {name: orjson.loads(body) for name, body in self.snapshot().documents.items()}

    def is_decided(self, number: int) -> bool:
        return bool(self.redis.exists(PREFIX + self.id(number)))

    def rows(self) -> list[dict[str, Any]]:
        """What Firehose delivered of this shard's transactions, repeats too."""
        lines = read_lines(self.s3, RESOURCES.delivery_bucket, RESOURCES.delivery_prefix)
        return [row for row in lines if str(row["transaction_id"]).startswith(f"{self.name}-")]

    def letters(self) -> list[dict[str, Any]]:
        """Dead letters by id."""
        lines = read_lines(self.s3, LETTERS, f"{self.name}/")
        return sorted(lines, key=lambda letter: str(letter["id"]))

    def snapshot(self) -> Snapshot:
        objects = self.s3.list_objects_v2(Bucket=LETTERS, Prefix=f"{self.name}/")
        return Snapshot(
            documents={
                key.removeprefix(PREFIX): command(self.redis, "JSON.GET", key)
                for key in self._keys(f"{PREFIX}{self.name}-*")
            },
            states={key: self.redis.dump(key) or b"" for key in self._keys(f"f:{{*:{self.name}-*")},
            letters={
                entry["Key"]: self.s3.get_object(Bucket=LETTERS, Key=entry["Key"])["Body"].read()
                for entry in objects.get("Contents", [])
            },
        )

    def heartbeats(self) -> list[WorkerState]:
        """The workers that did not leave in good order, and those that still run."""
        return read_heartbeats(self.run_dir)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The worker's log lines that say *event*; every line must be one of JSON."""
        lines: Iterable[dict[str, Any]] = map(orjson.loads, self.log_path.read_bytes().splitlines())
        return [line for line in lines if line["event"] == event]

    def _keys(self, pattern: str) -> list[str]:
        return sorted(key.decode() for key in self.redis.scan_iter(match=pattern, count=1_000))


def await_checkpoint(driver: MultilangDriver, position: Position) -> None:
    await_idle(driver, lambda: driver.checkpoints[-1:] == [position])
    assert len(driver.checkpoints) == len(set(driver.checkpoints)), "one came twice"


def await_idle(driver: MultilangDriver, condition: Callable[[], bool]) -> None:
    """Deliver nothing, as the KCL does on an idle shard, until *condition* holds."""

    def is_met() -> bool:
        driver.deliver([])
        return condition()

    eventually(is_met, "what an idle shard still does")


@contextmanager
def delivering(driver: MultilangDriver, records: Sequence[Delivered]) -> Iterator[threading.Event]:
    """
    Send *records* while the block runs; the event says that the worker is done with them.

    A worker that leaves instead is for the block to explain.
    """
    done = threading.Event()

    def deliver() -> None:
        try:
            driver.deliver(records)
        except EOFError:
            return
        done.set()

    thread = threading.Thread(target=deliver)
    thread.start()
    try:
        yield done
    finally:
        thread.join()


def kill(driver: MultilangDriver) -> None:
    driver.process.kill()
    driver.process.wait()


def as_observed(event: bytes) -> Event:
    """What the oracle is told of a transaction."""
    fields = orjson.loads(event)
    return Event(
        fields["transaction_id"],
        int(datetime.fromisoformat(fields["event_time"]).timestamp()),
        int(Decimal(fields["amount"]) * 100),
        {"card_id": fields["card_id"], "merchant_id": fields["merchant_id"]},
    )


def assert_each_decided_and_counted_once(shard: Shard, plan: Plan, events: list[bytes]) -> None:
    """One document an event, on the very features that the oracle counts, and rows that agree."""
    documents = shard.documents()
    assert len(documents) == len(events)
    assert_every_row_agrees(shard)
    horizon_s = SETTINGS.features.id_horizon_s
    oracle = build_oracle(plan, horizon_s, [])
    windowed = [feature.name for feature in plan.features if isinstance(feature, Windowed)]
    for event in events:
        observed = as_observed(event)
        expected, _ = oracle.observe(observed)
        found = documents[observed.transaction_id]["features"]
        assert {name: found[name] for name in windowed} == expected
    store = RedisFeatureStore(shard.redis, plan, id_horizon_s=horizon_s)
    state = check_features(store, plan, oracle, sampled=100, hottest=5, seed=1)
    assert state.checked > 0
    assert state.wrong == 0, state.examples


def assert_every_row_agrees(shard: Shard) -> None:
    """Rows may repeat, but every one is its document's, and none is missing."""
    documents = shard.documents()
    contents: dict[str, set[bytes]] = {}
    for row in shard.rows():
        contents.setdefault(row["transaction_id"], set()).add(orjson.dumps(row))
    assert contents.keys() == documents.keys()
    for name, versions in contents.items():
        assert len(versions) == 1, f"the rows of {name} differ"
        (row,) = map(orjson.loads, versions)
        assert row["prediction_id"] == documents[name]["prediction_id"]
        assert row["decision"] == documents[name]["decision"]["outcome"]
