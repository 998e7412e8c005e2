"""
Bring a model to an endpoint, and back.

A model and a configuration are made of content and named by it, so that a deployment that
was interrupted is taken up by telling it again. An endpoint that is there is updated, never
deleted: SageMaker starts the new instances beside the old ones and moves the traffic when
they answer ("Blue/Green Deployments", SageMaker developer guide), so that no request is
lost. The tags that workers read are on the configuration, which changes in the same moment
as the model that they describe.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from consumer.bands import TAG as BANDS
from consumer.bands import ModelBands, render_tag
from consumer.deployment.answers import Configuration, Endpoint, Model, tags_of
from consumer.deployment.calls import Call, Control
from consumer.deployment.inventory import find, read_tags
from consumer.deployment.naming import ENDPOINT, KIND, MODEL, PREVIOUS, version_name
from consumer.deployment.scaling import (
    Scaling,
    build_deregister,
    build_scaling,
    is_registered,
    read_scaling,
)
from consumer.errors import Misconfigured, Problem
from consumer.feature_hash import TAG as FEATURE_HASH

VARIANT: Final = "AllTraffic"
SHADOW: Final = "Shadow"
IN_SERVICE: Final = "InService"

Change = Literal["create", "update", "nothing"]


@dataclass(frozen=True, slots=True)
class Image:
    """One container of a model: where its image and its archive are, and its environment."""

    image: str
    data_url: str
    environment: Mapping[str, str]

    def to_call(self) -> dict[str, object]:
        """The container as CreateModel takes it."""
        return {
            "Image": self.image,
            "ModelDataUrl": self.data_url,
            "Environment": dict(self.environment),
        }


@dataclass(frozen=True, slots=True)
class Servable:
    """
    A model that SageMaker can serve.

    ``model`` is the beginning of the SHA-256 of its archive; several ``images`` are a
    pipeline, each answering the next. ``bands`` are its thresholds where it carries some.
    """

    kind: Literal["fraud", "anomaly"]
    model: str
    feature_hash: str
    images: tuple[Image, ...]
    bands: ModelBands | None = None

    @property
    def tags(self) -> dict[str, str]:
        """What workers, and people, read of it."""
        known = {FEATURE_HASH: self.feature_hash, KIND: self.kind, MODEL: self.model}
        return known if self.bands is None else {**known, BANDS: render_tag(self.bands)}


@dataclass(frozen=True, slots=True)
class Capture:
    """Which share of requests and answers, in percent, is kept below *url*."""

    percent: int
    url: str


@dataclass(frozen=True, slots=True)
class Place:
    """What every model and instance of an account is given: role, network and key."""

    role_arn: str
    subnets: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    kms_key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Deployment:
    """
    What an endpoint shall be.

    ``shadow`` gets a copy of every request, and its answers only go to data capture.
    ``alarms`` are CloudWatch alarms on which SageMaker takes an update back.
    """

    endpoint: str
    servable: Servable
    place: Place
    instance_type: str
    instances: int = 1
    scaling: Scaling | None = None
    capture: Capture | None = None
    shadow: Servable | None = None
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What to tell SageMaker, in order: ``calls``, and once the endpoint is in service, ``after``.

    ``configuration`` is what the endpoint shall run, ``former`` what it runs now.
    """

    endpoint: str
    change: Change
    configuration: str
    former: str | None
    calls: tuple[Call, ...]
    after: tuple[Call, ...] = ()


def plan_deployment(control: Control, deployment: Deployment) -> Plan:
    """
    Compare *deployment* with what is there, and say what to tell. Changes nothing.

    Raises Misconfigured for what cannot be, or an endpoint in a state that takes no update.
    """
    check_shadow(deployment)
    name = deployment.endpoint
    present = find(control, Endpoint, name)
    if present is not None:
        check_updatable(present)
    calls = _plan_models(control, deployment)
    request = _build_configuration(deployment)
    configuration = str(request["EndpointConfigName"])
    former = None if present is None else present.endpoint_config_name
    scaled = present is not None and is_registered(control, name, VARIANT)
    after = _plan_scaling(deployment, scaled=scaled)
    if former == configuration:
        return Plan(name, "nothing", configuration, former, (), after)
    calls += _plan_configuration(control, request, former)
    if present is None:
        calls.append(_build_create(deployment, configuration))
        return Plan(name, "create", configuration, None, tuple(calls), after)
    if scaled and _instance_type(control, former) != deployment.instance_type:
        calls.append(build_deregister(name, VARIANT))
        after = () if deployment.scaling is None else after
    keep_count = scaled and deployment.scaling is not None
    calls.append(build_update(name, configuration, deployment.alarms, keep_count=keep_count))
    return Plan(name, "update", configuration, former, tuple(calls), after)


