"""A live stream and a replay of the same events: one engine, the same vectors and decisions."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import mean
from typing import Any
from zlib import crc32

import orjson
import pyarrow.parquet as pq
import pytest
import redis

from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import PREFIX
from consumer.features.specification import parse_plan
from consumer.local.resources import Resources, prepare, session
from consumer.local.stack import Stack
from consumer.model import Position
from consumer.row import build_row
from consumer.settings import SHIPPED
from tests.e2e.worker_process import write_models
from tests.multilang import Delivered, MultilangDriver
from tests.replaying import FEATURES, Event, Replayer, generate, write_history

pytestmark = pytest.mark.timeout(240)
TRANSACTIONS = 1_500
DELIVERY = 200
# What says how an event came, not what it is or what was decided.
_COMING = {
    *("source", "shard_id", "position", "arrival_time", "received_time", "decided_time"),
    *("fraud", "label_time"),
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder) as running:
        prepare(session(running.aws_url), Resources(shards=1))
        running.start_endpoints(write_models(folder, parse_plan(FEATURES, source="features")))
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[redis.Redis]:
    client = connect(stack.redis_url, connect_timeout_s=2, timeout_s=10)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def replayer(stack: Stack, tmp_path: Path) -> Replayer:
    slow = {
        "FRAUDSTREAM_SCORING__DEADLINE_MS": "20000",
        "FRAUDSTREAM_SCORING__CONNECT_TIMEOUT_MS": "5000",
    }
    return Replayer(tmp_path, {**stack.environment(), **slow})


def recent_events() -> list[Event]:
    """As old as live traffic may be, which is decided for two days; labels after three hours."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=44)
    delay = timedelta(hours=3, milliseconds=300)
    return generate(TRANSACTIONS, start=start, span=timedelta(hours=40), label_delay=delay)


def started(replayer: Replayer, shard: int, stack: ExitStack) -> MultilangDriver:
    """A real worker process that has taken up a shard."""
    run_dir = replayer.folder / f"run-{shard}"
    environment = {**replayer.environment, "FRAUDSTREAM_SUPERVISOR__RUN_DIR": str(run_dir)}
    config = str(SHIPPED / "fraudstream.yaml")
    words = [*replayer.interpreter, "process", "--config", config]
    log = replayer.folder / f"worker-{shard}.log"
    driver = stack.enter_context(MultilangDriver.start(words, environment, log))
    driver.initialize(f"shardId-{shard:012}")
    return driver


def delivered(events: Sequence[tuple[int, Event]]) -> list[list[Delivered]]:
    """*events* with their ordinals as deliveries; a label is the last of its delivery."""
    deliveries: list[list[Delivered]] = [[]]
    for ordinal, event in events:
        arrival_ms = int(event.time.timestamp() * 1000) + 40
        deliveries[-1].append(Delivered(event.data, Position(ordinal + 1), arrival_ms))
        # A worker counts labels behind the transactions of their chunk.
        if not event.is_transaction or len(deliveries[-1]) == DELIVERY:
            deliveries.append([])
    return [each for each in deliveries if each]


def live_rows(client: redis.Redis) -> dict[str, dict[str, Any]]:
    """The rows that Firehose gets of the stored documents."""
    rows = (
        orjson.loads(build_row(command(client, "JSON.GET", key)))
        for key in client.scan_iter(f"{PREFIX}*", count=1_000)
    )
    return {row["transaction_id"]: row for row in rows}


def replayed_rows(replayer: Replayer, events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    history = write_history(replayer.folder / "history.ndjson", events)
    summary = replayer.run(history, "--to", "engine", "decisions.parquet", "--scratch")
    assert "degraded" not in summary["counts"]
    rows = pq.read_table(replayer.folder / "decisions.parquet").to_pylist()
    return {row["transaction_id"]: row for row in rows}


def told(row: Mapping[str, Any]) -> dict[str, Any]:
    """What *row* says of the transaction and its decision, times as text."""
    fields = {name: value for name, value in row.items() if name not in _COMING}
    moment = fields["event_time"]
    if isinstance(moment, datetime):
        fields["event_time"] = moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment:%f}"[:3]
    return fields


def test_one_shard_and_a_replay_agree_in_every_field(
    replayer: Replayer, client: redis.Redis
) -> None:
    events = recent_events()
    with ExitStack() as stack:
        driver = started(replayer, 0, stack)
        for delivery in delivered(list(enumerate(events))):
            driver.deliver(delivery)
        driver.request_shutdown()
        assert driver.stop() == 0
    live = live_rows(client)
    replayed = replayed_rows(replayer, events)
    assert live.keys() == replayed.keys()
    assert len(live) == TRANSACTIONS
    for name, row in live.items():
        assert told(row) == told(replayed[name])
    decisions = {row["decision"] for row in live.values()}
    assert len(decisions) > 1, "the test would not see another decision"
    assert any(row["f_merchant_frauds_7d"] for row in live.values())
    labels = {row["transaction_id"]: row["fraud"] for row in replayed.values()}
    assert {True, False, None} == set(labels.values())


def test_four_shards_and_a_replay_agree_on_cards_and_nearly_on_merchants(
    replayer: Replayer, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    events = recent_events()
    shards: list[list[tuple[int, Event]]] = [[], [], [], []]
    for ordinal, event in enumerate(events):
        fields = orjson.loads(event.data)
        card = fields["card_id"] if event.is_transaction else fields["keys"]["card_id"]
        shards[crc32(card.encode()) % 4].append((ordinal, event))
    with ExitStack() as stack:
        drivers = [started(replayer, number, stack) for number in range(4)]
        # One after the other reads what came in the same ten minutes, so shards are apart.
        for end in range(0, 40 * 60 + 4 * 60, 10):
            for number, driver in enumerate(drivers):
                limit = events[0].time + timedelta(minutes=end)
                due = [each for each in shards[number] if each[1].time < limit]
                shards[number] = shards[number][len(due) :]
                for delivery in delivered(due):
                    driver.deliver(delivery)
        assert shards == [[], [], [], []]
        for driver in drivers:
            driver.request_shutdown()
            assert driver.stop() == 0
    live = live_rows(client)
    replayed = replayed_rows(replayer, events)
    assert live.keys() == replayed.keys()
    features = [name for name in next(iter(live.values())) if name.startswith("f_")]
    off: dict[str, list[float]] = {name: [] for name in features}
    for name, row in live.items():
        for feature in features:
            if row[feature] != replayed[name][feature]:
                off[feature].append(abs(row[feature] - replayed[name][feature]))
    cards = [name for name in features if not name.startswith("f_merchant")]
    assert not any(off[name] for name in cards)
    different = sum(row["decision"] != replayed[name]["decision"] for name, row in live.items())
    told_of = [
        f"{name}: {len(sizes) / len(live):.1%} differ, by {mean(sizes):.2f} on average, "
        f"at most {max(sizes):g}"
        for name, sizes in off.items()
        if sizes
    ]
    told_of.append(f"decisions: {different / len(live):.1%} differ")
    with capsys.disabled():
        sys.stdout.write("\n" + "\n".join(told_of) + "\n")
    assert any(off.values()), "four shards that are never apart are not tested"
    assert all(len(sizes) < len(live) / 2 for sizes in off.values())
