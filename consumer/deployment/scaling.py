"""Let the number of instances follow the requests, by Application Auto Scaling."""

from dataclasses import dataclass
from typing import Final

import msgspec

from consumer.deployment.calls import Call, Control

_NAMESPACE: Final = "sagemaker"
_DIMENSION: Final = "sagemaker:variant:DesiredInstanceCount"
_METRIC: Final = "SageMakerVariantInvocationsPerInstance"


@dataclass(frozen=True, slots=True)
class Scaling:
    """
    Between *least* and *most* instances, such that each gets *invocations* requests a minute.

    Growing waits *out_s* seconds between steps, shrinking *in_s*: a fleet that is too large
    costs money, one that is too small costs scores.
    """

    least: int
    most: int
    invocations: float
    out_s: int = 60
    in_s: int = 600


class _Target(msgspec.Struct, rename="pascal"):
    min_capacity: int
    max_capacity: int


class _Targets(msgspec.Struct, rename="pascal"):
    scalable_targets: list[_Target] = []


def is_registered(control: Control, endpoint: str, variant: str) -> bool:
    """Whether something scales that variant. Raises Unavailable."""
    parameters = {"ServiceNamespace": _NAMESPACE, "ResourceIds": [_resource(endpoint, variant)]}
    call = Call("application-autoscaling", "describe_scalable_targets", parameters)
    return any(page.scalable_targets for page in control.ask_all(call, _Targets))


def build_scaling(endpoint: str, variant: str, scaling: Scaling) -> tuple[Call, Call]:
    """Build the calls that register the variant and its policy; both replace what was there."""
    target = _target(endpoint, variant)
    policy = {
        "TargetValue": scaling.invocations,
        "PredefinedMetricSpecification": {"PredefinedMetricType": _METRIC},
        "ScaleOutCooldown": scaling.out_s,
        "ScaleInCooldown": scaling.in_s,
    }
    return (
        Call(
            "application-autoscaling",
            "register_scalable_target",
            {**target, "MinCapacity": scaling.least, "MaxCapacity": scaling.most},
        ),
        Call(
            "application-autoscaling",
            "put_scaling_policy",
            {
                "PolicyName": "fraudstream-invocations",
                **target,
                "PolicyType": "TargetTrackingScaling",
                "TargetTrackingScalingPolicyConfiguration": policy,
            },
        ),
    )


def build_deregister(endpoint: str, variant: str) -> Call:
    """Build the call that leaves the variant as many instances as it has, and its policies go."""
    return Call("application-autoscaling", "deregister_scalable_target", _target(endpoint, variant))


def _target(endpoint: str, variant: str) -> dict[str, object]:
    return {
        "ServiceNamespace": _NAMESPACE,
        "ResourceId": _resource(endpoint, variant),
        "ScalableDimension": _DIMENSION,
    }


def _resource(endpoint: str, variant: str) -> str:
    return f"endpoint/{endpoint}/variant/{variant}"
