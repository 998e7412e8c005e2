"""The list of access where it really is: in a file, and in Secrets Manager."""

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer
from prometheus_client import CollectorRegistry

from consumer.adapters.private_file import PrivateFile
from consumer.api.access_telemetry import AccessTelemetry
from consumer.api.access_watch import AccessSource, AccessWatch
from consumer.clock import SystemClock
from consumer.errors import Misconfigured, Unavailable
from consumer.metrics import API_ACCESS_ERRORS, AccessMetrics
from consumer.outside import build_access_source
from consumer.settings import Api, ApiAuth, Aws, Settings
from tests.signing import ACCESS, KEY, REGION


@pytest.fixture
def name() -> str:
    """A secret of its own: all servers of a process share what they hold."""
    return f"fraudstream/{uuid.uuid4()}"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedMotoServer]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    for variable, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("NO_PROXY", "127.0.0.1"),
    ):
        monkeypatch.setenv(variable, value)
    yield server
    server.stop()


def url_of(server: ThreadedMotoServer) -> str:
    host, port = server.get_host_and_port()
    return f"http://{host}:{port}"


def source_of(url: str | None = None, **auth: object) -> AccessSource:
    settings = Settings(
        aws=Aws(region=REGION, endpoint_url=url), api=Api(auth=ApiAuth.model_validate(auth))
    )
    source = build_access_source(settings)
    assert source is not None
    return source


def watch_of(source: AccessSource, registry: CollectorRegistry, refresh_s: float) -> AccessWatch:
    telemetry = AccessTelemetry(AccessMetrics(registry), SystemClock())
    return AccessWatch(source, refresh_s, telemetry)


def test_a_secret_is_read_changed_and_kept_through_an_outage(
    aws: ThreadedMotoServer, name: str
) -> None:
    client = boto3.client("secretsmanager", region_name=REGION, endpoint_url=url_of(aws))
    made = client.create_secret(Name=name, SecretString=ACCESS)
    registry = CollectorRegistry()
    watch = watch_of(source_of(url_of(aws), access_secret=made["ARN"]), registry, 60)
    watch.poll()
    assert KEY in watch.current().keys
    client.put_secret_value(SecretId=name, SecretString=ACCESS.replace(KEY, "AKIDSECOND"))
    watch.poll()
    assert "AKIDSECOND" in watch.current().keys
    assert KEY not in watch.current().keys
    client.close()
    aws.stop()
    watch.poll()
    assert "AKIDSECOND" in watch.current().keys
    assert registry.get_sample_value(API_ACCESS_ERRORS, {"cause": "unavailable"}) == 1


def test_a_secret_that_is_not_there_is_named(aws: ThreadedMotoServer, name: str) -> None:
    with pytest.raises(Misconfigured, match=f"secret {name}: the secret: found no such secret"):
        source_of(url_of(aws), access_secret=name).read()


def test_a_binary_secret_is_refused(aws: ThreadedMotoServer, name: str) -> None:
    client = boto3.client("secretsmanager", region_name=REGION, endpoint_url=url_of(aws))
    client.create_secret(Name=name, SecretBinary=ACCESS.encode())
    client.close()
    with pytest.raises(Misconfigured, match="found a binary value, expected a text"):
        source_of(url_of(aws), access_secret=name).read()


def test_a_secrets_manager_that_does_not_answer_is_an_outage(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(Unavailable, match="secretsmanager: EndpointConnectionError"):
        source_of("http://127.0.0.1:9", access_secret=name).read()


def write(path: Path, text: str, mode: int = 0o640) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_file_that_not_everybody_can_read_is_read(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "access.yaml", ACCESS, mode)
    assert source_of(access_file=path).read() == ACCESS.encode()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o777])
def test_a_file_that_everybody_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "access.yaml", ACCESS, mode)
    expected = rf"{path}: the file: found mode {mode:04o}, expected nothing for others: chmod o="
    with pytest.raises(Misconfigured, match=expected):
        source_of(access_file=path).read()


def test_what_is_no_file_is_refused_and_holds_nobody(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    large = write(tmp_path / "large", "#" * 1_048_577)
    for path, found in (
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Is a directory|no plain file"),
        (pipe, "no plain file"),
        (large, "1048577 bytes"),
    ):
        with pytest.raises(Misconfigured, match=found):
            PrivateFile(path).read()


def test_a_file_that_changes_is_taken_over_by_itself(tmp_path: Path) -> None:
    # As a volume of Kubernetes does: a link is swapped.
    first = write(tmp_path / "1.yaml", ACCESS)
    second = write(tmp_path / "2.yaml", ACCESS.replace(KEY, "AKIDSECOND"))
    link = tmp_path / "access.yaml"
    link.symlink_to(first)
    registry = CollectorRegistry()
    with ExitStack() as stack:
        watch = watch_of(source_of(access_file=link), registry, 0.01)
        stack.callback(watch.close)
        watch.start()
        assert KEY in watch.current().keys
        (tmp_path / "next").symlink_to(second)
        (tmp_path / "next").replace(link)
        waiting = iter(range(3_000))
        while "AKIDSECOND" not in watch.current().keys and next(waiting) < 2_999:
            watch.poll()
        assert "AKIDSECOND" in watch.current().keys
        second.chmod(0o644)
        watch.poll()
        assert "AKIDSECOND" in watch.current().keys
    assert (registry.get_sample_value(API_ACCESS_ERRORS, {"cause": "refused"}) or 0) >= 1
