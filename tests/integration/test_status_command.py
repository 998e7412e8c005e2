"""``status`` against a real stream and lease table; a status server stands for the daemon."""

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from consumer.__main__ import main
from consumer.configuration import load
from consumer.features.specification import load_plan
from consumer.local.resources import Resources, prepare, session
from consumer.local.stack import Stack
from consumer.metrics import Metrics, SupervisorMetrics
from consumer.outside import build_stores, build_warming
from consumer.ports import Observe
from consumer.settings import SHIPPED
from consumer.status_server import PROMETHEUS_TEXT, Answer, StatusServer, health_answer
from tests.builders import NOON, a_transaction

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the embedded Redis exists for Linux x86-64 only",
)
STREAM = "transactions"
SHARDS = ("shardId-000000000000", "shardId-000000000001")


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The variables of a stack with a stream of two shards, a record in each."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        clients = session(running.aws_url)
        prepare(clients, Resources(stream=STREAM, shards=2))
        kinesis = clients.client("kinesis")
        for number in range(8):
            kinesis.put_record(StreamName=STREAM, Data=b"{}", PartitionKey=str(number))
        yield running.environment()


@pytest.fixture
def dynamodb(
    aws: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> "Iterator[DynamoDBClient]":
    monkeypatch.chdir(tmp_path)
    for name, value in aws.items():
        monkeypatch.setenv(name, value)
    client: DynamoDBClient = session(aws["AWS_ENDPOINT_URL"]).client("dynamodb")
    yield client
    for table in client.list_tables()["TableNames"]:
        client.delete_table(TableName=table)


def create_leases(dynamodb: "DynamoDBClient", owner: str | None, checkpoint: str) -> None:
    """A lease table as the KCL makes it, nobody renewing anything in it."""
    dynamodb.create_table(
        TableName="fraudstream",
        KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for shard in SHARDS:
        dynamodb.put_item(
            TableName="fraudstream",
            Item={
                "leaseKey": {"S": shard},
                "leaseCounter": {"N": "3"},
                "checkpoint": {"S": checkpoint},
                "checkpointSubSequenceNumber": {"N": "0"},
                **({"leaseOwner": {"S": owner}} if owner else {}),
            },
        )


def a_daemon(problems: list[str], stage: str, rules: str = "") -> dict[str, Callable[[], Answer]]:
    worker = {
        "shard": SHARDS[0],
        "pid": 7,
        "stage": stage,
        "position": "1:0",
        "checkpoint": "",
        "progress_age_s": 1.5,
        "checkpoint_age_s": 2.5,
        "millis_behind_latest": None,
        "rules": rules,
    }
    registry = CollectorRegistry()
    SupervisorMetrics(registry, "9.8.7")
    metrics = Metrics(registry)
    metrics.rules_refused.inc(2)
    metrics.rules_mode.labels("live").set(1)
    return {
        "/healthz": lambda: health_answer(problems, {"workers": [worker]}),
        "/readyz": lambda: health_answer([], {"workers": [worker]}),
        "/metrics": lambda: Answer(HTTPStatus.OK, PROMETHEUS_TEXT, generate_latest(registry)),
    }


def test_nothing_has_run_yet(
    dynamodb: "DynamoDBClient", capsys: pytest.CaptureFixture[str]
) -> None:
    assert dynamodb.list_tables()["TableNames"] == []
    assert main(["status", "--wait", "0"]) == 1
    out = capsys.readouterr().out
    assert "nothing has run yet: there is no lease table fraudstream" in out
    assert "does not answer" in out


def test_leases_that_nobody_renews_are_told_with_their_lag(
    dynamodb: "DynamoDBClient", capsys: pytest.CaptureFixture[str]
) -> None:
    create_leases(dynamodb, "host-a", "TRIM_HORIZON")
    assert main(["status", "--wait", "0", "--json"]) == 1
    body = orjson.loads(capsys.readouterr().out)
    assert body["problems"] == [
        "nothing runs: no worker renews a lease",
        *(f"{shard}: host-a does not renew its lease" for shard in SHARDS),
    ]
    assert [shard["renewed"] for shard in body["shards"]] == [False, False]
    assert all(0 <= shard["lag_ms"] < 120_000 for shard in body["shards"])


def test_rules_that_wait_for_features_are_told_until_when(
    dynamodb: "DynamoDBClient", aws: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    create_leases(dynamodb, None, "LATEST")
    settings = load(SHIPPED / "fraudstream.yaml", aws).settings
    plan = load_plan(settings.features.path, settings.events.base_currency)
    with ExitStack() as stack:
        store = build_stores(settings, plan, stack).features
        counting = build_warming(settings, plan, store, stack)
        counting.observe([Observe(a_transaction(1), int(NOON.timestamp()))])
    main(["status", "--wait", "0", "--json"])
    warming = orjson.loads(capsys.readouterr().out)["warming"]
    assert warming["rules"]["card_burst"] == "2026-06-01T12:01:01Z"
    assert warming["features"]["card_count_30d"] == "2026-07-02T00:00:00Z"
    assert "blocked_card" not in warming["rules"]
    for command in (["status", "--wait", "0"], ["rules", "show"]):
        main(command)
        out = capsys.readouterr().out
        assert "rules in shadow until 2026-06-01T12:01:01Z: card_burst" in out
        assert "warming until 2026-06-01T13:01:00Z: card_count_1h, card_sum_1h" in out


def test_a_daemon_tells_stage_age_and_version(
    dynamodb: "DynamoDBClient", capsys: pytest.CaptureFixture[str]
) -> None:
    create_leases(dynamodb, None, "LATEST")
    with StatusServer("127.0.0.1", 0, a_daemon(["it hurts"], "waiting:redis")) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert main(["status", "--wait", "0", "--url", url]) == 1
    out = capsys.readouterr().out
    for part in (
        "waiting:redis",
        "2.5 s",
        'version="9.8.7"',
        f"{SHARDS[0]}: nobody works it",
        f"{url}: it hurts",
    ):
        assert part in out, part


def test_what_is_no_daemon_is_told(
    dynamodb: "DynamoDBClient", capsys: pytest.CaptureFixture[str]
) -> None:
    create_leases(dynamodb, "host-a", "LATEST")
    paths = {"/healthz": lambda: Answer(HTTPStatus.OK, "text/plain", b"hello")}
    with StatusServer("127.0.0.1", 0, paths) as server:
        main(["status", "--wait", "0", "--url", f"http://127.0.0.1:{server.port}"])
    assert "what answers there is no fraudstream" in capsys.readouterr().out
    main(["status", "--wait", "0", "--url", "file:///etc/passwd"])
    assert "expected an address that starts with http://" in capsys.readouterr().out


def test_rules_that_are_not_those_of_the_files_are_noted_and_counted(
    dynamodb: "DynamoDBClient",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    create_leases(dynamodb, None, "LATEST")
    broken = tmp_path / "rules.yaml"
    broken.write_text("version: 1\nrules: {}\nmode: loud\n")
    monkeypatch.setenv("FRAUDSTREAM_RULES__PATH", str(broken))
    note = "the version before: the files are refused"
    with StatusServer("127.0.0.1", 0, a_daemon([], "idle", note)) as server:
        url = f"http://127.0.0.1:{server.port}"
        main(["status", "--wait", "0", "--url", url])
        out = capsys.readouterr().out
        main(["status", "--wait", "0", "--json", "--url", url])
        body = orjson.loads(capsys.readouterr().out)
    for part in (
        f"NOTE  {SHARDS[0]}: decides by {note}; the log says why",
        f"NOTE  the files of rules and lists cannot be used: {broken}:",
        "(and 1 more: fraudstream rules lint)",
        "rules_refused_total",
        "rules_tripped_total",
        'rules_mode{mode="live"}',
    ):
        assert part in out, part
    assert body["notes"][0].endswith(f"decides by {note}; the log says why")
    assert len(body["notes"]) == 2
