"""What is read of SageMaker's answers; names are those of its API, in our spelling."""

from collections.abc import Mapping
from datetime import datetime

import msgspec


class Tag(msgspec.Struct, rename="pascal", frozen=True):
    """One tag of a resource."""

    key: str
    value: str


class Tags(msgspec.Struct, rename="pascal"):
    """A page of ListTags."""

    tags: list[Tag] = []


class Running(msgspec.Struct, rename="pascal"):
    """A variant of an endpoint as it runs."""

    variant_name: str
    current_instance_count: int | None = None
    desired_instance_count: int | None = None


class Endpoint(msgspec.Struct, rename="pascal"):
    """DescribeEndpoint."""

    endpoint_name: str
    endpoint_arn: str
    endpoint_config_name: str
    endpoint_status: str
    creation_time: datetime
    last_modified_time: datetime
    failure_reason: str | None = None
    production_variants: list[Running] = []
    shadow_production_variants: list[Running] = []


class Configured(msgspec.Struct, rename="pascal"):
    """A variant as a configuration describes it."""

    variant_name: str
    model_name: str
    instance_type: str | None = None
    initial_instance_count: int | None = None
    initial_variant_weight: float | None = None


class Capture(msgspec.Struct, rename="pascal"):
    """What is captured of requests and answers."""

    enable_capture: bool = False
    initial_sampling_percentage: int = 0
    destination_s3_uri: str = msgspec.field(default="", name="DestinationS3Uri")


class Configuration(msgspec.Struct, rename="pascal"):
    """DescribeEndpointConfig."""

    endpoint_config_name: str
    endpoint_config_arn: str
    creation_time: datetime
    production_variants: list[Configured] = []
    shadow_production_variants: list[Configured] = []
    data_capture_config: Capture | None = None

    @property
    def model_names(self) -> frozenset[str]:
        """The models of every variant."""
        variants = (*self.production_variants, *self.shadow_production_variants)
        return frozenset(each.model_name for each in variants)


class Container(msgspec.Struct, rename="pascal"):
    """One container of a model."""

    image: str = ""
    model_data_url: str = ""
    environment: dict[str, str] = {}


class Model(msgspec.Struct, rename="pascal"):
    """DescribeModel."""

    model_name: str
    model_arn: str
    creation_time: datetime
    primary_container: Container | None = None
    containers: list[Container] = []


class Artifacts(msgspec.Struct, frozen=True):
    """Where a training job left its model."""

    uri: str = msgspec.field(default="", name="S3ModelArtifacts")


class Measured(msgspec.Struct, rename="pascal"):
    """The last value of a metric that a job logged."""

    metric_name: str
    value: float


class Job(msgspec.Struct, rename="pascal"):
    """DescribeTrainingJob."""

    training_job_name: str
    training_job_arn: str
    training_job_status: str
    secondary_status: str = ""
    failure_reason: str | None = None
    creation_time: datetime | None = None
    hyper_parameters: dict[str, str] = {}
    model_artifacts: Artifacts = Artifacts()
    final_metric_data_list: list[Measured] = []
    billable_time_in_seconds: int | None = None


def tags_of(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Write *values* as tags are told to AWS."""
    return [{"Key": key, "Value": value} for key, value in sorted(values.items())]
