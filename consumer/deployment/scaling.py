"""Let the number of instances follow the requests, by Application Auto Scaling."""

from dataclasses import dataclass
from typing import Final

import msgspec

from consumer.deployment.calls import Call, Control
from consumer.errors import Misconfigured, Problem

_NAMESPACE: Final = "sagemaker"
_DIMENSION: Final = "sagemaker:variant:DesiredInstanceCount"
_POLICY: Final = "fraudstream-invocations"
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


class _Tracking(msgspec.Struct, rename="pascal"):
    target_value: float
    scale_out_cooldown: int = 0
    scale_in_cooldown: int = 0


class _Policy(msgspec.Struct, rename="pascal"):
    policy_name: str
    tracking: _Tracking | None = msgspec.field(
        default=None, name="TargetTrackingScalingPolicyConfiguration"
    )


class _Policies(msgspec.Struct, rename="pascal"):
    scaling_policies: list[_Policy] = []


def is_registered(control: Control, endpoint: str, variant: str) -> bool:
    """Whether something scales that variant. Raises Unavailable."""
    return _find_target(control, endpoint, variant) is not None


def read_scaling(control: Control, endpoint: str, variant: str) -> Scaling | None:
    """
    How that variant is scaled; None where it is not.

    Raises Misconfigured where a policy that is not of this package scales it: it could not
    be set again. Raises Unavailable.
    """
    target = _find_target(control, endpoint, variant)
    if target is None:
        return None
    parameters = {
        "ServiceNamespace": _NAMESPACE,
        "ResourceId": _resource(endpoint, variant),
        "ScalableDimension": _DIMENSION,
    }
    call = Call("application-autoscaling", "describe_scaling_policies", parameters)
    policies = [each for page in control.ask_all(call, _Policies) for each in page.scaling_policies]
    own = [each.tracking for each in policies if each.policy_name == _POLICY]
    if len(policies) != 1 or not own or own[0] is None:
        found = ", ".join(each.policy_name for each in policies) or "no policy"
        expected = f"{_POLICY} alone; take the others away, or deploy with --scale"
        raise Misconfigured([Problem("SageMaker", f"autoscaling of {endpoint}", found, expected)])
    tracking = own[0]
    return Scaling(
        target.min_capacity,
        target.max_capacity,
        tracking.target_value,
        tracking.scale_out_cooldown,
        tracking.scale_in_cooldown,
    )


def _find_target(control: Control, endpoint: str, variant: str) -> _Target | None:
    parameters = {"ServiceNamespace": _NAMESPACE, "ResourceIds": [_resource(endpoint, variant)]}
    call = Call("application-autoscaling", "describe_scalable_targets", parameters)
    found = (each for page in control.ask_all(call, _Targets) for each in page.scalable_targets)
    return next(found, None)


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
                "PolicyName": _POLICY,
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
