"""The sink as a worker opens it, with a delivery stream that is gone and a bucket that is not."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import boto3
import orjson
import pytest
from moto.server import ThreadedMotoServer
from prometheus_client import CollectorRegistry

from consumer.clock import SystemClock
from consumer.document import DocumentFormat, build_document
from consumer.errors import Unavailable
from consumer.heartbeat import Heartbeat
from consumer.metrics import SPILLED_ROWS, SPILLING, Metrics
from consumer.outside import build_sink
from consumer.settings import Aws, Firehose, Settings, SpillSettings
from consumer.telemetry import WorkerTelemetry
from tests.builders import an_assessment

FORM = DocumentFormat(("amount", "card_count_1h"), "f" * 64, "EUR")
BUCKET = "analytics"


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An AWS with a bucket and without any delivery stream."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("NO_PROXY", host),
    ):
        monkeypatch.setenv(name, value)
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def settings_of(url: str, bucket: str | None) -> Settings:
    return Settings(
        aws=Aws(endpoint_url=url),
        firehose=Firehose(
            stream_name="gone", attempts=2, spill=SpillSettings(bucket=bucket, after_s=0.01)
        ),
    )


def telemetry_of(registry: CollectorRegistry, folder: Path, stack: ExitStack) -> WorkerTelemetry:
    clock = SystemClock()
    heartbeat = stack.enter_context(Heartbeat(folder, clock))
    return WorkerTelemetry(Metrics(registry), heartbeat, clock, ())


def test_rows_for_a_stream_that_is_gone_lie_in_the_bucket_and_are_counted(
    url: str, tmp_path: Path, stack: ExitStack
) -> None:
    s3 = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
    s3.create_bucket(Bucket=BUCKET)
    registry = CollectorRegistry()
    telemetry = telemetry_of(registry, tmp_path, stack)
    sink = build_sink(settings_of(url, BUCKET), telemetry, stack)
    assert sink is not None

    documents = [build_document(an_assessment(number), FORM) for number in (1, 2)]
    sink.publish(documents).result(timeout=30)

    (entry,) = s3.list_objects_v2(Bucket=BUCKET)["Contents"]
    assert entry["Key"].startswith("decisions/2026/06/01/12/spill-")
    lines = s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read().splitlines()
    assert [orjson.loads(line)["transaction_id"] for line in lines] == ["tx_1", "tx_2"]
    assert registry.get_sample_value(SPILLED_ROWS) == 2
    assert registry.get_sample_value(SPILLING) == 1
    s3.close()


@pytest.mark.parametrize("bucket", [None, "missing"])
def test_without_a_bucket_that_takes_them_nothing_is_acknowledged(
    url: str, tmp_path: Path, stack: ExitStack, bucket: str | None
) -> None:
    registry = CollectorRegistry()
    sink = build_sink(settings_of(url, bucket), telemetry_of(registry, tmp_path, stack), stack)
    assert sink is not None

    with pytest.raises(Unavailable, match="firehose"):
        sink.publish([build_document(an_assessment(1), FORM)]).result(timeout=30)
    assert registry.get_sample_value(SPILLED_ROWS) == 0
