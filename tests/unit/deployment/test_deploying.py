"""Deployments: created, updated, taken back, rolled back, listed, deleted."""

from dataclasses import replace

import pytest

from consumer import bands
from consumer.bands import ModelBands
from consumer.deployment.calls import Call, carry_out
from consumer.deployment.catalogue import describe_endpoint, list_endpoints, plan_deletion
from consumer.deployment.endpoints import (
    Capture,
    Deployment,
    Image,
    Place,
    Plan,
    Servable,
    plan_deployment,
    plan_rollback,
)
from consumer.deployment.naming import PREVIOUS
from consumer.deployment.scaling import Scaling
from consumer.deployment.waiting import Outcome, Watch, await_endpoint
from consumer.errors import Misconfigured, Unavailable
from consumer.feature_hash import TAG
from tests.fakes.clock import FakeClock
from tests.fakes.control import FakeControl

ROLE = "arn:aws:iam::123456789012:role/fraudstream"
IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5"
HASH = "a" * 64
NAME = "fraudstream-fraud"


def servable(model: str = "0123456789ab", feature_hash: str = HASH) -> Servable:
    url = f"s3://models/{model}/model.tar.gz"
    thresholds = ModelBands({"fraud_review": 0.2, "fraud_decline": 0.9}, model)
    return Servable("fraud", model, feature_hash, (Image(IMAGE, url, {}),), thresholds)


def deployment(model: str = "0123456789ab") -> Deployment:
    return Deployment(NAME, servable(model), Place(ROLE), "ml.m5.large")


def watch(told: list[str] | None = None, limit_s: float = 3_600) -> Watch:
    clock = FakeClock()
    tell = (lambda _: None) if told is None else told.append
    return Watch(clock, clock.sleep, tell, limit_s=limit_s)


def deploy(control: FakeControl, wanted: Deployment) -> tuple[Plan, Outcome]:
    plan = plan_deployment(control, wanted)
    carry_out(control, plan.calls)
    outcome = await_endpoint(control, plan, watch())
    carry_out(control, plan.after)
    return plan, outcome


def running(control: FakeControl) -> str:
    name: str = control.endpoints[NAME]["EndpointConfigName"]
    return name


def test_a_new_endpoint_is_made_of_a_model_and_a_configuration_with_its_tags() -> None:
    control = FakeControl()
    plan, outcome = deploy(control, deployment())
    assert outcome == Outcome(done=True, configuration=plan.configuration, status="InService")
    assert control.told == ["create_model", "create_endpoint_config", "create_endpoint"]
    tags = control.tags[control.configurations[plan.configuration]["EndpointConfigArn"]]
    assert tags[TAG] == HASH
    read = bands.parse_tag("fraud", tags[bands.TAG])
    assert read == ModelBands({"fraud_review": 0.2, "fraud_decline": 0.9}, "0123456789ab")
    assert PREVIOUS not in tags


def test_planning_changes_nothing() -> None:
    control = FakeControl()
    plan_deployment(control, deployment())
    assert control.told == []


def test_the_same_deployment_told_again_tells_nothing() -> None:
    control = FakeControl()
    deploy(control, deployment())
    plan = plan_deployment(control, deployment())
    assert (plan.change, plan.calls) == ("nothing", ())


def test_a_deployment_that_was_interrupted_goes_on_where_it_stopped() -> None:
    control = FakeControl()
    calls = plan_deployment(control, deployment()).calls
    carry_out(control, calls[:1])
    assert [call.operation for call in plan_deployment(control, deployment()).calls] == [
        "create_endpoint_config",
        "create_endpoint",
    ]
    # Another process was faster: what it made is the same, for names carry a digest.
    plan = plan_deployment(control, deployment())
    carry_out(control, calls)
    assert await_endpoint(control, plan, watch()).done
    assert plan_deployment(control, deployment()).change == "nothing"


def test_an_endpoint_that_is_there_is_updated_and_never_deleted() -> None:
    control = FakeControl()
    first, _ = deploy(control, deployment("0123456789ab"))
    second, outcome = deploy(control, deployment("ba9876543210"))
    assert outcome.done
    assert (second.change, second.former) == ("update", first.configuration)
    assert running(control) == second.configuration != first.configuration
    assert "delete_endpoint" not in control.told
    tags = control.tags[control.configurations[second.configuration]["EndpointConfigArn"]]
    assert tags[PREVIOUS] == first.configuration