def plan_rollback(control: Control, name: str, to: str | None = None) -> Plan:
    """
    Plan to let the endpoint *name* run the configuration *to*, by default that before.

    Raises Misconfigured where there is no endpoint, none before, or it was deleted.
    """
    present = find(control, Endpoint, name)
    if present is None:
        raise _problem(name, "no such endpoint", "the name of an endpoint")
    check_updatable(present)
    running = find(control, Configuration, present.endpoint_config_name)
    known = {} if running is None else read_tags(control, running.endpoint_config_arn)
    target = to or known.get(PREVIOUS)
    if target is None:
        expected = f"a configuration with the tag {PREVIOUS}, or --to CONFIGURATION"
        raise _problem(name, f"{present.endpoint_config_name}, the first one", expected)
    found = find(control, Configuration, target)
    if found is None:
        raise _problem(name, f"no configuration {target}", "one that was not deleted")
    _check_models(control, found)
    former = present.endpoint_config_name
    if target == former:
        return Plan(name, "nothing", target, former, ())
    keep = is_registered(control, name, VARIANT)
    calls = [build_update(name, target, (), keep_count=keep)]
    after: tuple[Call, ...] = ()
    if keep and _instance_type(control, former) != _instance_type(control, target):
        scaling = read_scaling(control, name, VARIANT)
        assert scaling is not None
        calls.insert(0, build_deregister(name, VARIANT))
        after = build_scaling(name, VARIANT, scaling)
    return Plan(name, "update", target, former, tuple(calls), after)


def check_shadow(deployment: Deployment) -> None:
    """Refuse a shadow that could not understand the rows of the other. Raises Misconfigured."""
    shadow, main = deployment.shadow, deployment.servable
    if shadow is None:
        return
    if shadow.kind != main.kind:
        raise _problem("--shadow", f"a model of kind {shadow.kind}", main.kind)
    if shadow.feature_hash != main.feature_hash:
        found = f"features {shadow.feature_hash[:12]}…"
        expected = f"features {main.feature_hash[:12]}…: both models get the same rows"
        raise _problem("--shadow", found, expected)


def check_updatable(present: Endpoint) -> None:
    """Refuse an endpoint that takes no update now. Raises Misconfigured."""
    status = present.endpoint_status
    if status == IN_SERVICE:
        return
    expected = "InService; an endpoint that has failed can only be deleted and deployed anew"
    if status in ("Creating", "Updating", "SystemUpdating", "RollingBack"):
        expected = "InService; wait until what is under way has ended, and try again"
    reason = "" if present.failure_reason is None else f" ({present.failure_reason})"
    raise _problem(present.endpoint_name, f"status {status}{reason}", expected)


def build_update(
    name: str, configuration: str, alarms: tuple[str, ...], *, keep_count: bool
) -> Call:
    """
    Build UpdateEndpoint.

    An endpoint under autoscaling keeps the number of instances that it has grown to: the
    initial count of its configuration would meet a peak with too few.
    """
    parameters: dict[str, object] = {"EndpointName": name, "EndpointConfigName": configuration}
    if keep_count:
        parameters["RetainAllVariantProperties"] = True
        parameters["ExcludeRetainedVariantProperties"] = [
            {"VariantPropertyType": "DataCaptureConfig"}
        ]
    if alarms:
        parameters["DeploymentConfig"] = _build_guard(alarms)
    return Call("sagemaker", "update_endpoint", parameters)


def _build_guard(alarms: tuple[str, ...]) -> dict[str, object]:
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 300}
    return {
        "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing},
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": each} for each in alarms]},
    }


def _instance_type(control: Control, configuration: str | None) -> str | None:
    """
    The instance that *configuration* runs the main variant on.

    SageMaker refuses an update that changes it under autoscaling ("Update endpoints that
    use auto scaling"), so the variant has to be taken from there for the time of the update.
    """
    found = None if configuration is None else find(control, Configuration, configuration)
    if found is None:
        return None
    types = {each.variant_name: each.instance_type for each in found.production_variants}
    return types.get(VARIANT)


