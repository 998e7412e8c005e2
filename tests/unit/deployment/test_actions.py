"""How the actions end: exit codes, and what people are told."""

import argparse

import pytest

from consumer.deployment.answers import Job
from consumer.deployment.endpoints import Deployment, Image, Place, Servable, plan_deployment
from consumer.model_actions.deploy import change
from consumer.model_actions.list_endpoints import show_age
from consumer.model_actions.train_job import tell_failure
from tests.fakes.control import FakeControl

NAME = "fraudstream-fraud"
ARGUMENTS = argparse.Namespace(no_wait=False, poll=0, timeout=60)


def deployment(model: str) -> Deployment:
    image = Image("account/sagemaker-xgboost:3.0-5", f"s3://models/{model}/model.tar.gz", {})
    place = Place("arn:aws:iam::123456789012:role/fraudstream")
    return Deployment(NAME, Servable("fraud", model, "a" * 64, (image,)), place, "ml.m5.large")


def test_a_deployment_that_comes_up_ends_with_nought(capsys: pytest.CaptureFixture[str]) -> None:
    control = FakeControl()
    plan = plan_deployment(control, deployment("0123456789ab"))
    assert change(control, plan, ARGUMENTS) == 0
    assert f"{NAME} is in service and runs {plan.configuration}" in capsys.readouterr().err


def test_an_update_that_was_taken_back_ends_with_one_and_says_what_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    control = FakeControl()
    first = plan_deployment(control, deployment("0123456789ab"))
    change(control, first, ARGUMENTS)
    control.states = ["RollingBack", "RolledBack"]
    second = plan_deployment(control, deployment("ba9876543210"))
    assert change(control, second, ARGUMENTS) == 1
    told = capsys.readouterr().err
    assert f"{NAME} is InService and runs {first.configuration}" in told
    assert "SageMaker took the update back: the instances did not answer pings" in told


def test_nobody_is_kept_waiting_who_does_not_want_to(capsys: pytest.CaptureFixture[str]) -> None:
    control = FakeControl()
    control.states = ["Creating"] * 5
    plan = plan_deployment(control, deployment("0123456789ab"))
    arguments = argparse.Namespace(no_wait=True, poll=0, timeout=60)
    assert change(control, plan, arguments) == 0
    assert "Creating" not in capsys.readouterr().err


def test_a_failed_job_is_told_with_its_reason_and_the_end_of_its_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    control = FakeControl()
    control.log = ["Single node training.", "ValueError: label must be in [0,1]"]
    job = Job(
        training_job_name="fraud-one",
        training_job_arn="arn:aws:sagemaker:us-east-1:123456789012:training-job/fraud-one",
        training_job_status="Failed",
        failure_reason="ClientError: see the log",
    )
    assert tell_failure(control, job) == 1
    assert capsys.readouterr().err.splitlines() == [
        "fraud-one Failed: ClientError: see the log",
        "  Single node training.",
        "  ValueError: label must be in [0,1]",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(240, "4 min"), (12_600, "3.5 h"), (1_036_800, "12 d")]
)
def test_ages_are_told_in_the_unit_that_fits(seconds: float, shown: str) -> None:
    assert show_age(seconds) == shown
