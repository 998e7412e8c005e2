"""What a replay leaves on a live system: in the stream, in Redis, in Firehose's files."""

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pyarrow.parquet as pq
import pytest
import redis

from consumer.adapters.redis.connection import command, connect
from consumer.adapters.redis.documents import PREFIX
from consumer.adapters.redis.warmth import KEY as WARMTH
from consumer.features.specification import parse_plan
from consumer.features.warmth import decode_record, full_from, needs_of
from consumer.local.findings import read_lines
from consumer.local.resources import Resources, prepare, session
from consumer.local.stack import Stack
from tests.e2e.worker_process import write_models
from tests.replaying import FEATURES, START, Event, Replayer, generate, write_history

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client

pytestmark = [
    pytest.mark.skipif(
        (platform.system(), platform.machine()) != ("Linux", "x86_64"),
        reason="the embedded Redis exists for Linux x86-64 only",
    ),
    pytest.mark.timeout(240),
]
PLAN = parse_plan(FEATURES, source="features")
RESOURCES = Resources(shards=2)
EVENTS = generate(1_200)
TRANSACTIONS = [event for event in EVENTS if event.is_transaction]
LABELS = [event for event in EVENTS if not event.is_transaction]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    with Stack(folder) as running:
        prepare(session(running.aws_url), RESOURCES)
        running.start_endpoints(write_models(folder, PLAN))
        yield running


@pytest.fixture
def client(stack: Stack) -> Iterator[redis.Redis]:
    client = connect(stack.redis_url, connect_timeout_s=2, timeout_s=10)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def s3(stack: Stack) -> Iterator["S3Client"]:
    made: S3Client = session(stack.aws_url).client("s3")
    yield made
    made.close()


@pytest.fixture
def replayer(stack: Stack, tmp_path: Path) -> Replayer:
    return Replayer(tmp_path, stack.environment())


def entity_state(client: redis.Redis) -> dict[bytes, bytes]:
    """Every key of features, byte by byte, and since when they are full."""
    keys = list(client.scan_iter("f:*", count=1_000))
    return {key: client.dump(key) or b"" for key in [*keys, WARMTH.encode()]}


def documents(client: redis.Redis) -> dict[bytes, bytes]:
    keys = client.scan_iter(f"{PREFIX}*", count=1_000)
    return {key: command(client, "JSON.GET", key) for key in keys}


def test_backfilling_twice_changes_nothing_however_old_the_events_are(
    replayer: Replayer, client: redis.Redis
) -> None:
    history = write_history(replayer.folder / "history.ndjson", EVENTS)
    first = replayer.run(history, "--to", "features")
    assert first["counts"]["applied"] == len(TRANSACTIONS)
    assert first["counts"]["labels"] == len(LABELS)
    before = entity_state(client)
    # From another folder, so that no state of a replay is in the way.
    second = replayer.run(history, "--to", "features", "--state", "again.json")
    assert "applied" not in second["counts"]
    assert second["counts"]["late_dropped"] > 0
    assert second["counts"]["repeated"] > 0
    assert entity_state(client) == before


@pytest.mark.usefixtures("client")
def test_what_a_backfill_leaves_out_stays_to_be_looked_at(replayer: Replayer) -> None:
    history = write_history(replayer.folder / "history.ndjson", EVENTS)
    event = orjson.loads(TRANSACTIONS[0].data)
    bad = [event | {"event_time": "soon"}, event | {"transaction_id": "x", "currency": "XXY"}]
    with history.open("ab") as file:
        file.writelines(orjson.dumps(each) + b"\n" for each in bad)
    summary = replayer.run(history, "--to", "features")
    for name, words in (("unmapped", "soon"), ("rejected", "XXY")):
        assert summary["counts"][name] == 1
        (line,) = (replayer.folder / summary["left_out"][name]).read_text().splitlines()
        assert words in line


def test_features_are_full_after_a_backfill_that_reaches_back(
    replayer: Replayer, client: redis.Redis
) -> None:
    replayer.run(write_history(replayer.folder / "history.ndjson", EVENTS), "--to", "features")
    stored = client.get(WARMTH)
    assert isinstance(stored, bytes)
    until_s = full_from(needs_of(PLAN), decode_record(stored))
    assert until_s.keys() >= {"card_count_7d", "merchant_frauds_7d"}
    assert max(until_s.values()) < EVENTS[-1].time.timestamp()


def test_deciding_twice_changes_nothing(
    replayer: Replayer, client: redis.Redis, s3: "S3Client"
) -> None:
    history = write_history(replayer.folder / "history.ndjson", EVENTS)
    first = replayer.run(history, "--to", "engine")
    assert first["counts"]["decided"] == len(TRANSACTIONS)
    before = entity_state(client), documents(client)
    labelled = [orjson.loads(each) for each in before[1].values()]
    assert sum("label" in each for each in labelled) == len(LABELS)
    rows = _rows(s3)
    second = replayer.run(history, "--to", "engine", "--restart")
    assert second["counts"]["existing"] == len(TRANSACTIONS)
    assert (entity_state(client), documents(client)) == before
    assert _rows(s3) == rows
    assert len(rows) == len(TRANSACTIONS)

    changed = orjson.loads(TRANSACTIONS[0].data) | {"amount": "1.23"}
    other = Event(TRANSACTIONS[0].time, orjson.dumps(changed), is_transaction=True)
    third = replayer.run(write_history(replayer.folder / "other.ndjson", [other]), "--to", "engine")
    assert third["counts"]["conflict"] == 1
    assert documents(client) == before[1]
    letters = read_lines(s3, RESOURCES.buckets[0], "dead-letters/")
    assert [letter["error"] for letter in letters] == ["conflict"]


