"""
AWS's control plane in memory: what it keeps, and the states that it goes through.

Every call is checked against botocore's description of the service, patterns and limits
included, so that a request which AWS would refuse for its form fails here too.
"""

import re
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from botocore import xform_name
from botocore.model import ListShape, MapShape, OperationModel, Shape, StringShape, StructureShape
from botocore.session import Session
from botocore.validate import ParamValidator

from consumer.deployment.calls import Call, Refused

Answer = TypeVar("Answer")

_ARN = "arn:aws:sagemaker:us-east-1:123456789012"


@cache
def operations(service: str) -> dict[str, OperationModel]:
    """What a service can be asked, by boto3's names."""
    model = Session().get_service_model(service)
    return {xform_name(name): model.operation_model(name) for name in model.operation_names}


def problems_of(call: Call) -> list[str]:
    """What AWS would find wrong with the form of *call*."""
    shape = operations(call.service)[call.operation].input_shape
    assert shape is not None
    parameters = {
        key: value.read_bytes() if isinstance(value, Path) else value
        for key, value in call.parameters.items()
    }
    report = ParamValidator().validate(parameters, shape)
    return [report.generate_report()] if report.has_errors() else list(_look(parameters, shape))


def _look(value: Any, shape: Shape, place: str = "") -> Iterator[str]:
    if isinstance(shape, StructureShape):
        for key, each in value.items():
            yield from _look(each, shape.members[key], f"{place}.{key}")
    elif isinstance(shape, ListShape):
        if len(value) > shape.metadata.get("max", len(value)):
            yield f"{place}: {len(value)} entries"
        for each in value:
            yield from _look(each, shape.member, f"{place}[]")
    elif isinstance(shape, MapShape):
        for key, each in value.items():
            yield from _look(key, shape.key, f"{place}.{key}")
            yield from _look(each, shape.value, f"{place}.{key}")
    elif isinstance(shape, StringShape):
        yield from _look_at_text(value, shape, place)


def _look_at_text(value: str, shape: StringShape, place: str) -> Iterator[str]:
    if len(value) > shape.metadata.get("max", len(value)):
        yield f"{place}: {len(value)} characters"
    if shape.enum and value not in shape.enum:
        yield f"{place}: {value}, none of {shape.enum}"
    pattern = shape.metadata.get("pattern")
    # Java's classes and characters, such as \p{L} and \u0020, are not Python's.
    if pattern and not re.search(r"\\[pu]", pattern) and not re.fullmatch(pattern, value):
        yield f"{place}: {value}, not like {pattern}"


