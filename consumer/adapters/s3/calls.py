"""What every use of S3 shares: errors in our words, keys page by page, whole objects."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from consumer.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


# What to look at, by the code or the class of an error; it stands before that, which ends each
# message, because callers tell some of them apart.
_REMEDIES = {
    "NoSuchBucket": "no such bucket in this account and region",
    "NoSuchKey": "no such object",
    "PreconditionFailed": "it has changed since it was listed",
    "AccessDenied": "these credentials may not do it: look at the role's policy",
    "403": "these credentials may not do it: look at the role's policy",
    "PermanentRedirect": "the bucket is in another region than aws.region",
    "NoCredentialsError": "no AWS credentials: a role, AWS_PROFILE or AWS_ACCESS_KEY_ID",
    "PartialCredentialsError": "AWS_SECRET_ACCESS_KEY or its like is missing",
    "InvalidAccessKeyId": "the credentials are not of an account there",
    "ExpiredToken": "the credentials have expired",
    "EndpointConnectionError": "nothing answers there: aws.endpoint_url, the network",
    "ConnectTimeoutError": "nothing answers there: aws.endpoint_url, the network",
    "ReadTimeoutError": "no answer in time",
}


@contextmanager
def translated(operation: str, bucket: str, key: str = "") -> Iterator[None]:
    """
    Turn the errors of the SDK into Unavailable.

    The message names the operation, the place, what to look at and, at its end, the error's code.
    """
    place = f"s3://{bucket}/{key}".rstrip("/")
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise Unavailable("s3", _describe(operation, place, code)) from error
    except BotoCoreError as error:
        raise Unavailable("s3", _describe(operation, place, type(error).__name__)) from error


def _describe(operation: str, place: str, code: str) -> str:
    remedy = f" ({_REMEDIES[code]})" if code in _REMEDIES else ""
    return f"{operation} {place}{remedy}: {code}"


def list_keys(client: "S3Client", bucket: str, prefix: str) -> Iterator[str]:
    """Yield the keys below *prefix* in order. Raises Unavailable."""
    with translated("list_objects_v2", bucket, prefix):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from (entry["Key"] for entry in page.get("Contents", ()))


def read_object(client: "S3Client", bucket: str, key: str) -> bytes:
    """Return the content of the object *key*. Raises Unavailable."""
    with translated("get_object", bucket, key):
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def fetch(client: "S3Client", source: str, target: Path) -> Path:
    """
    A local file with what *source* names: itself, or *target* with the ``s3://`` object.

    Raises Unavailable.
    """
    if not source.startswith("s3://"):
        return Path(source)
    location = urlsplit(source)
    with translated("get_object", location.netloc, location.path.lstrip("/")):
        body = client.get_object(Bucket=location.netloc, Key=location.path.lstrip("/"))["Body"]
        with target.open("wb") as file:
            for piece in body.iter_chunks():
                file.write(piece)
    return target
