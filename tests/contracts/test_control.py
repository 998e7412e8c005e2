"""One suite for the control plane: the fake, and the adapter in front of an emulated AWS."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from consumer.adapters import aws
from consumer.adapters.control_plane import ControlPlane
from consumer.deployment.answers import Configuration, Endpoint, Job, Model
from consumer.deployment.calls import Call, Control, Refused, carry_out
from consumer.deployment.catalogue import list_endpoints, plan_deletion
from consumer.deployment.endpoints import (
    Deployment,
    Image,
    Place,
    Servable,
    plan_deployment,
    plan_rollback,
)
from consumer.deployment.inventory import find, read_tags
from consumer.deployment.jobs import Machine, TrainingJob, start_job
from consumer.deployment.naming import INPUT, PREVIOUS
from consumer.deployment.scaling import Scaling, is_registered
from consumer.deployment.waiting import Watch, await_endpoint, await_job
from consumer.errors import Misconfigured
from consumer.feature_hash import TAG
from consumer.local.part import Part
from consumer.local.ports import listen
from consumer.settings import Aws
from tests.fakes.clock import FakeClock
from tests.fakes.control import FakeControl

PLACE = Place("arn:aws:iam::123456789012:role/fraudstream")
HASH = "a" * 64


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("aws")
    part = Part("aws", ["consumer.local.aws"], listen(0, "aws"), directory=directory)
    try:
        part.await_ready("/")
        yield part.url
    finally:
        part.stop()


@pytest.fixture(params=["fake", "adapter"])
def control(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Control]:
    if request.param == "fake":
        yield FakeControl()
        return
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    make: Any = partial(
        aws.client,
        aws=Aws(endpoint_url=request.getfixturevalue("url")),
        connect_timeout_s=5,
        read_timeout_s=30,
        max_pool_connections=1,
    )
    plane = ControlPlane(make, time.sleep)
    yield plane
    plane.close()


def deployment(name: str, model: str = "0123456789ab") -> Deployment:
    image = Image("account/sagemaker-xgboost:3.0-5", f"s3://models/{model}/model.tar.gz", {})
    return Deployment(name, Servable("fraud", model, HASH, (image,)), PLACE, "ml.m5.large")


def deploy(control: Control, wanted: Deployment) -> str:
    plan = plan_deployment(control, wanted)
    carry_out(control, plan.calls)
    clock = FakeClock()
    outcome = await_endpoint(control, plan, Watch(clock, clock.sleep, lambda _: None))
    assert outcome.done, outcome
    carry_out(control, plan.after)
    return plan.configuration


def test_what_is_not_there_is_none(control: Control) -> None:
    assert find(control, Endpoint, "none") is None
    assert find(control, Configuration, "none") is None
    assert find(control, Model, "none") is None
    assert find(control, Job, "none") is None


def test_an_endpoint_is_made_updated_and_rolled_back(control: Control) -> None:
    first = deploy(control, deployment("update"))
    second = deploy(control, deployment("update", "ba9876543210"))
    found = find(control, Endpoint, "update")
    assert found is not None
    assert (found.endpoint_status, found.endpoint_config_name) == ("InService", second)
    configuration = find(control, Configuration, second)
    assert configuration is not None
    tags = read_tags(control, configuration.endpoint_config_arn)
    assert (tags[TAG], tags[PREVIOUS]) == (HASH, first)
    carry_out(control, plan_rollback(control, "update").calls)
    back = find(control, Endpoint, "update")
    assert back is not None
    assert back.endpoint_config_name == first


def test_the_same_deployment_needs_no_call(control: Control) -> None:
    deploy(control, deployment("again"))
    assert plan_deployment(control, deployment("again")).calls == ()


def test_autoscaling_is_registered_and_taken_away(control: Control) -> None:
    wanted = deployment("scaled")
    scaled = Deployment(
        wanted.endpoint, wanted.servable, PLACE, "ml.m5.large", 2, Scaling(2, 8, 3_000)
    )
    deploy(control, scaled)
    assert is_registered(control, "scaled", "AllTraffic")
    deploy(control, deployment("scaled", "ba9876543210"))
    assert not is_registered(control, "scaled", "AllTraffic")


def test_the_list_holds_what_was_deployed(control: Control) -> None:
    configuration = deploy(control, deployment("listed"))
    row = next(each for each in list_endpoints(control) if each.name == "listed")
    assert (row.configuration, row.model) == (configuration, "0123456789ab")
    assert (row.variant, row.instances) == ("AllTraffic", 1)


def test_what_is_live_stays_and_the_rest_can_go(control: Control) -> None:
    configuration = deploy(control, deployment("deleted"))
    with pytest.raises(Misconfigured, match="in use by the endpoint deleted"):
        plan_deletion(control, "configuration", configuration)
    carry_out(control, plan_deletion(control, "endpoint", "deleted", versions=True))
    assert find(control, Endpoint, "deleted") is None
    assert find(control, Configuration, configuration) is None


def test_a_job_is_known_by_its_name_and_input(control: Control) -> None:
    job = TrainingJob(
        name="job-of-the-suite",
        kind="fraud",
        image="account/sagemaker-xgboost:3.0-5",
        hyperparameters={"num_round": "10"},
        channels={"train": "s3://bucket/train/"},
        output="s3://bucket/jobs/",
        data="0123456789abcdef",
        feature_hash=HASH,
        place=PLACE,
        machine=Machine("ml.m5.xlarge", 30, 3_600),
    )
    assert start_job(control, job)
    assert not start_job(control, job)
    clock = FakeClock()
    done = await_job(control, job.name, Watch(clock, clock.sleep, lambda _: None))
    assert done.training_job_status == "Completed"
    assert done.model_artifacts.uri == "s3://bucket/jobs/job-of-the-suite/output/model.tar.gz"
    assert read_tags(control, done.training_job_arn)[INPUT] == job.input


def test_what_was_deleted_is_refused_as_absent(control: Control) -> None:
    calls = plan_deployment(control, deployment("absent")).calls
    with pytest.raises(Refused) as refusal:
        control.tell(calls[-1])
    assert refusal.value.absent


def test_a_file_is_put_by_its_path(control: Control, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"1,2\n")
    if isinstance(control, ControlPlane):
        control.tell(Call("s3", "create_bucket", {"Bucket": "suite"}))
    control.tell(
        Call("s3", "put_object", {"Bucket": "suite", "Key": "k", "Body": tmp_path / "rows.csv"})
    )