class FakeControl:
    """
    A Control that holds models, configurations, endpoints, jobs, objects and targets.

    ``states`` are what the next change of an endpoint goes through, one a look; a
    last one of ``RolledBack`` leaves the former configuration in service, with
    ``failure`` as the reason. ``job_states`` are those of the next job.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.models: dict[str, dict[str, Any]] = {}
        self.configurations: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, bytes] = {}
        self.targets: dict[str, dict[str, Any]] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.log: list[str] = []
        self.states: list[str] = ["InService"]
        self.job_states: list[str] = ["Completed"]
        self.failure = "the instances did not answer pings"
        self._coming: dict[str, deque[str]] = {}
        self._former: dict[str, str] = {}

    def ask(self, call: Call, shape: type[Answer]) -> Answer:
        return msgspec.convert(self._answer(call), shape)

    def ask_all(self, call: Call, shape: type[Answer]) -> Iterator[Answer]:
        yield self.ask(call, shape)

    def tell(self, call: Call) -> None:
        self._answer(call)

    @property
    def told(self) -> list[str]:
        """The operations that changed something, in order."""
        reading = ("describe_", "list_", "get_")
        return [each.operation for each in self.calls if not each.operation.startswith(reading)]

    def _answer(self, call: Call) -> Any:
        found = problems_of(call)
        assert not found, f"{call.operation}: {found}"
        self.calls.append(call)
        answer: Any = getattr(self, f"_{call.operation}")(dict(call.parameters))
        return answer

    def _create_model(self, given: dict[str, Any]) -> dict[str, Any]:
        return self._create(self.models, "model", "ModelName", given)

    def _create_endpoint_config(self, given: dict[str, Any]) -> dict[str, Any]:
        for variant in given["ProductionVariants"] + given.get("ShadowProductionVariants", []):
            self._find(self.models, "model", variant["ModelName"])
        return self._create(self.configurations, "endpoint-config", "EndpointConfigName", given)

    def _create_endpoint(self, given: dict[str, Any]) -> dict[str, Any]:
        self._find(self.configurations, "endpoint configuration", given["EndpointConfigName"])
        made = self._create(self.endpoints, "endpoint", "EndpointName", given)
        self._coming[given["EndpointName"]] = deque(["Creating", *self.states])
        return made

    def _update_endpoint(self, given: dict[str, Any]) -> dict[str, Any]:
        name, wanted = given["EndpointName"], given["EndpointConfigName"]
        self._find(self.configurations, "endpoint configuration", wanted)
        present = self._find(self.endpoints, "endpoint", name)
        if present["EndpointStatus"] != "InService":
            raise Refused("UpdateEndpoint", "ValidationException", "Cannot update in-progress")
        if f"endpoint/{name}/variant/AllTraffic" in self.targets:
            types = [
                self.configurations[each]["ProductionVariants"][0]["InstanceType"]
                for each in (present["EndpointConfigName"], wanted)
            ]
            if types[0] != types[1]:
                message = "a variant under autoscaling cannot change its instance type"
                raise Refused("UpdateEndpoint", "ValidationException", message)
        self._former[name] = present["EndpointConfigName"]
        present["EndpointConfigName"] = wanted
        self._coming[name] = deque(["Updating", *self.states])
        present["EndpointStatus"] = "Updating"
        return {"EndpointArn": present["EndpointArn"]}

    def _describe_endpoint(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["EndpointName"]
        present = self._find(self.endpoints, "endpoint", name)
        coming = self._coming.get(name)
        if coming:
            state = coming.popleft()
            if state == "RolledBack":
                present["EndpointConfigName"] = self._former[name]
            if state in ("RolledBack", "Failed"):
                present["FailureReason"] = self.failure
            present["EndpointStatus"] = "InService" if state == "RolledBack" else state
        configuration = self.configurations[present["EndpointConfigName"]]
        running = [
            {
                "VariantName": each["VariantName"],
                "CurrentInstanceCount": each["InitialInstanceCount"],
            }
            for each in configuration["ProductionVariants"]
        ]
        return {**present, "ProductionVariants": running}

    def _describe_endpoint_config(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["EndpointConfigName"]
        return self._find(self.configurations, "endpoint configuration", name)

    def _describe_model(self, given: dict[str, Any]) -> dict[str, Any]:
        return self._find(self.models, "model", given["ModelName"])

    def _delete_endpoint(self, given: dict[str, Any]) -> dict[str, Any]:
        self._find(self.endpoints, "endpoint", given["EndpointName"])
        del self.endpoints[given["EndpointName"]]
        return {}

    def _delete_endpoint_config(self, given: dict[str, Any]) -> dict[str, Any]:
        self._describe_endpoint_config(given)
        del self.configurations[given["EndpointConfigName"]]
        return {}

    def _delete_model(self, given: dict[str, Any]) -> dict[str, Any]:
        self._describe_model(given)
        del self.models[given["ModelName"]]
        return {}

    def _list_endpoints(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"Endpoints": list(self.endpoints.values())}

    def _list_endpoint_configs(self, given: dict[str, Any]) -> dict[str, Any]:
        wanted = given.get("NameContains", "")
        found = [each for name, each in self.configurations.items() if wanted in name]
        return {"EndpointConfigs": found}

    def _list_tags(self, given: dict[str, Any]) -> dict[str, Any]:
        known = self.tags.get(given["ResourceArn"], {})
        return {"Tags": [{"Key": key, "Value": value} for key, value in known.items()]}

    def _add_tags(self, given: dict[str, Any]) -> dict[str, Any]:
        known = self.tags.setdefault(given["ResourceArn"], {})
        known.update({tag["Key"]: tag["Value"] for tag in given["Tags"]})
        return {"Tags": []}

    def _create_training_job(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["TrainingJobName"]
        if name in self.jobs:
            message = f"Job name must be unique: {name}"
            raise Refused("CreateTrainingJob", "ResourceInUse", message)
        made = self._create(self.jobs, "training-job", "TrainingJobName", given)
        self._coming[name] = deque(self.job_states)
        output = f"{given['OutputDataConfig']['S3OutputPath']}{name}/output/model.tar.gz"
        self.jobs[name] |= {
            "TrainingJobStatus": "InProgress",
            "ModelArtifacts": {"S3ModelArtifacts": output},
        }
        return made

    def _describe_training_job(self, given: dict[str, Any]) -> dict[str, Any]:
        name = given["TrainingJobName"]
        if name not in self.jobs:
            message = "Requested resource not found."
            raise Refused("DescribeTrainingJob", "ValidationException", message)
        job = self.jobs[name]
        if self._coming[name]:
            job["TrainingJobStatus"] = self._coming[name].popleft()
            if job["TrainingJobStatus"] == "Failed":
                job["FailureReason"] = self.failure
        return job

    def _describe_log_streams(self, given: dict[str, Any]) -> dict[str, Any]:
        name = f"{given['logStreamNamePrefix']}algo-1-1"
        return {"logStreams": [{"logStreamName": name}] if self.log else []}

    def _get_log_events(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"events": [{"message": line} for line in self.log[-given["limit"] :]]}

    def _describe_scalable_targets(self, given: dict[str, Any]) -> dict[str, Any]:
        found = [self.targets[name] for name in given["ResourceIds"] if name in self.targets]
        return {"ScalableTargets": found}

    def _describe_scaling_policies(self, given: dict[str, Any]) -> dict[str, Any]:
        target = self.targets.get(given["ResourceId"], {})
        return {"ScalingPolicies": [target["policy"]] if "policy" in target else []}

    def _register_scalable_target(self, given: dict[str, Any]) -> dict[str, Any]:
        self.targets[given["ResourceId"]] = given
        return {}

    def _put_scaling_policy(self, given: dict[str, Any]) -> dict[str, Any]:
        self.targets[given["ResourceId"]]["policy"] = given
        return {}

    def _deregister_scalable_target(self, given: dict[str, Any]) -> dict[str, Any]:
        del self.targets[given["ResourceId"]]
        return {}

    def _put_object(self, given: dict[str, Any]) -> dict[str, Any]:
        self.objects[f"s3://{given['Bucket']}/{given['Key']}"] = given["Body"].read_bytes()
        return {}

    def _create(
        self, kept: dict[str, dict[str, Any]], kind: str, key: str, given: dict[str, Any]
    ) -> dict[str, Any]:
        name = given[key]
        if name in kept:
            message = f"Cannot create already existing {kind} '{name}'."
            raise Refused(f"Create {kind}", "ValidationException", message)
        arn_key = key.replace("Name", "Arn")
        arn, now = f"{_ARN}:{kind}/{name.lower()}", datetime.now(UTC)
        kept[name] = {**given, arn_key: arn, "CreationTime": now, "LastModifiedTime": now}
        self.tags[arn] = {tag["Key"]: tag["Value"] for tag in given.get("Tags", ())}
        return {arn_key: arn}

    def _find(self, kept: dict[str, dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
        if name not in kept:
            message = f"Could not find {kind} '{name}'."
            raise Refused("Describe", "ValidationException", message)
        return kept[name]
