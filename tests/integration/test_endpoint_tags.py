"""The tag of a model's feature list, read from the SageMaker control plane of the stack."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.adapters import aws
from consumer.adapters.endpoint_tags import EndpointTags
from consumer.bands_watch import BandsWatch
from consumer.errors import Unavailable
from consumer.feature_hash import TAG, FeatureHashWatch
from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.local.resources import HISTORY_BUCKET, Resources, deploy, prepare, session
from consumer.model import Bands
from consumer.settings import Aws, DecisionSettings, Settings
from consumer.training.archive import to_json, write
from consumer.training.reference import read_reference
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


def an_archive(path: Path, thresholds: dict[str, float] | None = None) -> Path:
    members = {
        "features.json": to_json({"names": ["amount"], "hash": HASH}),
        "metrics.json": to_json({"thresholds": thresholds or {}}),
    }
    write(path, "fraud", members)
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return an_archive(tmp_path / "model.tar.gz")


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


def test_a_new_model_takes_its_bands_with_it(url: str, tags: EndpointTags, tmp_path: Path) -> None:
    first = an_archive(tmp_path / "1.tar.gz", {"fraud_review": 0.4, "fraud_decline": 0.8})
    second = an_archive(tmp_path / "2.tar.gz", {"fraud_review": 0.6, "fraud_decline": 0.95})
    unknown = an_archive(tmp_path / "3.tar.gz")
    decision = DecisionSettings(fraud_review="model", fraud_decline="model")
    deploy(session(url), {NAME: first}, HASH)
    watch = BandsWatch(tags, Settings(decision=decision), lambda _score: None)
    assert watch.policy.bands == Bands(0.4, 0.8, 3.0, read_reference(first).model)
    deploy(session(url), {NAME: second}, HASH)
    watch.look()
    assert watch.policy.bands == Bands(0.6, 0.95, 3.0, read_reference(second).model)
    deploy(session(url), {NAME: unknown}, HASH)
    watch.look()
    assert not watch.usable("fraud")
    deploy(session(url), {NAME: first}, HASH)
    watch.look()
    assert watch.usable("fraud")
    assert watch.policy.bands.fraud_review == 0.4


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
