"""The embedded stack starts, works over both protocols, and leaves nothing behind."""

import contextlib
import os
import platform
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h2.connection
import h2.events
import pytest
import redis

from consumer.errors import Misconfigured, Unavailable
from consumer.local import command
from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.local.redis_server import RedisServer
from consumer.local.resources import Resources, prepare, session
from consumer.local.stack import Ports, Stack, check_platform

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the embedded Redis exists for Linux x86-64 only",
)
RESOURCES = Resources(stream="events", shards=2)
ENDED_TIMEOUT_S = 30


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        prepare(session(running.aws_url), RESOURCES)
        yield running


def await_end(pids: list[int]) -> None:
    """Return when none of *pids* runs; fail after a generous while."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            try:
                ready, _, _ = select.select([descriptor], [], [], ENDED_TIMEOUT_S)
            finally:
                os.close(descriptor)
            assert ready, f"process {pid} still runs"


def test_a_second_start_works_and_the_first_leaves_no_process(tmp_path: Path) -> None:
    pids: list[int] = []
    port = 0
    for _ in range(2):
        # The same port again: connections of the first run must not hold it.
        with Stack(tmp_path, ports=Ports(aws=port)) as running:
            client = session(running.aws_url).client("kinesis")
            assert client.list_streams()["StreamNames"] == []
            client.close()
            with redis.Redis.from_url(running.redis_url) as server:
                assert server.ping()
            pids += running.pids.values()
            port = int(running.aws_url.rpartition(":")[2])
    assert len(set(pids)) == 4
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_boto3_puts_and_reads_records_over_http_1(stack: Stack) -> None:
    kinesis = session(stack.aws_url).client("kinesis")
    records = [{"Data": b"%d" % n, "PartitionKey": f"card_{n}"} for n in range(500)]

    answer = kinesis.put_records(StreamName="events", Records=records)

    assert answer["FailedRecordCount"] == 0
    placed = [(entry["ShardId"], entry["SequenceNumber"]) for entry in answer["Records"]]
    assert len(set(placed)) == 500
    read: list[bytes] = []
    for shard in sorted({shard for shard, _ in placed}):
        iterator = kinesis.get_shard_iterator(
            StreamName="events", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        # In steps, so that an iterator that goes on after a part is covered as well.
        while records_read := (batch := kinesis.get_records(ShardIterator=iterator, Limit=100))[
            "Records"
        ]:
            numbers = [int(record["SequenceNumber"]) for record in records_read]
            assert numbers == sorted(numbers)
            read += [record["Data"] for record in records_read]
            iterator = batch["NextShardIterator"]
            assert (batch["MillisBehindLatest"] == 0) or len(records_read) == 100
    assert sorted(read) == sorted(record["Data"] for record in records)  # type: ignore[type-var]
    kinesis.close()


def test_an_iterator_starts_after_a_sequence_number(stack: Stack) -> None:
    kinesis = session(stack.aws_url).client("kinesis")
    kinesis.create_stream(StreamName="one", ShardCount=1)
    put = [
        kinesis.put_record(StreamName="one", Data=b"%d" % n, PartitionKey="k")["SequenceNumber"]
        for n in range(3)
    ]

    after = kinesis.get_shard_iterator(
        StreamName="one",
        ShardId="shardId-000000000000",
        ShardIteratorType="AFTER_SEQUENCE_NUMBER",
        StartingSequenceNumber=put[0],
    )["ShardIterator"]
    newest = kinesis.get_shard_iterator(
        StreamName="one", ShardId="shardId-000000000000", ShardIteratorType="LATEST"
    )["ShardIterator"]

    records = kinesis.get_records(ShardIterator=after)["Records"]
    assert [record["Data"] for record in records] == [b"1", b"2"]
    assert kinesis.get_records(ShardIterator=newest)["Records"] == []
    kinesis.close()


def test_the_kcl_finds_http_2_with_prior_knowledge(stack: Stack) -> None:
    status, body = post_over_http_2(
        stack.aws_url,
        {
            "x-amz-target": "Kinesis_20131202.ListStreams",
            "content-type": "application/x-amz-json-1.1",
            "authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/"
            "aws4_request, SignedHeaders=host, Signature=0",
        },
        b"{}",
    )

    assert status == 200
    assert b'"events"' in body


def test_dynamodb_refuses_the_second_conditional_put(stack: Stack) -> None:
    dynamodb = session(stack.aws_url).client("dynamodb")
    dynamodb.create_table(
        TableName="leases",
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    put: dict[str, Any] = {
        "TableName": "leases",
        "Item": {"leaseKey": {"S": "shardId-000000000000"}},
        "ConditionExpression": "attribute_not_exists(leaseKey)",
    }
    dynamodb.put_item(**put)

    with pytest.raises(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.put_item(**put)
    dynamodb.close()


def test_firehose_delivers_the_bytes_of_a_batch_to_s3(stack: Stack) -> None:
    aws = session(stack.aws_url)
    firehose, s3 = aws.client("firehose"), aws.client("s3")
    rows = [b'{"n":%d}\n' % n for n in range(500)]

    answer = firehose.put_record_batch(
        DeliveryStreamName=RESOURCES.delivery_stream, Records=[{"Data": row} for row in rows]
    )

    assert answer["FailedPutCount"] == 0
    assert len(answer["RequestResponses"]) == 500
    (found,) = s3.list_objects_v2(Bucket=RESOURCES.delivery_bucket)["Contents"]
    assert re.fullmatch(r"decisions/\d{4}/\d\d/\d\d/\d\d/fraudstream-decisions-1-.*", found["Key"])
    body = s3.get_object(Bucket=RESOURCES.delivery_bucket, Key=found["Key"])["Body"].read()
    assert body == b"".join(rows)
    firehose.close()
    s3.close()


def test_s3_answers_without_a_body_are_no_errors(stack: Stack) -> None:
    # hypercorn answers 500 to a WSGI application that yields no chunk.
    s3 = session(stack.aws_url).client("s3")
    s3.put_object(Bucket=RESOURCES.buckets[0], Key="a/b ü", Body=b"x" * 20_000_000)

    assert s3.head_object(Bucket=RESOURCES.buckets[0], Key="a/b ü")["ContentLength"] == 20_000_000
    deleted = s3.delete_object(Bucket=RESOURCES.buckets[0], Key="a/b ü")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    s3.close()


def test_a_client_that_stops_reading_does_not_hold_up_the_others(stack: Stack) -> None:
    s3 = session(stack.aws_url).client("s3")
    s3.put_object(Bucket=RESOURCES.buckets[0], Key="large", Body=b"x" * 50_000_000)
    large = s3.generate_presigned_url(
        "get_object", {"Bucket": RESOURCES.buckets[0], "Key": "large"}
    ).removeprefix(stack.aws_url)
    host, port = stack.aws_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(f"GET {large} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert wire.recv(12) == b"HTTP/1.1 200"

        assert s3.list_buckets()["Buckets"]
    s3.delete_object(Bucket=RESOURCES.buckets[0], Key="large")
    s3.close()


def test_an_encoded_slash_in_a_key_stays_one(stack: Stack) -> None:
    s3 = session(stack.aws_url).client("s3")
    s3.put_object(Bucket=RESOURCES.buckets[0], Key="odd/a%2Fb", Body=b"")

    found = s3.list_objects_v2(Bucket=RESOURCES.buckets[0], Prefix="odd/")["Contents"]

    assert [entry["Key"] for entry in found] == ["odd/a%2Fb"]
    s3.close()


def test_the_sagemaker_control_plane_answers(stack: Stack) -> None:
    sagemaker = session(stack.aws_url).client("sagemaker")

    assert sagemaker.list_endpoints()["Endpoints"] == []
    sagemaker.close()


def test_resources_that_exist_stay(stack: Stack) -> None:
    prepare(session(stack.aws_url), RESOURCES)

    kinesis = session(stack.aws_url).client("kinesis")
    assert len(kinesis.list_shards(StreamName="events")["Shards"]) == 2
    kinesis.close()


def test_a_session_calls_its_own_stack_whatever_the_environment_names(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    client = session(stack.aws_url).client("s3")

    assert client.meta.endpoint_url == stack.aws_url
    assert os.environ["AWS_ENDPOINT_URL"] == "http://127.0.0.1:9"
    client.close()


def test_localstack_host_names_the_emulator_of_a_session_without_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("LOCALSTACK_HOST", "emulator:4566")

    client = session().client("s3")

    assert client.meta.endpoint_url == "http://emulator:4566"
    client.close()


def test_the_environment_points_a_process_at_every_part(stack: Stack) -> None:
    variables = stack.environment()

    assert variables["FRAUDSTREAM_AWS__ENDPOINT_URL"] == stack.aws_url
    assert variables["FRAUDSTREAM_REDIS__URL"] == stack.redis_url
    assert variables["LOCALSTACK_HOST"] == stack.aws_url.removeprefix("http://")
    assert "127.0.0.1" in variables["NO_PROXY"]
    assert "FRAUDSTREAM_AWS__SAGEMAKER_RUNTIME_URL" not in variables
    with pytest.raises(RuntimeError, match="endpoints was not started"):
        _ = stack.endpoints_url


@pytest.mark.parametrize("victim", ["aws", "redis"])
def test_a_part_that_dies_is_named_with_its_end_and_its_log(tmp_path: Path, victim: str) -> None:
    with Stack(tmp_path) as running:
        running.check()
        pids = running.pids
        os.kill(pids[victim], signal.SIGKILL)
        with pytest.raises(Unavailable) as caught:
            running.wait()
        assert victim in str(caught.value)
        assert str(tmp_path / f"{victim}.log") in str(caught.value)
    await_end(list(pids.values()))


def test_a_part_that_cannot_start_shows_its_exit_code_and_the_end_of_its_log(
    tmp_path: Path,
) -> None:
    with Stack(tmp_path) as running:
        with pytest.raises(Unavailable) as caught:
            running.start_endpoints({"fraud": tmp_path / "missing.tar.gz"})
        running.check()

    assert str(caught.value).startswith("endpoints: ended with exit code 2; the end of")
    assert "missing.tar.gz" in str(caught.value)


def test_a_part_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(
        "import signal, socket, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "listener = socket.socket(fileno=int(sys.argv[2]))\n"
        "connection, _ = listener.accept()\n"
        "connection.recv(1000)\n"
        "connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n')\n"
        "signal.pause()\n"
    )
    part = Part(
        "stubborn",
        ["stubborn"],
        listen(0, "stubborn"),
        directory=tmp_path,
        environment={"PYTHONPATH": str(tmp_path)},
    )
    part.await_ready("/")

    part.stop(timeout_s=0.1)

    assert not part.running
    part.stop()


@pytest.mark.parametrize("part", ["aws", "redis"])
def test_a_port_that_is_taken_is_one_clear_line(tmp_path: Path, part: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        stack = Stack(tmp_path, ports=Ports(**{part: port}))
        with pytest.raises(Misconfigured) as caught:
            stack.start()

    assert str(caught.value) == (
        f"{part}: port: found {port}, which another process uses, "
        "expected a free port, or 0 to have one chosen"
    )
    assert stack.pids == {}


@pytest.mark.parametrize("found", [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_another_platform_is_offered_redis_url_in_one_line(found: tuple[str, str]) -> None:
    with pytest.raises(Misconfigured) as caught:
        check_platform(None, *found)

    assert "\n" not in str(caught.value)
    assert "REDIS_URL=redis://" in str(caught.value)
    check_platform("redis://elsewhere", *found)


def test_the_server_named_by_redis_url_is_used_and_not_ended(stack: Stack, tmp_path: Path) -> None:
    with Stack(tmp_path, redis_url=stack.redis_url) as second:
        assert second.redis_url == stack.redis_url
        assert "redis" not in second.pids
        second.check()

    with redis.Redis.from_url(stack.redis_url) as server:
        assert server.ping()


def test_a_named_redis_that_does_not_answer_is_an_error_without_its_password(
    tmp_path: Path,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        stack = Stack(tmp_path, redis_url=f"redis://:secret@127.0.0.1:{port}/0")
        with pytest.raises(Unavailable, match="REDIS_URL") as caught:
            stack.start()

    assert "secret" not in str(caught.value)
    assert stack.pids == {}


def test_a_named_redis_without_modules_is_refused(tmp_path: Path) -> None:
    with (
        RedisServer(modules=False) as plain,
        pytest.raises(Misconfigured, match="without JSON and Search"),
    ):
        Stack(tmp_path, redis_url=plain.url).start()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_at_a_signal_and_leaves_no_process(
    tmp_path: Path, number: signal.Signals
) -> None:
    with started_command(tmp_path) as (process, pids):
        process.send_signal(number)

        assert process.wait(ENDED_TIMEOUT_S) == 0
        await_end(pids)


def test_ctrl_c_in_a_terminal_which_signals_the_whole_group_is_no_crash(tmp_path: Path) -> None:
    with started_command(tmp_path) as (process, pids):
        os.killpg(process.pid, signal.SIGINT)

        assert process.wait(ENDED_TIMEOUT_S) == 0
        await_end(pids)


def test_killing_the_command_ends_its_parts(tmp_path: Path) -> None:
    with started_command(tmp_path) as (process, pids):
        process.kill()

        process.wait(ENDED_TIMEOUT_S)
        await_end(pids)


def test_killing_a_part_ends_the_command_with_its_name(tmp_path: Path) -> None:
    with started_command(tmp_path) as (process, pids):
        (aws,) = (pid for pid in pids if "consumer.local.aws" in command_line(pid))

        os.kill(aws, signal.SIGKILL)

        _, errors = process.communicate(timeout=ENDED_TIMEOUT_S)
        assert process.returncode == os.EX_UNAVAILABLE
        assert "fraudstream: aws: ended by signal SIGKILL" in errors
        await_end(pids)


def test_the_address_of_a_named_redis_is_not_repeated() -> None:
    environment = {"A": "b c", "FRAUDSTREAM_REDIS__URL": "redis://:secret@host"}

    assert command.export_lines(environment, external_redis=True) == [
        "export A='b c'",
        'export FRAUDSTREAM_REDIS__URL="$REDIS_URL"',
    ]


@contextlib.contextmanager
def started_command(directory: Path) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """Run the command until its addresses are printed; yield it and its parts' process ids."""
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    with subprocess.Popen(
        [sys.executable, "-m", "consumer", "local", "--directory", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            printed = iter(process.stdout.readline, "")
            ready = any(line.startswith("export FRAUDSTREAM_REDIS__URL=") for line in printed)
            assert ready, process.communicate()[1]
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            assert len(children) == 2
            yield process, [int(child) for child in children]
        finally:
            process.kill()


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def post_over_http_2(url: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    """Send one request with prior knowledge: no upgrade, the first bytes are HTTP/2."""
    authority = url.removeprefix("http://")
    host, port = authority.split(":")
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    pseudo = [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", authority)]
    connection.send_headers(1, [*pseudo, *headers.items()])
    connection.send_data(1, body, end_stream=True)
    status, received = 0, b""
    with socket.create_connection((host, int(port)), timeout=30) as wire:
        wire.sendall(connection.data_to_send())
        while data := wire.recv(65_536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    (status,) = (int(value) for name, value in event.headers if name == b":status")
                elif isinstance(event, h2.events.DataReceived):
                    received += event.data or b""
                elif isinstance(event, h2.events.StreamEnded):
                    return status, received
            wire.sendall(connection.data_to_send())
    pytest.fail("the connection ended before the answer")