def test_states_are_told_once_as_they_come() -> None:
    control = FakeControl()
    control.states = ["Creating", "Creating", "InService"]
    plan = plan_deployment(control, deployment())
    carry_out(control, plan.calls)
    told: list[str] = []
    assert await_endpoint(control, plan, watch(told)).done
    assert [line.rpartition(": ")[2] for line in told] == ["Creating", "InService"]


def test_an_update_that_fails_is_reported_with_what_runs_then() -> None:
    control = FakeControl()
    first, _ = deploy(control, deployment("0123456789ab"))
    control.states = ["Updating", "RollingBack", "RolledBack"]
    _, outcome = deploy(control, deployment("ba9876543210"))
    assert not outcome.done
    assert (outcome.configuration, outcome.status) == (first.configuration, "InService")
    assert outcome.reason == ("SageMaker took the update back: the instances did not answer pings")


def test_an_endpoint_that_never_came_up_is_reported_with_its_reason() -> None:
    control = FakeControl()
    control.states = ["Failed"]
    _, outcome = deploy(control, deployment())
    assert (outcome.done, outcome.status) == (False, "Failed")
    assert outcome.reason == "the instances did not answer pings"
    with pytest.raises(Misconfigured, match="can only be deleted and deployed anew"):
        plan_deployment(control, deployment("ba9876543210"))


def test_an_endpoint_under_change_takes_no_update() -> None:
    control = FakeControl()
    control.states = ["Creating", "Creating"]
    plan = plan_deployment(control, deployment())
    carry_out(control, plan.calls)
    with pytest.raises(Misconfigured, match="status Creating, expected InService; wait"):
        plan_deployment(control, deployment("ba9876543210"))


def test_waiting_ends_at_its_limit_and_says_how_to_go_on() -> None:
    control = FakeControl()
    control.states = ["Creating"] * 100
    plan = plan_deployment(control, deployment())
    carry_out(control, plan.calls)
    with pytest.raises(Unavailable, match=r"has not come to rest after \d+ s; told again"):
        await_endpoint(control, plan, watch(limit_s=60))


def test_roll_back_goes_to_the_configuration_before() -> None:
    control = FakeControl()
    first, _ = deploy(control, deployment("0123456789ab"))
    second, _ = deploy(control, deployment("ba9876543210"))
    plan = plan_rollback(control, NAME)
    assert (plan.former, plan.configuration) == (second.configuration, first.configuration)
    carry_out(control, plan.calls)
    assert await_endpoint(control, plan, watch()).done
    assert running(control) == first.configuration
    with pytest.raises(Misconfigured, match="the first one"):
        plan_rollback(control, NAME)


def test_a_model_that_comes_back_remembers_what_ran_before_it_this_time() -> None:
    control = FakeControl()
    first, _ = deploy(control, deployment("0123456789ab"))
    second, _ = deploy(control, deployment("ba9876543210"))
    again, outcome = deploy(control, deployment("0123456789ab"))
    assert outcome.done
    assert again.configuration == first.configuration
    assert [call.operation for call in again.calls] == ["add_tags", "update_endpoint"]
    assert plan_rollback(control, NAME).configuration == second.configuration


def test_roll_back_to_what_was_deleted_is_refused() -> None:
    control = FakeControl()
    first, _ = deploy(control, deployment("0123456789ab"))
    deploy(control, deployment("ba9876543210"))
    model = control.configurations[first.configuration]["ProductionVariants"][0]["ModelName"]
    del control.models[model]
    with pytest.raises(Misconfigured, match=f"no model {model}"):
        plan_rollback(control, NAME)
    del control.configurations[first.configuration]
    with pytest.raises(Misconfigured, match=f"no configuration {first.configuration}"):
        plan_rollback(control, NAME)
    with pytest.raises(Misconfigured, match="no such endpoint"):
        plan_rollback(control, "another")


def test_autoscaling_is_set_once_the_endpoint_is_in_service() -> None:
    control = FakeControl()
    wanted = replace(deployment(), scaling=Scaling(2, 8, 3_000), instances=2)
    deploy(control, wanted)
    assert control.told[-2:] == ["register_scalable_target", "put_scaling_policy"]
    target = control.targets[f"endpoint/{NAME}/variant/AllTraffic"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 8)
    policy = target["policy"]["TargetTrackingScalingPolicyConfiguration"]
    assert policy["TargetValue"] == 3_000


