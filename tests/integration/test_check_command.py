"""``check`` against the embedded AWS, a real Redis and a server in the place of the endpoints."""

import platform
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumer.__main__ import main
from consumer.adapters.redis.connection import connect
from consumer.adapters.redis.documents import RedisDocuments
from consumer.document import DocumentFormat
from consumer.local.findings import read_documents
from consumer.local.resources import Resources, prepare, session
from consumer.local.stack import Stack
from tests.builders import an_assessment
from tests.redis_cluster import RedisCluster

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64"),
    reason="the embedded Redis exists for Linux x86-64 only",
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        prepare(session(running.aws_url), Resources(shards=2))
        yield running


@pytest.fixture(autouse=True)
def _settings(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FRAUDSTREAM_SUPERVISOR__RUN_DIR", str(tmp_path / "run"))


def checked(
    capsysbinary: pytest.CaptureFixture[bytes], code: int, *words: str
) -> dict[str, Mapping[str, Any]]:
    """Subject → its finding; of several the last."""
    assert main(["check", "--json", *words]) == code
    body = orjson.loads(capsysbinary.readouterr().out)
    assert body["ok"] == (code == 0)
    return {each["subject"]: each for each in body["checks"]}


def test_everything_is_looked_at_though_the_endpoints_do_not_answer(
    capsysbinary: pytest.CaptureFixture[bytes], stack: Stack
) -> None:
    found = checked(capsysbinary, 1, "--rate", "10")
    failed = {subject for subject, each in found.items() if each["level"] == "FAIL"}
    assert failed == {"endpoint fraudstream-fraud", "endpoint fraudstream-anomaly"}
    assert found["redis"]["level"] == "warn"
    assert "appendonly yes" in found["redis"]["remedy"]
    assert "2 open shards" in found["stream"]["text"]
    assert "s to AWS" in found["clock"]["text"]
    assert "5 KB a document (assumed)" in found["memory"]["text"]
    assert "none yet" in found["leases"]["text"]
    assert all(each["remedy"] for each in found.values() if each["level"] != "ok")
    assert found["spill"]["level"] == "warn"
    objects = session(stack.aws_url).client("s3").list_objects_v2(Bucket="fraudstream-dead-letters")
    assert objects["KeyCount"] == 0


def test_what_is_missing_is_named_with_its_setting(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDSTREAM_KCL__STREAM_NAME", "nobody")
    monkeypatch.setenv("FRAUDSTREAM_FIREHOSE__STREAM_NAME", "nothing")
    monkeypatch.setenv("FRAUDSTREAM_DEAD_LETTERS__BUCKET", "nowhere")
    monkeypatch.setenv("FRAUDSTREAM_FIREHOSE__SPILL__BUCKET", "nohow")
    monkeypatch.setenv("FRAUDSTREAM_KCL__JAVA", "/bin/true")
    found = checked(capsysbinary, 1)
    assert found["stream"]["text"] == "kcl.stream_name: nobody"
    assert found["firehose"]["text"] == "firehose.stream_name: nothing"
    assert found["spill"]["text"] == "firehose.spill.bucket: nohow"
    assert found["dead letters"]["text"] == "dead_letters.bucket: nowhere"
    assert "does not tell its version" in found["java"]["text"]


def test_a_list_of_access_that_everybody_can_read_is_refused(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    access = tmp_path / "access.yaml"
    access.write_text("keys: []")
    access.chmod(0o644)
    monkeypatch.setenv("FRAUDSTREAM_API__AUTH__ACCESS_FILE", str(access))
    found = checked(capsysbinary, 1)
    assert found["rest access"]["level"] == "FAIL"
    assert found["rest access"]["text"] == f"{access}: the file: mode 0644"
    assert "chmod o=" in found["rest access"]["remedy"]
    assert found["rest service"]["level"] == "ok"


def test_an_endpoint_that_cannot_explain_is_told_and_fails_nothing(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, stack: Stack
) -> None:
    def said() -> str:
        found = checked(capsysbinary, 1)["explanations"]
        assert found["level"] == "warn"
        assert "scoring.explanation" in found["remedy"]
        return str(found["text"])

    assert main(["check", "--json"]) == 1
    assert b'"explanations"' not in capsysbinary.readouterr().out
    monkeypatch.setenv("FRAUDSTREAM_SCORING__EXPLANATIONS", "endpoint")
    monkeypatch.setenv("FRAUDSTREAM_SCORING__EXPLANATION_ENDPOINT", "explained")
    assert "explained was not found" in said()
    sagemaker = session(stack.aws_url).client("sagemaker")
    sagemaker.create_model(
        ModelName="fraud", ExecutionRoleArn="arn:aws:iam::000000000000:role/sagemaker"
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName="explained",
        ProductionVariants=[
            {
                "VariantName": "all",
                "ModelName": "fraud",
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            }
        ],
    )
    sagemaker.create_endpoint(EndpointName="explained", EndpointConfigName="explained")
    sagemaker.close()
    assert "no ExplainerConfig" in said()


def test_a_redis_that_is_down_hides_nothing_else(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDSTREAM_REDIS__URL", "redis://:hunter2@127.0.0.1:1/0")
    found = checked(capsysbinary, 1)
    assert found["redis"]["level"] == "FAIL"
    assert "hunter2" not in str(found)
    assert found["stream"]["level"] == "ok"


def test_a_server_that_evicts_is_refused(
    capsysbinary: pytest.CaptureFixture[bytes], stack: Stack
) -> None:
    client = connect(stack.redis_url, connect_timeout_s=2, timeout_s=2)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        found = checked(capsysbinary, 1)
    finally:
        client.config_set("maxmemory-policy", "noeviction")
        client.close()
    assert found["index"]["level"] == "FAIL"


def test_every_primary_of_a_cluster_is_looked_at(
    capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisCluster() as cluster:
        places = [
            server.url.removeprefix("redis://").removesuffix("/0") for server in cluster.servers
        ]
        monkeypatch.setenv("FRAUDSTREAM_REDIS__URL", cluster.url)
        documents = RedisDocuments(
            cluster.clients[0],
            form=DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR"),
            ttl_s=3600,
            alerts_max_length=10,
        )
        documents.prepare()
        with closing(documents):
            documents.decide([an_assessment(n) for n in range(90)])
        assert len(read_documents(cluster.clients[2])) == 90
        cluster.clients[1].function_flush("SYNC")
        for client in cluster.clients:
            client.config_set("save", "3600 1")
        found = checked(capsysbinary, 1, "--rate", "10")
        assert {name for name in found if name.startswith("redis ")} == {
            f"redis {place}" for place in places
        }
        assert found["index"]["text"] == "functions loaded on 3 primaries, 90 documents indexed"
        assert "(measured)" in found["memory"]["text"]
        assert "(3 primaries of" in found["memory"]["text"]
        assert all(f"s to redis {place}" in found["clock"]["text"] for place in places)
        # Of features, of their layouts, and of documents.
        assert [len(client.function_list()) for client in cluster.clients] == [3, 3, 3]

        cluster.clients[2].config_set("maxmemory-policy", "allkeys-lru")
        found = checked(capsysbinary, 1)
        assert found[f"redis {places[2]}"]["level"] == "FAIL"
        assert found[f"redis {places[1]}"]["level"] == "ok"


def test_wrong_settings_end_with_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDSTREAM_LOGS__LEVEL", "loud")
    assert main(["check"]) == 2
    assert capsys.readouterr().out.startswith("FAIL  settings")


def test_a_line_a_check_where_a_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["ok", "settings"]
    assert all(line.split()[0] in ("ok", "warn", "FAIL") for line in lines)
    assert [line.split()[1] for line in lines][:4] == ["settings", "features", "events", "rules"]


def test_a_rate_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", "--rate", "many"])
    assert ended.value.code == 2
    assert "transactions a second" in capsys.readouterr().err
