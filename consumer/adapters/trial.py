"""
Makes the calls to AWS that the daemon will make, to see whether it may.

Being described is not being allowed: a role can read a stream's summary and still
lack ``kinesis:GetRecords``. What is written is removed again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from consumer.checkup import ExplainerFacts
from consumer.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_firehose import FirehoseClient
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient

_MISSING = ("ResourceNotFoundException", "NoSuchBucket")


def try_stream(kinesis: "KinesisClient", name: str) -> tuple[str, float | None]:
    """
    List the shards of the stream *name* and read one.

    Returns what to say of it and the service's clock (seconds since the epoch; None
    when it told none). Raises Unavailable.
    """
    with _translated("kinesis"):
        answer = kinesis.describe_stream_summary(StreamName=name)
        summary = answer["StreamDescriptionSummary"]
        shards = kinesis.list_shards(StreamName=name)["Shards"]
        iterator = kinesis.get_shard_iterator(
            StreamName=name, ShardId=shards[-1]["ShardId"], ShardIteratorType="LATEST"
        )
        kinesis.get_records(ShardIterator=iterator["ShardIterator"], Limit=1)
    text = (
        f"{name}: {summary['StreamStatus']}, {summary['OpenShardCount']} open shards, "
        f"keeps {summary['RetentionPeriodHours']} h"
    )
    return text, _clock_s(answer)


def try_table(dynamodb: "DynamoDBClient", name: str) -> str | None:
    """The status of the lease table *name*, read once; None where none is. Raises Unavailable."""
    try:
        with _translated("dynamodb"):
            status = dynamodb.describe_table(TableName=name)["Table"]["TableStatus"]
            dynamodb.scan(TableName=name, Limit=1)
    except Unavailable as error:
        if any(error.message.endswith(code) for code in _MISSING):
            return None
        raise
    return str(status)


def try_bucket(s3: "S3Client", bucket: str, key: str) -> bool:
    """
    Put an object and delete it; False where the deletion is refused and it stays.

    Raises Unavailable when it cannot be put.
    """
    with _translated("s3"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"fraudstream check\n")
    try:
        s3.delete_object(Bucket=bucket, Key=key)
    except (BotoCoreError, ClientError):
        return False
    return True


def try_delivery_stream(firehose: "FirehoseClient", name: str) -> str:
    """The status of the delivery stream *name*. Raises Unavailable."""
    with _translated("firehose"):
        answer = firehose.describe_delivery_stream(DeliveryStreamName=name)
    return str(answer["DeliveryStreamDescription"]["DeliveryStreamStatus"])


def try_explainer(sagemaker: "SageMakerClient", name: str) -> ExplainerFacts | None:
    """
    What explains at the endpoint *name*; None where its configuration has no explainer.

    Raises Unavailable, also where there is no such endpoint.
    """
    with _translated("sagemaker"):
        answer = sagemaker.describe_endpoint(EndpointName=name)
    explainer = answer.get("ExplainerConfig", {}).get("ClarifyExplainerConfig")
    if explainer is None:
        return None
    inference = explainer.get("InferenceConfig", {})
    return ExplainerFacts(
        status=answer["EndpointStatus"],
        columns=tuple(inference.get("FeatureHeaders", ())),
        max_rows=inference.get("MaxRecordCount"),
        logit=explainer["ShapConfig"].get("UseLogit", False),
    )


@contextmanager
def _translated(service: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise Unavailable(service, f"{error.operation_name}: {code}") from error
    except BotoCoreError as error:
        raise Unavailable(service, str(error)) from error


def _clock_s(answer: Mapping[str, Any]) -> float | None:
    """The Date header, in whole seconds."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return None if date is None else parsedate_to_datetime(date).timestamp()
