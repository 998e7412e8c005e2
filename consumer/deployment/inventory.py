"""What is there: endpoints, configurations, models and jobs, as SageMaker describes them."""

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from consumer.deployment.answers import Configuration, Endpoint, Job, Model, Tags
from consumer.deployment.calls import Call, Control, Refused

Described = TypeVar("Described", Endpoint, Configuration, Model, Job)

_QUESTIONS: dict[type, tuple[str, str]] = {
    Endpoint: ("describe_endpoint", "EndpointName"),
    Configuration: ("describe_endpoint_config", "EndpointConfigName"),
    Model: ("describe_model", "ModelName"),
    Job: ("describe_training_job", "TrainingJobName"),
}


class _EndpointName(msgspec.Struct, rename="pascal"):
    endpoint_name: str


class _Endpoints(msgspec.Struct, rename="pascal"):
    endpoints: list[_EndpointName] = []


class _ConfigurationName(msgspec.Struct, rename="pascal"):
    endpoint_config_name: str


class _Configurations(msgspec.Struct, rename="pascal"):
    endpoint_configs: list[_ConfigurationName] = []


def find(control: Control, shape: type[Described], name: str) -> Described | None:
    """Describe what is called *name*; None where there is no such thing. Raises Unavailable."""
    operation, key = _QUESTIONS[shape]
    try:
        return control.ask(Call("sagemaker", operation, {key: name}), shape)
    except Refused as error:
        if error.absent:
            return None
        raise


def read_tags(control: Control, arn: str) -> dict[str, str]:
    """The tags of *arn*. Raises Unavailable."""
    pages = control.ask_all(Call("sagemaker", "list_tags", {"ResourceArn": arn}), Tags)
    return {tag.key: tag.value for page in pages for tag in page.tags}


def endpoint_names(control: Control) -> Iterator[str]:
    """Yield the names of every endpoint of the region. Raises Unavailable."""
    for page in control.ask_all(Call("sagemaker", "list_endpoints"), _Endpoints):
        yield from (each.endpoint_name for each in page.endpoints)


def configuration_names(control: Control, containing: str) -> Iterator[str]:
    """Yield the names of configurations that hold *containing*. Raises Unavailable."""
    call = Call("sagemaker", "list_endpoint_configs", {"NameContains": containing})
    for page in control.ask_all(call, _Configurations):
        yield from (each.endpoint_config_name for each in page.endpoint_configs)


def live_configurations(control: Control) -> dict[str, str]:
    """Endpoint name → the configuration it runs, of every endpoint. Raises Unavailable."""
    described = ((name, find(control, Endpoint, name)) for name in endpoint_names(control))
    return {name: each.endpoint_config_name for name, each in described if each is not None}
