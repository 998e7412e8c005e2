"""The tag of a model's feature list, read from the SageMaker control plane of the stack."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.adapters import aws
from consumer.adapters.endpoint_tags import EndpointTags
from consumer.errors import Unavailable
from consumer.feature_hash import TAG, FeatureHashWatch
from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.local.resources import HISTORY_BUCKET, Resources, deploy, prepare, session
from consumer.settings import Aws
from tests import sagemaker_server as server
from tests.sagemaker_server import SageMakerServer

HASH, OTHER = "a" * 64, "b" * 64
NAME = "fraudstream-fraud"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("aws")
    part = Part("aws", ["consumer.local.aws"], listen(0, "aws"), directory=directory)
    try:
        part.await_ready("/")
        prepare(session(part.url), Resources(stream="tags", shards=1, buckets=(HISTORY_BUCKET,)))
        yield part.url
    finally:
        part.stop()


@pytest.fixture
def tags(url: str, monkeypatch: pytest.MonkeyPatch) -> EndpointTags:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    client = aws.client(
        "sagemaker",
        Aws(endpoint_url=url),
        connect_timeout_s=5,
        read_timeout_s=10,
        max_pool_connections=1,
    )
    return EndpointTags(client)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "model.tar.gz"
    path.write_bytes(b"a model")
    return path


def test_the_tag_of_a_deployed_model_is_found(url: str, tags: EndpointTags, archive: Path) -> None:
    deploy(session(url), {NAME: archive}, HASH)
    assert tags.read_tag(tags.describe(NAME), TAG) == HASH
    assert tags.read_tag(tags.describe(NAME), "another") is None


def test_a_new_configuration_is_a_new_deployment(
    url: str, tags: EndpointTags, archive: Path
) -> None:
    deploy(session(url), {NAME: archive}, HASH)
    watch = FeatureHashWatch(tags, {"fraud": NAME}, HASH)
    watch.look()
    assert watch.usable("fraud")
    deploy(session(url), {NAME: archive}, OTHER)
    watch.look()
    assert not watch.usable("fraud")


def test_an_endpoint_that_is_not_there_is_unavailable(tags: EndpointTags) -> None:
    with pytest.raises(Unavailable, match="DescribeEndpoint: ValidationException"):
        tags.describe("nobody")


def test_an_answer_of_something_else_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with SageMakerServer() as remote:
        remote.always(server.body(b"{}"))
        client = aws.client(
            "sagemaker",
            Aws(endpoint_url=remote.url),
            connect_timeout_s=5,
            read_timeout_s=10,
            max_pool_connections=1,
        )
        with pytest.raises(Unavailable, match="an answer without 'EndpointConfigName'"):
            EndpointTags(client).describe(NAME)
