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


@contextmanager
def translated(operation: str) -> Iterator[None]:
    """Turn the errors of the SDK into Unavailable with the operation and the error's code."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        raise Unavailable("s3", f"{operation}: {code}") from error
    except BotoCoreError as error:
        raise Unavailable("s3", f"{operation}: {type(error).__name__}") from error


def list_keys(client: "S3Client", bucket: str, prefix: str) -> Iterator[str]:
    """Yield the keys below *prefix* in order. Raises Unavailable."""
    with translated("list_objects_v2"):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from (entry["Key"] for entry in page.get("Contents", ()))


def read_object(client: "S3Client", bucket: str, key: str) -> bytes:
    """Return the content of the object *key*. Raises Unavailable."""
    with translated("get_object"):
        return client.get_object(Bucket=bucket, Key=key)["Body"].read()


def fetch(client: "S3Client", source: str, target: Path) -> Path:
    """
    A local file with what *source* names: itself, or *target* with the ``s3://`` object.

    Raises Unavailable.
    """
    if not source.startswith("s3://"):
        return Path(source)
    location = urlsplit(source)
    with translated("get_object"):
        body = client.get_object(Bucket=location.netloc, Key=location.path.lstrip("/"))["Body"]
        with target.open("wb") as file:
            for piece in body.iter_chunks():
                file.write(piece)
    return target
