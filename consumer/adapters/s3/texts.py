"""Small texts in S3 that operators change: rules and named lists, every change audited."""

import time
from typing import TYPE_CHECKING

from consumer.adapters.s3.calls import read_object, translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Texts:
    """
    Texts in the objects of *bucket* directly below *prefix* that end in *suffix*.

    A whole key as *prefix* with no suffix names one object. A version is the ETag. Audit lines
    are objects of their own under ``audit/``, since S3 cannot append.
    """

    def __init__(self, client: "S3Client", bucket: str, prefix: str, suffix: str = "") -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._suffix = suffix

    @property
    def place(self) -> str:
        """Where they are, for messages."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def versions(self) -> dict[str, str]:
        """Return name → ETag. Raises Unavailable."""
        found = {}
        with translated("list_objects_v2", self._bucket, self._prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    name = entry["Key"].removeprefix(self._prefix)
                    if self._holds(name):
                        found[name] = entry["ETag"]
        return found

    def _holds(self, name: str) -> bool:
        if not self._suffix:
            return not name
        return name.endswith(self._suffix) and "/" not in name

    def read(self, name: str) -> bytes:
        """Return the content of *name*. Raises Unavailable."""
        return read_object(self._client, self._bucket, self._prefix + name)

    def change(self, name: str, data: bytes, expected: str | None, audit: bytes) -> None:
        """
        Replace *name* by *data* if its ETag is *expected* (None: if it does not exist).

        The line *audit* is stored first: one too many is better than a change nobody answers
        for. Raises Unavailable.
        """
        with translated("put_object", self._bucket, self._prefix + name):
            self._client.put_object(
                Bucket=self._bucket,
                Key=f"{self._prefix}audit/{time.time_ns()}.json",
                Body=audit + b"\n",
                ContentType="application/json",
            )
            if expected is None:
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + name, Body=data, IfNoneMatch="*"
                )
            else:
                self._client.put_object(
                    Bucket=self._bucket, Key=self._prefix + name, Body=data, IfMatch=expected
                )
