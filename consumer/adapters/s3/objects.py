"""One object that is read and replaced whole."""

from typing import TYPE_CHECKING

from consumer.adapters.s3.calls import read_object, translated
from consumer.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class S3Object:
    """The object *key* of *bucket*."""

    def __init__(self, client: "S3Client", bucket: str, key: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key

    @property
    def name(self) -> str:
        """Its address."""
        return f"s3://{self._bucket}/{self._key}"

    def read(self) -> bytes | None:
        """Return the content, None where there is no object. Raises Unavailable."""
        try:
            return read_object(self._client, self._bucket, self._key)
        except Unavailable as error:
            if error.message.endswith("NoSuchKey"):
                return None
            raise

    def write(self, data: bytes) -> None:
        """Replace the content; S3 shows the old one or the new one. Raises Unavailable."""
        with translated("put_object", self._bucket, self._key):
            self._client.put_object(Bucket=self._bucket, Key=self._key, Body=data)
