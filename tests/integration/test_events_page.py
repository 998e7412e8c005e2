"""The boto3 lines of docs/events.md put an event that is decoded."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from consumer.adapters.aws import client
from consumer.decode import DecodeRules, decode
from consumer.model import Transaction
from consumer.settings import Aws, Events, Kcl

PAGE = (Path(__file__).parents[2] / "docs" / "events.md").read_text("utf-8")


@pytest.fixture
def aws_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", host)
    yield f"http://{host}:{port}"
    server.stop()


def test_the_lines_for_boto3_put_an_event_that_is_decoded(aws_url: str) -> None:
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    stream = Kcl().stream_name
    kinesis = client(
        "kinesis",
        Aws(endpoint_url=aws_url),
        connect_timeout_s=5,
        read_timeout_s=10,
        max_pool_connections=1,
    )
    kinesis.create_stream(StreamName=stream, ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName=stream)

    subprocess.run(
        [sys.executable, "-c", lines],
        env=os.environ | {"AWS_ENDPOINT_URL": aws_url},
        check=True,
        capture_output=True,
        timeout=60,
    )

    (shard,) = kinesis.list_shards(StreamName=stream)["Shards"]
    iterator = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    (record,) = kinesis.get_records(ShardIterator=iterator)["Records"]
    event = decode(record["Data"], DecodeRules.of(Events()))
    kinesis.close()

    assert isinstance(event, Transaction)
    assert record["PartitionKey"] == event.card_id
    assert event.amount_minor == 1250