def test_an_update_under_autoscaling_keeps_the_count_it_has_grown_to() -> None:
    control = FakeControl()
    deploy(control, replace(deployment(), scaling=Scaling(2, 8, 3_000)))
    plan, _ = deploy(control, replace(deployment("ba9876543210"), scaling=Scaling(2, 8, 3_000)))
    update = plan.calls[-1]
    assert update.parameters["RetainAllVariantProperties"] is True
    without, _ = deploy(control, deployment("0000000000aa"))
    assert "RetainAllVariantProperties" not in without.calls[-1].parameters
    assert not control.targets


def test_another_instance_type_is_taken_out_of_autoscaling_for_the_update() -> None:
    control = FakeControl()
    scaling = Scaling(2, 8, 3_000)
    first, _ = deploy(control, replace(deployment(), scaling=scaling))
    larger = replace(deployment("ba9876543210"), scaling=scaling, instance_type="ml.m5.xlarge")
    plan, outcome = deploy(control, larger)
    assert outcome.done
    assert [call.operation for call in plan.calls][-2:] == [
        "deregister_scalable_target",
        "update_endpoint",
    ]
    assert control.targets
    back = plan_rollback(control, NAME)
    carry_out(control, back.calls)
    assert await_endpoint(control, back, watch()).done
    carry_out(control, back.after)
    assert running(control) == first.configuration
    target = control.targets[f"endpoint/{NAME}/variant/AllTraffic"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 8)
    policy = target["policy"]["TargetTrackingScalingPolicyConfiguration"]
    assert (policy["TargetValue"], policy["ScaleInCooldown"]) == (3_000, 600)


def test_autoscaling_without_its_policy_stops_a_roll_back_that_could_not_set_it_again() -> None:
    control = FakeControl()
    scaling = Scaling(2, 8, 3_000)
    deploy(control, replace(deployment(), scaling=scaling))
    larger = replace(deployment("ba9876543210"), scaling=scaling, instance_type="ml.m5.xlarge")
    deploy(control, larger)
    del control.targets[f"endpoint/{NAME}/variant/AllTraffic"]["policy"]
    with pytest.raises(Misconfigured, match="found no policy, expected fraudstream-invocations"):
        plan_rollback(control, NAME)


def test_shadow_capture_and_alarms_become_part_of_the_calls() -> None:
    control = FakeControl()
    deploy(control, deployment("0000000000aa"))
    wanted = replace(
        deployment(),
        shadow=servable("ba9876543210"),
        capture=Capture(10, "s3://captured/fraud/"),
        alarms=("fraud-endpoint-5xx",),
    )
    plan, _ = deploy(control, wanted)
    configuration = control.configurations[plan.configuration]
    shadow = configuration["ShadowProductionVariants"][0]
    assert shadow["ModelName"].startswith(f"{NAME}-ba9876543210-")
    assert configuration["DataCaptureConfig"]["InitialSamplingPercentage"] == 10
    guard = plan.calls[-1].parameters["DeploymentConfig"]
    assert isinstance(guard, dict)
    assert guard["AutoRollbackConfiguration"] == {"Alarms": [{"AlarmName": "fraud-endpoint-5xx"}]}


def test_a_shadow_that_reads_other_rows_is_refused() -> None:
    wanted = replace(deployment(), shadow=servable("ba9876543210", "b" * 64))
    with pytest.raises(Misconfigured, match="both models get the same rows"):
        plan_deployment(FakeControl(), wanted)
    anomaly = replace(servable("ba9876543210"), kind="anomaly", bands=None)
    with pytest.raises(Misconfigured, match="a model of kind anomaly, expected fraud"):
        plan_deployment(FakeControl(), replace(deployment(), shadow=anomaly))


def test_a_long_name_still_makes_names_that_sagemaker_takes() -> None:
    control = FakeControl()
    wanted = replace(deployment(), endpoint="e" * 39 + "-" + "f" * 23)
    plan = plan_deployment(control, wanted)
    carry_out(control, plan.calls)
    assert plan.configuration.startswith("e" * 39 + "-0123456789ab-")


