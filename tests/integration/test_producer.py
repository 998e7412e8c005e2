"""Simulated traffic arrives in a real Kinesis API as sent, and its history in S3."""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consumer.errors import Misconfigured, Unavailable
from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.local.resources import Resources, prepare, session
from consumer.local.simulator import command
from consumer.local.simulator.faults import Faults
from consumer.local.simulator.history import place, read_history, write_history
from consumer.local.simulator.ledger import Ledger, LedgerWriter
from consumer.local.simulator.producer import Producer
from consumer.local.simulator.traffic import Scenario, Traffic

if TYPE_CHECKING:
    from mypy_boto3_kinesis import KinesisClient

STREAM = "simulated"
BUCKET = "simulated-history"
SCENARIO = Scenario(
    end_ms=1_795_000_000_000, cards=80, merchants=60, history_days=3, transactions=600
)
FAULTS = Faults(duplicates=0.02, malformed=0.04, late=0.02)


@pytest.fixture(scope="module")
def aws_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    part = Part(
        "aws",
        ["consumer.local.aws"],
        listen(0, "aws"),
        directory=tmp_path_factory.mktemp("aws"),
    )
    try:
        part.await_ready("/")
        prepare(session(part.url), Resources(stream=STREAM, shards=2, buckets=(BUCKET,)))
        yield part.url
    finally:
        part.stop()


@pytest.fixture
def kinesis(aws_url: str) -> Iterator["KinesisClient"]:
    client: KinesisClient = session(aws_url).client("kinesis")
    yield client
    client.close()


def records(kinesis: "KinesisClient", stream: str) -> dict[tuple[str, str], tuple[str, bytes]]:
    """Everything in *stream*: shard and sequence number → partition key and data."""
    found = {}
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while answer := kinesis.get_records(ShardIterator=iterator, Limit=10_000):
            if not answer["Records"]:
                break
            for record in answer["Records"]:
                place = (shard["ShardId"], record["SequenceNumber"])
                found[place] = (record["PartitionKey"], record["Data"])
            iterator = answer["NextShardIterator"]
    return found


def test_the_ledger_matches_the_stream_record_by_record(
    kinesis: "KinesisClient", tmp_path: Path
) -> None:
    events = list(Traffic(SCENARIO).live(FAULTS))
    path = tmp_path / "ledger.ndjson"
    with LedgerWriter(path) as writer:
        summary = Producer(kinesis, STREAM, writer).send(events)
    ledger = Ledger.read(path)
    found = records(kinesis, STREAM)
    assert summary.sent == ledger.sent == len(events) == len(found)
    assert (ledger.unique, ledger.duplicates, ledger.malformed, ledger.uncertain) == (
        600,
        12,
        24,
        0,
    )
    for event, entry in zip(events, ledger.entries, strict=True):
        assert found[entry.shard_id, entry.sequence_number] == (event.partition_key, event.data)
        assert entry.transaction_id == event.transaction_id


def test_a_card_keeps_to_one_shard_in_the_order_sent(
    kinesis: "KinesisClient", tmp_path: Path
) -> None:
    kinesis.create_stream(StreamName="ordered", ShardCount=2)
    kinesis.get_waiter("stream_exists").wait(StreamName="ordered", WaiterConfig={"Delay": 1})
    with LedgerWriter(tmp_path / "ledger") as writer:
        Producer(kinesis, "ordered", writer).send(Traffic(SCENARIO).live())
    shards = Counter()  # type: Counter[str]
    last: dict[str, tuple[str, int]] = {}
    for entry in Ledger.read(tmp_path / "ledger").entries:
        shard, number = last.get(entry.card_id, (entry.shard_id, -1))
        assert shard == entry.shard_id
        assert number < int(entry.sequence_number)
        last[entry.card_id] = (shard, int(entry.sequence_number))
        shards[shard] += 1
    assert len(shards) == 2


def test_a_missing_stream_is_named(kinesis: "KinesisClient") -> None:
    with pytest.raises(Misconfigured, match="nowhere"):
        Producer(kinesis, "nowhere").send(Traffic(SCENARIO).live())


def test_a_history_in_s3_is_read_back_whole(aws_url: str) -> None:
    traffic = Traffic(SCENARIO)
    target = place(f"s3://{BUCKET}/cards", lambda: session(aws_url).client("s3"))
    total = write_history(traffic.history(), target)
    read = [b for _, bodies in read_history(target, "transactions") for b in bodies]
    labels = [b for _, bodies in read_history(target, "labels") for b in bodies]
    assert len(read) + len(labels) == total
    assert sorted([*read, *labels]) == sorted(
        e.data for _, events in traffic.history() for e in events
    )


def test_a_missing_bucket_is_unavailable(aws_url: str) -> None:
    target = place("s3://no-such-bucket", lambda: session(aws_url).client("s3"))
    with pytest.raises(Unavailable, match="NoSuchBucket"):
        write_history(Traffic(SCENARIO).history(), target)


def test_the_command_writes_a_history_and_sends_the_rest(
    aws_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FRAUDSTREAM_AWS__ENDPOINT_URL", aws_url)
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path)
    command.add_arguments(parser)
    path = tmp_path / "ledger.ndjson"
    words = f"--history s3://{BUCKET}/by-command --stream {STREAM} --ledger {path} --days 2"
    sizes = "--cards 50 --merchants 60 --transactions 300 --rate 2000 --duplicates 0.01"
    assert command.run(parser.parse_args([*words.split(), *sizes.split()])) == 0
    ledger = Ledger.read(path)
    assert (ledger.unique, ledger.duplicates) == (300, 3)
    assert f"sent {ledger.sent} records" in capsys.readouterr().out
    target = place(f"s3://{BUCKET}/by-command", lambda: session(aws_url).client("s3"))
    assert [day for day, _ in read_history(target, "transactions")]
