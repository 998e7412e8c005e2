"""What runs where, for people: endpoints with the models behind them, and what may be deleted."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import msgspec

from consumer import bands
from consumer.deployment.answers import Configuration, Endpoint, Model
from consumer.deployment.calls import Call, Control
from consumer.deployment.endpoints import VARIANT
from consumer.deployment.inventory import (
    configuration_names,
    endpoint_names,
    find,
    live_configurations,
    read_tags,
)
from consumer.deployment.naming import ENDPOINT, KIND, MODEL, PREVIOUS
from consumer.deployment.scaling import build_deregister, is_registered
from consumer.errors import Misconfigured, Problem
from consumer.feature_hash import TAG as FEATURE_HASH

Resource = Literal["endpoint", "configuration", "model"]


@dataclass(frozen=True, slots=True)
class Row:
    """One endpoint in a list; None for what is not known of it."""

    name: str
    status: str
    kind: str | None
    variant: str | None
    instances: int | None
    model: str | None
    feature_hash: str | None
    configuration: str
    changed: datetime
    shadow: str | None


def list_endpoints(control: Control, *, everything: bool = False) -> list[Row]:
    """
    List the endpoints that carry this package's tags, or *everything*; by name.

    Raises Unavailable.
    """
    rows = []
    for name in endpoint_names(control):
        found = find(control, Endpoint, name)
        if found is None:
            continue
        configuration = find(control, Configuration, found.endpoint_config_name)
        tags = _tags_of(control, found, configuration)
        if everything or FEATURE_HASH in tags:
            rows.append(_row(found, configuration, tags))
    return sorted(rows, key=lambda row: row.name)


def describe_endpoint(control: Control, name: str) -> dict[str, Any]:
    """
    Everything about one endpoint: what it runs, on what, with which models and tags.

    Raises Misconfigured where there is none, and Unavailable.
    """
    found = find(control, Endpoint, name)
    if found is None:
        raise _problem(name, "no such endpoint", "the name of an endpoint")
    configuration = find(control, Configuration, found.endpoint_config_name)
    tags = _tags_of(control, found, configuration)
    names = frozenset() if configuration is None else configuration.model_names
    models = [find(control, Model, each) for each in sorted(names)]
    return {
        "endpoint": msgspec.to_builtins(found),
        "configuration": msgspec.to_builtins(configuration),
        "models": [msgspec.to_builtins(each) for each in models if each is not None],
        "autoscaling": is_registered(control, name, VARIANT),
        "tags": tags,
        "bands": tags.get(bands.TAG),
        "roll_back_to": tags.get(PREVIOUS),
    }


def plan_deletion(
    control: Control, resource: Resource, name: str, *, versions: bool = False
) -> list[Call]:
    """
    Plan to delete what is called *name*; with *versions*, all that was deployed to an endpoint.

    Raises Misconfigured where there is no such thing, or a live endpoint uses it.
    """
    if resource == "endpoint":
        return _plan_endpoint(control, name, versions=versions)
    live = live_configurations(control)
    if resource == "configuration":
        return _plan_configuration(control, name, live)
    if find(control, Model, name) is None:
        raise _problem(name, "no such model", "the name of a model")
    for endpoint, configuration in live.items():
        running = find(control, Configuration, configuration)
        if running is not None and name in running.model_names:
            raise _problem(name, f"in use by the endpoint {endpoint}", "a model that is not live")
    return [Call("sagemaker", "delete_model", {"ModelName": name})]


def _plan_endpoint(control: Control, name: str, *, versions: bool) -> list[Call]:
    if find(control, Endpoint, name) is None:
        raise _problem(name, "no such endpoint", "the name of an endpoint")
    calls = [build_deregister(name, VARIANT)] if is_registered(control, name, VARIANT) else []
    calls.append(Call("sagemaker", "delete_endpoint", {"EndpointName": name}))
    return [*calls, *_plan_versions(control, name)] if versions else calls


def _plan_versions(control: Control, endpoint: str) -> list[Call]:
    """Delete what was made for *endpoint* and no other endpoint runs."""
    live = live_configurations(control)
    live.pop(endpoint, None)
    running = [find(control, Configuration, each) for each in live.values()]
    used = {model for each in running if each is not None for model in each.model_names}
    calls: list[Call] = []
    models: set[str] = set()
    for name in configuration_names(control, endpoint):
        found = find(control, Configuration, name)
        if found is None or name in live.values():
            continue
        if read_tags(control, found.endpoint_config_arn).get(ENDPOINT) == endpoint:
            parameters = {"EndpointConfigName": name}
            calls.append(Call("sagemaker", "delete_endpoint_config", parameters))
            models |= found.model_names
    return calls + [
        Call("sagemaker", "delete_model", {"ModelName": name})
        for name in sorted(models - used)
        if find(control, Model, name) is not None
    ]


def _plan_configuration(control: Control, name: str, live: dict[str, str]) -> list[Call]:
    if find(control, Configuration, name) is None:
        raise _problem(name, "no such configuration", "the name of an endpoint configuration")
    for endpoint, configuration in live.items():
        if configuration == name:
            found = f"in use by the endpoint {endpoint}"
            raise _problem(name, found, "a configuration that is not live")
    return [Call("sagemaker", "delete_endpoint_config", {"EndpointConfigName": name})]


def _tags_of(
    control: Control, found: Endpoint, configuration: Configuration | None
) -> dict[str, str]:
    """Those of the endpoint, under those of its configuration, as workers read them."""
    known = read_tags(control, found.endpoint_arn)
    if configuration is not None:
        known |= read_tags(control, configuration.endpoint_config_arn)
    return known


def _row(found: Endpoint, configuration: Configuration | None, tags: dict[str, str]) -> Row:
    variant = next(iter(found.production_variants), None)
    shadows = () if configuration is None else configuration.shadow_production_variants
    return Row(
        name=found.endpoint_name,
        status=found.endpoint_status,
        kind=tags.get(KIND),
        variant=None if variant is None else variant.variant_name,
        instances=None if variant is None else variant.current_instance_count,
        model=tags.get(MODEL),
        feature_hash=tags.get(FEATURE_HASH),
        configuration=found.endpoint_config_name,
        changed=found.last_modified_time,
        shadow=next((each.model_name for each in shadows), None),
    )


def _problem(key: str, found: str, expected: str) -> Misconfigured:
    return Misconfigured([Problem("SageMaker", key, found, expected)])
