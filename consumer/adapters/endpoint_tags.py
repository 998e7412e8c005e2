"""
What SageMaker's control plane says of an endpoint: its configuration and its tags.

A tag on the endpoint's configuration wins over one on the endpoint: it changes
in the same moment as the model that it describes, while a tag of the endpoint
is set before or after that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from consumer.errors import Unavailable
from consumer.feature_hash import Deployment

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient


class EndpointTags:
    """The deployments of one account and region."""

    def __init__(self, client: "SageMakerClient") -> None:
        self._client = client

    def describe(self, name: str) -> Deployment:
        """The present deployment of the endpoint *name*. Raises Unavailable."""
        with _translated():
            description = self._client.describe_endpoint(EndpointName=name)
            configuration, arn = description["EndpointConfigName"], description["EndpointArn"]
        prefix = arn.rpartition(":")[0]
        # ARN format: "Actions, resources and condition keys for Amazon SageMaker".
        return Deployment(configuration, (f"{prefix}:endpoint-config/{configuration.lower()}", arn))

    def read_tag(self, deployment: Deployment, key: str) -> str | None:
        """The value of the tag *key*; None where there is none. Raises Unavailable."""
        with _translated():
            for resource in deployment.resources:
                pages = self._client.get_paginator("list_tags").paginate(ResourceArn=resource)
                for tag in (tag for page in pages for tag in page["Tags"]):
                    if tag["Key"] == key:
                        return tag["Value"]
        return None


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise Unavailable("sagemaker", f"{error.operation_name}: {code}") from error
    except BotoCoreError as error:
        raise Unavailable("sagemaker", type(error).__name__) from error
    except KeyError as error:
        # An emulator, or a proxy, that answers something else.
        raise Unavailable("sagemaker", f"an answer without {error}") from error
