"""Whether what the settings name in AWS is there, asked once before the daemon starts."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from consumer.errors import Problem, Unavailable
from consumer.logs import get_logger
from consumer.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_firehose import FirehoseClient
    from mypy_boto3_kinesis import KinesisClient
    from mypy_boto3_s3 import S3Client

_MISSING = ("ResourceNotFoundException", "NoSuchBucket", "404")
_FORBIDDEN = ("AccessDeniedException", "AccessDenied", "403")
_S_AN_HOUR = 3_600


def check_stream(kinesis: "KinesisClient", settings: Settings) -> list[Problem]:
    """
    Say what is wrong with the stream: missing, or kept longer than documents live.

    A record older than the documents could be decided a second time, and
    differently. Raises Unavailable.
    """
    name = settings.kcl.stream_name
    problems: list[Problem] = []

    def ask() -> None:
        summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        retention_s = summary["RetentionPeriodHours"] * _S_AN_HOUR
        if retention_s > settings.redis.document_ttl_s:
            found = f"{settings.redis.document_ttl_s} s"
            expected = f"at least the {retention_s} s for which the stream {name} keeps records"
            problems.append(Problem("settings", "redis.document_ttl_s", found, expected))

    missing = Problem("settings", "kcl.stream_name", name, "the name of an existing Kinesis stream")
    return problems + _ask("kinesis", ask, missing)


def check_delivery_stream(firehose: "FirehoseClient", settings: Settings) -> list[Problem]:
    """Say whether the delivery stream is missing. Raises Unavailable."""
    name = settings.firehose.stream_name
    expected = "the name of an existing delivery stream, or firehose.enabled: false"
    missing = Problem("settings", "firehose.stream_name", name, expected)
    return _ask(
        "firehose", lambda: firehose.describe_delivery_stream(DeliveryStreamName=name), missing
    )


def check_buckets(s3: "S3Client", settings: Settings) -> list[Problem]:
    """Say whether the bucket of dead letters or that of spilled rows is missing. As above."""
    problems = check_bucket(s3, "dead_letters.bucket", settings.dead_letters.bucket)
    spill = settings.firehose.spill.bucket
    if settings.firehose.enabled and spill is not None:
        problems += check_bucket(s3, "firehose.spill.bucket", spill)
    return problems


def check_bucket(s3: "S3Client", key: str, name: str) -> list[Problem]:
    """Say whether the bucket that the setting *key* names is missing. Raises Unavailable."""
    missing = Problem("settings", key, name, "the name of an existing bucket")
    return _ask("s3", lambda: s3.head_bucket(Bucket=name), missing)


def _ask(service: str, question: Callable[[], object], missing: Problem) -> list[Problem]:
    """
    Ask, and return *missing* when there is no such thing.

    Describing needs a permission that working does not, so a refusal to say is
    logged and passed over.
    """
    try:
        question()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _MISSING:
            return [missing]
        if code not in _FORBIDDEN:
            raise Unavailable(service, str(error)) from error
        get_logger(__name__).warning("not checked", service=service, error=code)
    except BotoCoreError as error:
        raise Unavailable(service, str(error)) from error
    return []