def _rows(s3: "S3Client") -> set[bytes]:
    """What Firehose delivered: rows may come again, but not with another content."""
    lines = read_lines(s3, RESOURCES.delivery_bucket, RESOURCES.delivery_prefix)
    return {orjson.dumps(row) for row in lines}


def test_entity_state_is_rebuilt_from_what_firehose_delivered(
    replayer: Replayer, client: redis.Redis, s3: "S3Client"
) -> None:
    cut = len(EVENTS) * 2 // 3
    before, after = EVENTS[:cut], EVENTS[cut:]
    bucket, prefix = RESOURCES.delivery_bucket, RESOURCES.delivery_prefix
    for entry in s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=entry["Key"])
    replayer.run(write_history(replayer.folder / "before.ndjson", before), "--to", "engine")
    client.flushall()

    labels = write_history(
        replayer.folder / "labels.ndjson", [each for each in before if not each.is_transaction]
    )
    rebuilt = replayer.run(f"s3://{bucket}/{prefix}", "--labels", labels, "--to", "features")
    assert rebuilt["counts"]["applied"] == sum(each.is_transaction for each in before)
    following = write_history(replayer.folder / "after.ndjson", after)
    replayer.run(following, "--to", "dataset", "rebuilt.parquet")

    whole = write_history(replayer.folder / "whole.ndjson", EVENTS)
    replayer.run(whole, "--to", "dataset", "whole.parquet", "--scratch")
    assert _vectors(replayer, "rebuilt.parquet", after) == _vectors(
        replayer, "whole.parquet", after
    )


def _vectors(replayer: Replayer, name: str, events: list[Event]) -> dict[str, dict[str, float]]:
    """The features of *events* in the data set *name*."""
    wanted = {orjson.loads(each.data)["transaction_id"] for each in events if each.is_transaction}
    rows = pq.read_table(replayer.folder / name).to_pylist()
    found = {
        row["transaction_id"]: {name: row[name] for name in row if name.startswith("f_")}
        for row in rows
        if row["transaction_id"] in wanted
    }
    assert found.keys() == wanted
    return found


def test_the_stream_gets_each_card_in_order_in_one_shard(replayer: Replayer, stack: Stack) -> None:
    kinesis: KinesisClient = session(stack.aws_url).client("kinesis")
    shards = kinesis.list_shards(StreamName=RESOURCES.stream)["Shards"]
    iterators = [
        kinesis.get_shard_iterator(
            StreamName=RESOURCES.stream, ShardId=shard["ShardId"], ShardIteratorType="LATEST"
        )["ShardIterator"]
        for shard in shards
    ]
    history = write_history(replayer.folder / "history.ndjson", EVENTS)
    state = f"s3://{RESOURCES.delivery_bucket}/replays/state.json"
    summary = replayer.run(history, "--to", "stream", "--state", state)
    assert summary["counts"]["sent"] == len(EVENTS)
    assert replayer.run(history, "--to", "stream", "--state", state, "--resume")["finished"]
    cards: dict[str, list[bytes]] = {}
    for iterator in iterators:
        here: set[str] = set()
        for record in kinesis.get_records(ShardIterator=iterator, Limit=10_000)["Records"]:
            here.add(record["PartitionKey"])
            cards.setdefault(record["PartitionKey"], []).append(record["Data"])
        assert here
    kinesis.close()
    expected: dict[str, list[bytes]] = {}
    for event in EVENTS:
        fields = orjson.loads(event.data)
        card = fields["card_id"] if event.is_transaction else fields["keys"]["card_id"]
        expected.setdefault(card, []).append(event.data)
    assert cards == expected


def test_what_lies_before_the_wanted_time_warms_up_and_is_not_written(
    replayer: Replayer,
) -> None:
    history = write_history(replayer.folder / "history.ndjson", EVENTS)
    replayer.run(history, "--to", "dataset", "whole.parquet", "--scratch")
    day = START.replace(day=8).date().isoformat()
    span = ("--from-time", day, "--to-time", START.replace(day=10).date().isoformat())
    summary = replayer.run(history, "--to", "dataset", "part.parquet", "--scratch", *span)
    whole = pq.read_table(replayer.folder / "whole.parquet").to_pylist()
    expected = [
        row for row in whole if START.replace(day=8) <= row["event_time"] < START.replace(day=10)
    ]
    assert pq.read_table(replayer.folder / "part.parquet").to_pylist() == expected
    assert summary["counts"]["rows"] == len(expected)
    assert summary["counts"]["warm_up"] > len(expected)
