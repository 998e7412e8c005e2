"""
What the stack holds when it is ready: a stream, buckets, a delivery stream.

Everything goes through ``localstack-client`` sessions, so the same code
prepares the embedded AWS and a LocalStack.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from boto3.exceptions import S3UploadFailedError
from botocore.exceptions import BotoCoreError, ClientError
from localstack_client.session import Session

from consumer import bands
from consumer.errors import Unavailable
from consumer.feature_hash import TAG
from consumer.training.reference import read_reference

if TYPE_CHECKING:
    from mypy_boto3_firehose import FirehoseClient
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient

REGION = "us-east-1"
ACCOUNT = "123456789012"
# Emulators take any key; both sides of a test must only agree on one.
ACCESS_KEY = "test"
HISTORY_BUCKET = "fraudstream-history"
_EXISTS = frozenset({"ResourceInUseException", "BucketAlreadyOwnedByYou", "BucketAlreadyExists"})
_READY_TIMEOUT_S = 60.0
_POLL_S = 0.2
_AWS = "aws"


@dataclass(frozen=True, slots=True)
class Resources:
    """Names and sizes of what to create; the names are those of the settings' defaults."""

    stream: str = "transactions"
    shards: int = 2
    delivery_stream: str = "fraudstream-decisions"
    delivery_bucket: str = "fraudstream-decisions"
    delivery_prefix: str = "decisions/"
    buckets: tuple[str, ...] = ("fraudstream-dead-letters", HISTORY_BUCKET)


def session(url: str | None = None) -> Session:
    """
    Return a session whose clients call *url*.

    Without *url* it is ``LOCALSTACK_HOST`` (``localhost:4566`` by default) or
    ``AWS_ENDPOINT_URL``, as localstack-client reads them.
    """
    host = urlsplit(url).netloc if url is not None else None
    # localstack-client lets AWS_ENDPOINT_URL win over the host that it is given, and the
    # parts of this stack must not be looked for on another emulator.
    ambient = os.environ.pop("AWS_ENDPOINT_URL", None) if url is not None else None
    try:
        return Session(
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=ACCESS_KEY,
            region_name=REGION,
            localstack_host=host,
        )
    finally:
        if ambient is not None:
            os.environ["AWS_ENDPOINT_URL"] = ambient


def prepare(aws: Session, resources: Resources) -> None:
    """
    Create what *resources* names and wait until it is active; what exists stays.

    Raises Unavailable.
    """
    try:
        _create_buckets(aws.client("s3"), resources)
        _create_stream(aws.client("kinesis"), resources)
        _create_delivery_stream(aws.client("firehose"), resources)
    except (BotoCoreError, ClientError) as error:
        raise Unavailable(_AWS, str(error)) from error


def deploy(aws: Session, models: Mapping[str, Path], feature_hash: str) -> dict[str, str]:
    """
    Register *models*, endpoint name → archive, as SageMaker would hold them.

    The archives go to S3 and the configurations, one a model, are tagged with
    *feature_hash*, the list of features they were trained on, and with the bands that
    the archive carries, if it does. An endpoint that exists is replaced. Returns endpoint
    name → ``s3://`` of its archive. What serves the models is started apart. Raises
    Unavailable, and Misconfigured for an archive that cannot be read.
    """
    s3, sagemaker = aws.client("s3"), aws.client("sagemaker")
    urls = {}
    try:
        for name, archive in models.items():
            reference = read_reference(archive)
            version = f"{name}-{feature_hash[:12]}-{reference.model}"
            key = f"models/{name}/{version}/model.tar.gz"
            s3.upload_file(str(archive), HISTORY_BUCKET, key)
            urls[name] = f"s3://{HISTORY_BUCKET}/{key}"
            tags = {TAG: feature_hash}
            if reference.thresholds:
                tags[bands.TAG] = bands.render_tag(reference.bands())
            _create_endpoint(sagemaker, name, version, urls[name], tags)
    except (BotoCoreError, ClientError, S3UploadFailedError) as error:
        raise Unavailable(_AWS, str(error)) from error
    finally:
        s3.close()
        sagemaker.close()
    return urls


def _create_endpoint(
    sagemaker: "SageMakerClient", name: str, version: str, archive_url: str, tags: Mapping[str, str]
) -> None:
    sagemaker.create_model(
        ModelName=version,
        ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/sagemaker",
        PrimaryContainer={"Image": "embedded", "ModelDataUrl": archive_url},
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=version,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": version,
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
            }
        ],
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )
    # The emulator replaces an endpoint of that name and knows no UpdateEndpoint.
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=version)


def _create_buckets(s3: "S3Client", resources: Resources) -> None:
    for bucket in (resources.delivery_bucket, *resources.buckets):
        _create(partial(s3.create_bucket, Bucket=bucket))
    s3.close()


def _create_stream(kinesis: "KinesisClient", resources: Resources) -> None:
    name = resources.stream
    _create(lambda: kinesis.create_stream(StreamName=name, ShardCount=resources.shards))
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    kinesis.close()


def _create_delivery_stream(firehose: "FirehoseClient", resources: Resources) -> None:
    name = resources.delivery_stream
    _create(
        lambda: firehose.create_delivery_stream(
            DeliveryStreamName=name,
            ExtendedS3DestinationConfiguration={
                "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/firehose",
                "BucketARN": f"arn:aws:s3:::{resources.delivery_bucket}",
                "Prefix": resources.delivery_prefix,
            },
        )
    )
    deadline = time.monotonic() + _READY_TIMEOUT_S
    # boto3 has no waiter for this one.
    while time.monotonic() < deadline:
        description = firehose.describe_delivery_stream(DeliveryStreamName=name)
        if description["DeliveryStreamDescription"]["DeliveryStreamStatus"] == "ACTIVE":
            firehose.close()
            return
        time.sleep(_POLL_S)
    raise Unavailable(_AWS, f"delivery stream {name} was not active in {_READY_TIMEOUT_S:.0f} s")


def _create(call: Callable[[], object]) -> None:
    try:
        call()
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in _EXISTS:
            raise
