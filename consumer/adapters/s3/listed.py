"""Objects of any size, listed with their versions and copied to files."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from consumer.adapters.s3.calls import translated
from consumer.errors import Unavailable
from consumer.replay.objects import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ATTEMPTS = 3
_PIECE = 1 << 20


class S3Listed:
    """The objects of one *bucket*. Implements ``Bucket``."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """List what begins with *prefix*, in order of keys. Raises Unavailable."""
        with translated("list_objects_v2", self._bucket, prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield StoredObject(entry["Key"], entry["Size"], entry["ETag"].strip('"'))

    def fetch(self, stored: StoredObject, target: Path) -> None:
        """
        Write *stored* to *target*.

        Hours of reading meet broken connections, so it is tried three times. Raises
        Unavailable, also when the object is no longer the version that was listed.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._copy(stored, target)
            except Unavailable:
                target.unlink(missing_ok=True)
                if attempt == _ATTEMPTS:
                    raise
            else:
                return

    def _copy(self, stored: StoredObject, target: Path) -> None:
        with translated("get_object", self._bucket, stored.key):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=stored.key, IfMatch=f'"{stored.version}"'
            )
            with target.open("wb") as file:
                for piece in answer["Body"].iter_chunks(_PIECE):
                    file.write(piece)