def _plan_models(control: Control, deployment: Deployment) -> list[Call]:
    calls = []
    for servable in (deployment.servable, deployment.shadow):
        if servable is None:
            continue
        request = _build_model(deployment, servable)
        if find(control, Model, str(request["ModelName"])) is None:
            calls.append(Call("sagemaker", "create_model", request))
    return calls


def _plan_configuration(
    control: Control, request: dict[str, object], former: str | None
) -> list[Call]:
    """Create the configuration, or let one that is there remember what ran before it now."""
    known = find(control, Configuration, str(request["EndpointConfigName"]))
    remembered = {} if former is None else {PREVIOUS: former}
    if known is None:
        tags = tags_of({**_read_back(request["Tags"]), **remembered})
        return [Call("sagemaker", "create_endpoint_config", {**request, "Tags": tags})]
    if not remembered:
        return []
    parameters = {"ResourceArn": known.endpoint_config_arn, "Tags": tags_of(remembered)}
    return [Call("sagemaker", "add_tags", parameters)]


def _read_back(tags: object) -> dict[str, str]:
    assert isinstance(tags, list)
    return {tag["Key"]: tag["Value"] for tag in tags}


def _build_model(deployment: Deployment, servable: Servable) -> dict[str, object]:
    place = deployment.place
    containers = [image.to_call() for image in servable.images]
    content: dict[str, object] = {"ExecutionRoleArn": place.role_arn}
    if len(containers) == 1:
        content["PrimaryContainer"] = containers[0]
    else:
        content["Containers"] = containers
    if place.subnets:
        content["VpcConfig"] = {
            "Subnets": list(place.subnets),
            "SecurityGroupIds": list(place.security_group_ids),
        }
    name = version_name(deployment.endpoint, servable.model, content)
    return {"ModelName": name, **content, "Tags": tags_of(servable.tags)}


def _build_configuration(deployment: Deployment) -> dict[str, object]:
    content: dict[str, object] = {
        "ProductionVariants": [_build_variant(deployment, deployment.servable, VARIANT)]
    }
    if deployment.shadow is not None:
        content["ShadowProductionVariants"] = [
            _build_variant(deployment, deployment.shadow, SHADOW)
        ]
    if deployment.capture is not None:
        content["DataCaptureConfig"] = _build_capture(deployment.capture)
    if deployment.place.kms_key_id is not None:
        content["KmsKeyId"] = deployment.place.kms_key_id
    tags = {**deployment.servable.tags, ENDPOINT: deployment.endpoint}
    name = version_name(deployment.endpoint, deployment.servable.model, [content, tags])
    return {"EndpointConfigName": name, **content, "Tags": tags_of(tags)}


def _build_variant(deployment: Deployment, servable: Servable, name: str) -> dict[str, object]:
    return {
        "VariantName": name,
        "ModelName": str(_build_model(deployment, servable)["ModelName"]),
        "InstanceType": deployment.instance_type,
        "InitialInstanceCount": deployment.instances,
        "InitialVariantWeight": 1.0,
    }


def _build_capture(capture: Capture) -> dict[str, object]:
    return {
        "EnableCapture": True,
        "InitialSamplingPercentage": capture.percent,
        "DestinationS3Uri": capture.url,
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        # Else rows would be stored in base64.
        "CaptureContentTypeHeader": {
            "CsvContentTypes": ["text/csv"],
            "JsonContentTypes": ["application/json"],
        },
    }


def _build_create(deployment: Deployment, configuration: str) -> Call:
    tags = {KIND: deployment.servable.kind}
    parameters = {
        "EndpointName": deployment.endpoint,
        "EndpointConfigName": configuration,
        "Tags": tags_of(tags),
    }
    return Call("sagemaker", "create_endpoint", parameters)


def _plan_scaling(deployment: Deployment, *, scaled: bool) -> tuple[Call, ...]:
    if deployment.scaling is not None:
        return build_scaling(deployment.endpoint, VARIANT, deployment.scaling)
    return (build_deregister(deployment.endpoint, VARIANT),) if scaled else ()


def _check_models(control: Control, configuration: Configuration) -> None:
    gone = [name for name in configuration.model_names if find(control, Model, name) is None]
    if gone:
        name = configuration.endpoint_config_name
        raise _problem(name, f"no model {', '.join(gone)}", "models that were not deleted")


def _problem(key: str, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem("SageMaker", key, found, expected)])