def test_a_pipeline_is_a_model_of_two_containers() -> None:
    front = Image(IMAGE, "s3://models/front.tar.gz", {"SAGEMAKER_PROGRAM": "inference.py"})
    own = Image(IMAGE, "s3://models/forest.tar.gz", {})
    model = Servable("anomaly", "0123456789ab", HASH, (front, own))
    control = FakeControl()
    deploy(control, replace(deployment(), servable=model))
    made = next(iter(control.models.values()))
    assert [each["ModelDataUrl"] for each in made["Containers"]] == [front.data_url, own.data_url]
    assert "PrimaryContainer" not in made


def test_the_list_shows_models_with_their_hash_and_leaves_other_endpoints_out() -> None:
    control = FakeControl()
    plan, _ = deploy(control, deployment())
    other = replace(deployment(), endpoint="other")
    carry_out(control, plan_deployment(control, other).calls)
    control.tags[control.endpoints["other"]["EndpointArn"]].clear()
    configuration = control.endpoints["other"]["EndpointConfigName"]
    control.tags[control.configurations[configuration]["EndpointConfigArn"]].clear()
    (row,) = list_endpoints(control)
    assert (row.name, row.status, row.kind, row.variant) == (
        NAME,
        "InService",
        "fraud",
        "AllTraffic",
    )
    assert (row.model, row.feature_hash) == ("0123456789ab", HASH)
    assert row.configuration == plan.configuration
    assert [each.name for each in list_endpoints(control, everything=True)] == [NAME, "other"]


def test_a_description_tells_models_tags_and_where_a_roll_back_leads() -> None:
    control = FakeControl()
    first, _ = deploy(control, deployment())
    deploy(control, deployment("ba9876543210"))
    described = describe_endpoint(control, NAME)
    assert described["roll_back_to"] == first.configuration
    assert described["tags"][TAG] == HASH
    assert described["models"][0]["PrimaryContainer"]["Image"] == IMAGE
    with pytest.raises(Misconfigured, match="no such endpoint"):
        describe_endpoint(control, "another")


def test_what_a_live_endpoint_uses_is_not_deleted() -> None:
    control = FakeControl()
    plan, _ = deploy(control, deployment())
    model = control.configurations[plan.configuration]["ProductionVariants"][0]["ModelName"]
    with pytest.raises(Misconfigured, match=f"in use by the endpoint {NAME}"):
        plan_deletion(control, "model", model)
    with pytest.raises(Misconfigured, match=f"in use by the endpoint {NAME}"):
        plan_deletion(control, "configuration", plan.configuration)


def test_what_no_endpoint_uses_any_more_can_be_deleted() -> None:
    control = FakeControl()
    first, _ = deploy(control, deployment())
    model = control.configurations[first.configuration]["ProductionVariants"][0]["ModelName"]
    deploy(control, deployment("ba9876543210"))
    carry_out(control, plan_deletion(control, "configuration", first.configuration))
    carry_out(control, plan_deletion(control, "model", model))
    assert model not in control.models
    assert first.configuration not in control.configurations


def test_an_endpoint_goes_with_its_versions_and_leaves_those_of_others() -> None:
    control = FakeControl()
    deploy(control, replace(deployment(), scaling=Scaling(1, 2, 100)))
    deploy(control, replace(deployment("ba9876543210"), scaling=Scaling(1, 2, 100)))
    deploy(control, replace(deployment(), endpoint=f"{NAME}-two"))
    carry_out(control, plan_deletion(control, "endpoint", NAME, versions=True))
    assert list(control.endpoints) == [f"{NAME}-two"]
    assert len(control.configurations) == 1
    assert len(control.models) == 1
    assert not control.targets


@pytest.mark.parametrize("kind", ["endpoint", "configuration", "model"])
def test_what_is_not_there_cannot_be_deleted(kind: str) -> None:
    with pytest.raises(Misconfigured, match="no such"):
        plan_deletion(FakeControl(), kind, "none")  # type: ignore[arg-type]


def test_a_call_prints_as_a_line_of_json() -> None:
    call = Call("sagemaker", "delete_model", {"ModelName": "old"})
    assert call.to_json() == (
        b'{"service":"sagemaker","operation":"delete_model","parameters":{"ModelName":"old"}}'
    )
